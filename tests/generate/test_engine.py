import pytest
import torch

from quoth.generate.cache import make_caches
from quoth.generate.engine import Engine, text_of
from quoth.generate.sampling import Sampling
from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.text.tokenizer import Bytes, Characters

ALPHABET = "abcdefgh\n"


def model(name: str, **given: object) -> GPT:
    torch.manual_seed(0)
    shape = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context": 16, "init": "normal"} | given
    made = GPT(family(name, vocabulary=len(ALPHABET), **shape))
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return made.eval()


@pytest.mark.parametrize("name", ["lecture", "gpt2", "modern"])
@pytest.mark.parametrize("split", [1, 3, 7, 11])
def test_cached_equals_uncached_at_every_split(name: str, split: int) -> None:
    gpt = model(name).double()
    ids = torch.randint(len(ALPHABET), (2, 12), generator=torch.Generator().manual_seed(1))
    caches = make_caches(2, gpt.config, torch.float64, torch.device("cpu"))
    with torch.inference_mode():
        whole = gpt(ids)
        parts = torch.cat((gpt(ids[:, :split], caches, 0), gpt(ids[:, split:], caches, split)), dim=1)
    torch.testing.assert_close(parts, whole, atol=1e-12, rtol=1e-12)


def uncached(gpt: GPT, prompt: list[int], tokens: int) -> list[int]:
    """Greedy ids with the engine's window rule and no cache."""
    context, seen, window = gpt.config.context, list(prompt), prompt[-gpt.config.context :]
    for _ in range(tokens):
        if len(window) > context:
            window = seen[-(context // 2) :]
        with torch.inference_mode():
            token = int(gpt(torch.tensor([window]))[0, -1].argmax())
        seen.append(token)
        window = [*window, token]
    return seen[len(prompt) :]


@pytest.mark.parametrize("name", ["lecture", "modern"])
@pytest.mark.parametrize("length", [1, 10, 16, 40])
def test_greedy_ids_equal_an_uncached_loop_past_the_context(name: str, length: int) -> None:
    gpt = model(name)
    engine = Engine(gpt, Characters(ALPHABET))
    prompt = torch.randint(len(ALPHABET), (length,), generator=torch.Generator().manual_seed(2)).tolist()
    ids = [int(t) for t in engine.ids(prompt, 40, sampling=Sampling(temperature=0))]
    assert ids == uncached(gpt, prompt, 40)


def test_the_same_seed_writes_the_same_and_another_does_not() -> None:
    engine = Engine(model("modern"), Characters(ALPHABET))
    first, again, other = (engine.samples("abc", 30, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again != other


def test_a_stream_joined_is_the_sample() -> None:
    engine = Engine(model("modern"), Characters(ALPHABET))
    assert "".join(engine.stream("abc", 30, seed=5)) == engine.samples("abc", 30, seed=5)[0]


def test_continuations_of_one_prompt_differ() -> None:
    engine = Engine(model("modern"), Characters(ALPHABET))
    assert len(set(engine.samples("abc", 20, count=4))) == 4


def test_a_model_without_layers_reads_its_window() -> None:
    engine = Engine(model("modern", layers=0), Characters(ALPHABET))
    assert len(engine.samples("abc", 20)[0]) == 20


def test_pieces_hold_whole_characters() -> None:
    ids = "né→🎭".encode()
    pieces = list(text_of(iter(ids), Bytes()))
    assert pieces == ["n", "é", "→", "🎭"]


def test_broken_utf8_is_replaced_at_the_end() -> None:
    assert "".join(text_of(iter("é".encode()[:1]), Bytes())) == "�"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [(["lo"], "hel"), (["x"], "hello world"), (["world!"], "hello world"), (["o w", "l"], "he"), ([""], "hello world")],
)
def test_text_ends_before_a_stop_string_and_no_piece_leaks_it(stop: list[str], expected: str) -> None:
    pieces = list(text_of(iter(b"hello world"), Bytes(), stop))
    assert "".join(pieces) == expected
    assert all(pieces)


def test_without_a_prompt_it_begins_after_a_line_break() -> None:
    engine = Engine(model("modern"), Characters(ALPHABET))
    assert engine.prompt_ids("") == [ALPHABET.index("\n") if ALPHABET[0] == "\n" else sorted(ALPHABET).index("\n")]


def test_an_unknown_character_is_named() -> None:
    with pytest.raises(InputError, match="'Z' at position 2"):
        Engine(model("modern"), Characters(ALPHABET)).samples("abZ")


@pytest.mark.parametrize(("tokens", "count"), [(0, 1), (5, 0)])
def test_nothing_to_write_is_refused(tokens: int, count: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        Engine(model("modern"), Characters(ALPHABET)).samples("abc", tokens, count)
