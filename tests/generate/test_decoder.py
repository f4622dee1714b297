"""Decoders: rows in, the model's logits out, whatever else a step holds."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from generate.models import ALPHABET, FAMILIES, model
from model.adapters import KINDS, adapt
from torch.utils.checkpoint import checkpoint

from quoth.generate.decoder import Batch, Decoder, TorchDecoder, WindowDecoder
from quoth.generate.engine import Engine
from quoth.generate.make_decoder import make_decoder
from quoth.generate.native import build
from quoth.generate.native.decoder import NativeDecoder, can_decode
from quoth.model.gpt import GPT, Block
from quoth.system.errors import InputError

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not shutil.which("g++"), reason="the compiled decoder needs a C++ compiler"),
]

# Shapes that fill no vector, no panel and no group, next to ones that do.
SHAPES = {
    "even": {"width": 64, "heads": 4, "kv_heads": 2, "hidden": 96},
    "odd": {"width": 37, "heads": 3, "kv_heads": 1, "head_size": 10, "hidden": 51, "vocabulary": 67},
    "many heads": {"width": 32, "heads": 8, "kv_heads": 8, "head_size": 4},
    "wide heads": {"width": 48, "heads": 2, "kv_heads": 2, "head_size": 80, "vocabulary": 33},
}


def ids(n: int, vocabulary: int = len(ALPHABET), seed: int = 1) -> list[int]:
    return torch.randint(vocabulary, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


def rows(*given: tuple[int, int, list[int], int]) -> Batch:
    made = Batch()
    for slot, first, tokens, wanted in given:
        made.add(slot, first, tokens, wanted)
    return made


def logits(gpt: GPT, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return gpt.double()(torch.tensor([tokens]))[0].float()


@pytest.mark.parametrize("kind", [NativeDecoder, TorchDecoder, WindowDecoder])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_the_models(kind: type, name: str, shape: str) -> None:
    gpt = model(name, **SHAPES[shape], layers=3)
    tokens = ids(16, gpt.config.vocabulary)
    decoder: Decoder = kind(gpt, slots=2)
    parts = [decoder.step(rows((1, a, tokens[a:b], b - a))) for a, b in ((0, 1), (1, 7), (7, 8), (8, 16))]
    torch.testing.assert_close(torch.cat(parts), logits(gpt, tokens), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("kind", [NativeDecoder, TorchDecoder, WindowDecoder])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 15, 17, 30])
def test_a_slot_goes_on_from_what_another_has_read(kind: type, shape: str, count: int) -> None:
    gpt = model("modern", **SHAPES[shape], context=48)
    tokens = ids(40, gpt.config.vocabulary)
    decoder: Decoder = kind(gpt, slots=3)
    decoder.step(rows((2, 0, ids(40, gpt.config.vocabulary, 2), 1)))
    read = decoder.step(rows((0, 0, tokens[:count], 1), (0, count, tokens[count:], 40 - count)))[1:]
    decoder.copy(0, 2, count)
    copied = decoder.step(rows((2, count, tokens[count:], 40 - count)))
    torch.testing.assert_close(copied, read, atol=0 if decoder.exact else 1e-5, rtol=0)
    again = decoder.step(rows((0, 39, tokens[39:], 1)))  # The slot that was copied holds what it held.
    torch.testing.assert_close(again, read[-1:], atol=0 if decoder.exact else 1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "none"},
        {"positions": "none"},
        {"positions": "learned", "mlp": "gelu"},
        {"bias": True, "bias_qkv": True, "bias_head": True},
        {"qk_norm": False, "tied": True, "norm": "layernorm"},
        {"layers": 0},
        {"mlp": "relu", "bias": False},
    ],
)
def test_every_part_is_known_to_the_compiled_decoder(changes: dict[str, object]) -> None:
    gpt = model("modern", **changes)
    tokens = ids(16)
    decoder = NativeDecoder(gpt)
    torch.testing.assert_close(decoder.step(rows((0, 0, tokens, 16))), logits(gpt, tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_has_the_same_bits_in_whatever_company(weights: str, name: str) -> None:
    """Cut at every place, by one thread or two, beside other rows or none: bit by bit the same."""
    gpt = model(name, context=40, width=48, heads=3, kv_heads=3, hidden=100)
    tokens, rng = ids(40), random.Random(0)
    whole = NativeDecoder(gpt, threads=1, weights=weights).step(rows((0, 0, tokens, 40)))  # type: ignore[arg-type]
    for threads in (1, 2):
        decoder = NativeDecoder(gpt, slots=5, threads=threads, weights=weights)  # type: ignore[arg-type]
        for split in range(1, 40, 1 if threads == 1 else 7):
            others = [(s, 0, ids(rng.randint(1, 20), seed=split + s), rng.randint(0, 1)) for s in (0, 1, 3, 4)]
            for a, b in ((0, split), (split, 40)):
                rng.shuffle(others)
                mine, before = (2, a, tokens[a:b], b - a), others[: rng.randint(0, 4)]
                got = decoder.step(rows(*before, mine, *others[len(before) :]))
                start = sum(wanted for *_, wanted in before)
                assert torch.equal(got[start : start + b - a], whole[a:b]), (split, threads)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_an_adapter_is_heard_and_the_compiled_decoder_takes_what_is_in_weights(name: str, kind: str) -> None:
    gpt, tokens = model(name), ids(16)
    before = logits(gpt, tokens)
    adapt(gpt.float(), kind)
    assert can_decode(gpt) == (kind == "parametrized")
    decoder = make_decoder(gpt, 1, 32, compiled=True)
    assert isinstance(decoder, NativeDecoder if kind == "parametrized" else TorchDecoder)
    got, wanted = decoder.step(rows((0, 0, tokens, 16))), logits(gpt, tokens)
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(wanted, before, atol=0.1)


def test_a_model_with_another_embedding_is_decoded_by_torch() -> None:
    gpt, tokens = model("modern"), ids(16)
    gpt.embed = torch.nn.Sequential(gpt.embed)  # type: ignore[assignment]
    decoder = make_decoder(gpt, 1, 32, compiled=True)
    assert isinstance(decoder, TorchDecoder)
    got = decoder.step(rows((0, 0, tokens, 16)))
    torch.testing.assert_close(got, logits(gpt, tokens), atol=1e-4, rtol=1e-4)


def test_what_keeps_less_for_going_backward_is_known_to_the_compiled_decoder() -> None:
    gpt = model("modern")
    for block in gpt.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]
    assert can_decode(gpt)


def test_torch_computes_a_slot_alike_whoever_the_neighbours_are() -> None:
    gpt, tokens = model("modern"), ids(12)
    alone, among = TorchDecoder(gpt, slots=4), TorchDecoder(gpt, slots=4)
    for at, n in ((0, 5), (5, 1), (6, 1), (7, 1)):
        mine = (2, at, tokens[at : at + n], 1)
        others = [(s, at, ids(12, seed=s + 5)[at : at + n], 1) for s in (0, 3)]
        assert torch.equal(alone.step(rows(mine))[0], among.step(rows(others[0], mine, others[1]))[1])


def test_rows_that_nobody_wants_to_know_of() -> None:
    for kind in (NativeDecoder, TorchDecoder, WindowDecoder):
        assert kind(model("modern")).step(rows((0, 0, ids(4), 0))).shape == (0, len(ALPHABET))


@pytest.mark.parametrize(("weights", "bound"), [("bfloat16", 2e-2), ("int8", 3e-2)])
def test_smaller_weights_are_near(weights: str, bound: float) -> None:
    gpt = model("modern", width=128, heads=2, kv_heads=2, context=64)
    tokens = ids(64)
    got = NativeDecoder(gpt, weights=weights).step(rows((0, 0, tokens, 64)))  # type: ignore[arg-type]
    expected = logits(gpt, tokens)
    assert (got - expected).norm() / expected.norm() < bound
    assert not torch.equal(got, expected)


def test_bfloat16_weights_are_rounded_as_torch_does() -> None:
    gpt = model("modern")
    got = NativeDecoder(gpt, weights="bfloat16").step(rows((0, 0, ids(16), 16)))
    for p in (p for module in gpt.modules() if isinstance(module, torch.nn.Linear) for p in module.parameters()):
        p.data = p.data.bfloat16().float()
    torch.testing.assert_close(got, logits(gpt, ids(16)), atol=1e-4, rtol=1e-4)


def test_what_the_compiled_decoder_is_for() -> None:
    class Other(Block):
        pass

    gpt = model("modern")
    assert can_decode(gpt)
    assert not can_decode(model("modern").double())
    assert not can_decode(GPT(gpt.config, block=Other))


def test_without_a_compiler_torch_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    build.library.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert isinstance(make_decoder(model("modern"), 1, 8, compiled=True), TorchDecoder)
    with pytest.raises(InputError, match=r"int8 need the compiled decoder, but there is no C\+\+ compiler"):
        make_decoder(model("modern"), 1, 8, weights="int8", compiled=True)
    build.library.cache_clear()


@pytest.mark.parametrize("kind", [NativeDecoder, TorchDecoder, WindowDecoder])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_shorter_window_than_the_models_says_the_same(kind: type, name: str) -> None:
    gpt = model(name, context=64)
    tokens = ids(12)
    decoder: Decoder = kind(gpt, slots=2, context=12)
    assert decoder.keep <= 12
    torch.testing.assert_close(decoder.step(rows((1, 0, tokens, 12))), logits(gpt, tokens), atol=2e-4, rtol=2e-4)
    with pytest.raises(InputError, match="has a context of 64 tokens, so windows cannot have 65"):
        kind(gpt, context=65)


def test_a_shorter_window_takes_less_memory() -> None:
    gpt = model("modern", context=4096)
    for compiled in (True, False):
        short, whole = (Engine.memory_bytes(gpt, 8, compiled=compiled, context=context) for context in (64, 0))
        assert short < whole / 5


@pytest.mark.parametrize("kind", [NativeDecoder, TorchDecoder, WindowDecoder])
def test_a_step_without_rows_answers_nothing(kind: type) -> None:
    decoder: Decoder = kind(model("modern"))
    assert decoder.step(Batch()).shape == (0, len(ALPHABET))
    assert decoder.draw(torch.empty(0, len(ALPHABET)), [], [], []) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (rows((0, 0, [99], 1)), "the token 99 is not below 9"),
        (rows((0, 0, [-1], 1)), "the token -1 "),
        (rows((2, 0, [1], 1)), "the slot 2 is not below 2"),
        (rows((0, 16, [1], 1)), "the position 16 is not below 16"),
        (rows((0, 0, [1] * 9, 1)), "the number of rows 9 is not below 9"),
    ],
)
def test_rows_that_cannot_be_are_refused_by_the_compiled_decoder(given: Batch, said: str) -> None:
    decoder = NativeDecoder(model("modern"), slots=2, rows=8)
    before = decoder.step(rows((0, 0, [1, 2], 1)))
    with pytest.raises(InputError, match=said):
        decoder.step(given)
    assert torch.equal(decoder.step(rows((0, 0, [1, 2], 1))), before)


LIMITED = """
import resource, sys
from generate.models import model
from generate.test_decoder import rows
from quoth.generate.native.decoder import NativeDecoder
from quoth.system.errors import InputError
import torch
decoder = NativeDecoder(model("modern"), threads=1)
before = decoder.step(rows((0, 0, [1, 2], 1)))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
for attempt in (lambda: decoder._call("threads", 2000), lambda: NativeDecoder(model("modern"), threads=2000)):
    try:
        attempt()
        sys.exit("it was not refused")
    except InputError as error:
        print(error)
assert torch.equal(decoder.step(rows((0, 0, [1, 2], 1))), before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's addresses")
def test_threads_that_cannot_be_had_are_refused_and_the_others_go_on() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("The compiled decoder failed: ")
    assert second.startswith("The decoder for 1 windows of 16 tokens and 2000 threads cannot be had here: ")


@pytest.mark.parametrize("kind", [NativeDecoder, TorchDecoder])
@pytest.mark.parametrize("context", [2**31 - 1, 2**31 - 16, 2**40])
def test_a_damaged_shape_is_refused_before_memory_is_taken(kind: type, context: int) -> None:
    gpt = model("modern", positions="none", context=16)
    gpt.config = replace(gpt.config, context=context)
    with pytest.raises(InputError, match=r"windows of [\d,]+ tokens need [\d,.]+ .B of memory, but .* are available"):
        kind(gpt, slots=64)


@pytest.mark.parametrize("name", FAMILIES)
def test_memory_is_told_before_it_is_taken(name: str) -> None:
    """The cache is most of it, and grows with slots, context and layers alike."""
    c = model(name).config
    for decoder in (NativeDecoder, TorchDecoder):
        one, two = (decoder.memory_bytes(replace(c, context=16 * 2**20), slots, 8) for slots in (1, 2))
        cache = 2 * 4 * c.layers * c.kv_heads * c.head_size * 16 * 2**20
        assert cache <= two - one <= 2.1 * cache
    torch_one = TorchDecoder(model(name), slots=3).cache
    assert TorchDecoder.memory_bytes(c, 3, 0) == sum(t.numel() * t.element_size() for t in (torch_one.k, torch_one.v))


def test_an_engine_tells_its_memory() -> None:
    gpt = model("modern")
    assert Engine.memory_bytes(gpt, 64) > 10 * Engine.memory_bytes(gpt, 1, compiled=False)
    assert Engine.memory_bytes(gpt, 4, weights="int8") < Engine.memory_bytes(gpt, 4)
