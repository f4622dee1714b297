"""Every topic runs on a text, says something, and is short enough to be read aloud."""

import re
from importlib import import_module
from itertools import islice
from pathlib import Path

import pytest
import torch

import quoth.ladder
from quoth.ladder import (
    averaging,
    batches,
    bigram,
    communication,
    finetuning,
    heads,
    last_character,
    pig_latin,
    scaling,
    sizes,
    tokens,
    translation,
)
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Curves, Graph, Part, Say, Show, Table
from quoth.ladder.topics import NEEDED, TOPICS, WITHOUT_TEXT, topic
from quoth.model.gpt import GPT
from quoth.model.seq2seq import Seq2Seq
from quoth.system.errors import InputError

LADDER = Path(quoth.ladder.__file__).parent
# Topics and exercises; what checks those is no reading matter.
FILES = sorted([*LADDER.glob("*.py"), *LADDER.glob("exercises/*.py")])


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Small models are trained for a few steps, and kept for one test."""
    learn = Lesson.learn
    monkeypatch.setenv("QUOTH_CACHE", str(tmp_path))
    monkeypatch.setattr(
        Lesson,
        "learn",
        lambda lesson, model, name, training, steps, *rest: learn(lesson, model, name, islice(training, 5), 5, *rest),
    )


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained, timed or judged: what is shown of the text does not depend on it."""
    monkeypatch.setattr(Lesson, "learn", lambda lesson, model, *unused: model.eval())
    monkeypatch.setattr(Lesson, "loss", lambda *unused: 1.0)
    monkeypatch.setattr(translation, "exact", lambda *unused: 1.0)
    monkeypatch.setattr(finetuning, "judged", lambda *unused: ("0.00", "0.00", 1.0))
    monkeypatch.setattr(last_character, "EXAMPLES", 20)
    monkeypatch.setattr(bigram, "written", lambda *unused: "")
    monkeypatch.setattr(tokens, "SPECS", ("characters", "bytes"))
    for module in (averaging, heads):
        monkeypatch.setattr(module, "milliseconds", lambda *unused: 1.0)


def shown(name: str, text: str, lesson: Lesson) -> list[Part]:
    torch.manual_seed(lesson.seed)
    return list(topic(name)(Lesson(text, lesson.corpus, lesson.seed)))


@pytest.mark.parametrize("name", TOPICS)
@pytest.mark.usefixtures("brief", "one_thread")
def test_a_topic_explains_itself(name: str, lesson: Lesson) -> None:
    parts = list(topic(name)(lesson))
    assert sum(isinstance(part, Say) for part in parts) >= 1
    assert sum(isinstance(part, Show | Table | Curves | Graph) for part in parts) >= 1
    for part in parts:
        match part:
            case Show(_, tensor, rows, columns):
                assert not rows or len(rows) == tensor.reshape(-1, tensor.shape[-1]).shape[0]
                assert not columns or len(columns) == tensor.shape[-1]
            case Table(_, columns, rows):
                assert rows and {len(row) for row in rows} == {len(columns)}
            case Curves(_, _, _, x, lines):
                assert {len(line) for line in lines.values()} == {len(x)}


@pytest.mark.parametrize("name", TOPICS)
@pytest.mark.usefixtures("untrained", "one_thread")
def test_a_topic_is_shown_on_the_text(name: str, lesson: Lesson) -> None:
    same = str(shown(name, "the king is here", lesson)) == str(shown(name, "what so rich a man", lesson))
    assert same == (name in WITHOUT_TEXT)


LINE = "the king and queen of the sea and the night"
TEXTS = ["t", "th", "sea", "the sea", "the king", "the night", LINE[:22], LINE[:24], LINE[:25], LINE, 100 * f"{LINE} "]


@pytest.mark.parametrize("name", [name for name in TOPICS if name not in WITHOUT_TEXT])
@pytest.mark.usefixtures("untrained", "one_thread")
def test_a_topic_shows_all_of_a_text_or_says_what_it_leaves_out_or_refuses_it(name: str, lesson: Lesson) -> None:
    for text in TEXTS:
        if len(text) < NEEDED.get(name, 1):
            with pytest.raises(InputError, match=f"^The topic {name} needs a text of at least .*, but this one has"):
                shown(name, text, lesson)
            continue
        parts = shown(name, text, lesson)
        first = parts[0].text if isinstance(parts[0], Say) else ""
        if found := re.match(r"The text has ([\d,]+) tokens; shown are the first (\d+): (.*)\.$", first):
            every, most, cut = int(found[1].replace(",", "")), int(found[2]), found[3]
            assert every == len(text) > most and cut == repr(text[:most])
        elif name == "translation" and "different words" in first:
            continue
        else:
            most = len(text)
        # The last token that is shown makes a difference, so none before it is the last.
        other = shown(name, text[: most - 1] + ("y" if text[most - 1] != "y" else "k") + text[most:], lesson)
        assert str(parts[bool(found) :]) != str(other[bool(found) :]), text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("of any sort", None),
        ("unimaginativeness of", "This topic translates 1 of the text's 2 different words of the letters a to z"),
        (". .", "This topic translates 0 of the text's 0 different words of the letters a to z"),
        (" ".join(f"{a}{b}" for a in "abcde" for b in "xyz"), None),
        (
            " ".join(f"{a}{b}" for a in "abcdef" for b in "xyz"),
            "This topic translates 16 of the text's 18 different words",
        ),
    ],
)
@pytest.mark.usefixtures("untrained", "one_thread")
def test_a_translation_says_which_words_it_leaves_out(text: str, said: str | None, lesson: Lesson) -> None:
    first = shown("translation", text, lesson)[0]
    assert isinstance(first, Say) == (said is not None)
    if said is not None:
        assert isinstance(first, Say) and re.match(said, first.text)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_module_can_be_read_aloud(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 80


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_is_a_module_of_its_name(name: str) -> None:
    module = import_module(f"quoth.ladder.{name.replace('-', '_')}")
    assert module.__doc__ and module.explain.__doc__


def test_an_unknown_topic_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'attention'"):
        topic("atention")


def test_an_empty_text_is_refused(lesson: Lesson) -> None:
    with pytest.raises(InputError, match="The text is empty"):
        Lesson("", lesson.corpus)


def test_unknown_characters_are_named(lesson: Lesson) -> None:
    with pytest.raises(InputError, match="'é' at position 4"):
        Lesson("the é king", lesson.corpus)


def test_a_chunk_holds_as_many_examples_as_tokens_but_one(lesson: Lesson) -> None:
    text = lesson.text
    assert batches.examples(lesson) == [(text[:t], text[t]) for t in range(1, 24)]


def test_edges_are_the_weights_heaviest_first() -> None:
    weight_TS = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0], [0.5, 0.1, 0.4]])
    found = communication.edges(weight_TS, least=0.2)
    assert [(s, t) for s, t, _ in found] == [(0, 0), (1, 1), (0, 1), (0, 2), (2, 2)]


def test_scores_have_the_variance_of_the_head_size() -> None:
    for K in scaling.SIZES:
        assert scaling.scores(K, 1.0, 0).var().item() == pytest.approx(K, rel=0.15)
        assert scaling.scores(K, K**-0.5, 0).var().item() == pytest.approx(1, rel=0.15)
    assert scaling.entropy(torch.zeros(1, 8)) == pytest.approx(torch.tensor(8.0).log().item())


@pytest.mark.parametrize("row", sizes.GPT3, ids=lambda row: row[0])
def test_gpt3_has_the_papers_sizes(row: tuple) -> None:
    _, layers, width, heads, head_size, stated = row
    counted = sizes.count(sizes.config(layers, width, heads, head_size))
    assert counted == pytest.approx(float(stated[:-1]) * {"M": 1e6, "B": 1e9}[stated[-1]], rel=0.02)


def test_parameters_counted_are_those_of_the_model() -> None:
    with torch.device("meta"):
        for _, layers, width, heads, head_size, _ in sizes.GPT3[:3]:
            c = sizes.config(layers, width, heads, head_size)
            assert GPT(c).parameters_count == sizes.count(c)


@pytest.mark.parametrize(
    ("word", "said"),
    [("string", "ingstray"), ("apple", "appleway"), ("hm", "hmay"), ("you", "ouyay"), ("eye", "eyeway")],
)
def test_pig_latin(word: str, said: str) -> None:
    assert pig_latin.pig_latin(word) == said


def test_words_held_out_are_not_learned(lesson: Lesson) -> None:
    learned, held = pig_latin.words(lesson.read(lesson.train.tolist()), seed=1)
    assert not set(learned) & set(held) and len(held) == int(0.1 * (len(learned) + len(held)))
    with pytest.raises(InputError, match="at least 100 different words, but the text has 2"):
        pig_latin.words("the king", seed=1)


def test_a_pair_is_source_then_translation() -> None:
    batch = pig_latin.pair_batch(["sea", "apple"])
    assert batch.x_BT.shape == (2, pig_latin.SOURCE + pig_latin.TARGET) and batch.y_BT.shape == (2, pig_latin.TARGET)
    assert pig_latin.read(batch.y_BT[0]) == "easay" and pig_latin.read(batch.y_BT[1]) == "appleway"
    assert batch.count == len("easay") + len("appleway") + 2
    assert batch.x_BT[0, pig_latin.SOURCE] == pig_latin.BEGIN


def test_translation_through_the_engine_is_the_argmax_of_the_model() -> None:
    model: Seq2Seq = translation.translator(0)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    chosen = ["sea", "string"]
    made = translation.translate(model, chosen)
    for word, said in zip(chosen, made, strict=True):
        row = torch.cat([pig_latin.ids(word, pig_latin.SOURCE), torch.tensor([pig_latin.BEGIN])])
        for _ in range(pig_latin.TARGET):
            with torch.no_grad():
                row = torch.cat([row, model(row[None])[0, -1].argmax()[None]])
        assert pig_latin.read(row[pig_latin.SOURCE + 1 :]) == said
