"""Damaged files: a model or one sentence, in bounded memory; $QUOTH_DAMAGED says how many to try of each kind."""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from interop.test_hugging_face import made
from interop.test_special_tokens import document

from quoth.interop.export import export_gguf, export_hf
from quoth.interop.importing import import_model
from quoth.system.errors import InputError
from quoth.text.tokenizer import load

COUNT = int(os.environ.get("QUOTH_DAMAGED", "40"))
SEED = int(os.environ.get("QUOTH_SEED", "0"))
MOST_BYTES = 2**30
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 255, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308,
    float("nan"), float("inf"), "", "x", "é\ud800", "none", "x" * 5000, [], [1], [[]], ["a", "b"], {},
    {"type": "Sequence"}, {"a": {}},
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export of each kind."""
    folder = tmp_path_factory.mktemp("damage")
    tokenizer = load(json.dumps(document()))
    tokenizer.begins, tokenizer.ends = [300], [302]
    tokenizer.template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    gpt = made("llama", tokenizer)
    export_hf(folder / "hf", gpt, tokenizer, "bf16", "tiny", {})
    export_gguf(folder / "gguf", gpt, tokenizer, "q8_0", "tiny", {})
    (folder / "gguf" / "tiny-q8_0.gguf").rename(folder / "model.gguf")
    return folder


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, cut out, put in, or made the largest number; more often near the beginning."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = int(len(found) * rng.random() ** rng.choice([1, 4]))
        size = rng.choice([1, 1, 4, 8, 100])
        how = rng.randrange(5)
        if how == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del found[at : at + size]
        elif how == 2:
            found[at:at] = rng.randbytes(size)
        elif how == 3:
            found[at : at + size] = rng.choice([b"\xff", b"\x00", b"\x7f"]) * size
        elif rng.random() < 0.3:
            del found[at:]
    return bytes(found)


def damage_json(content: Any, rng: random.Random) -> Any:
    """One value replaced, dropped or put in somewhere, biased to the shallow ones."""
    content = copy.deepcopy(content)
    at = content
    while True:
        keys = list(at) if isinstance(at, dict) else range(len(at))
        if not keys:
            return rng.choice(VALUES)
        key = rng.choice(keys)
        deeper = isinstance(at[key], dict | list) and at[key]
        if not deeper or rng.random() < 0.15:
            break
        at = at[key]
    how = rng.randrange(4)
    if how == 0:
        del at[key]
    elif how == 1 and isinstance(at, dict):
        at[rng.choice(["x", "rope_scaling", "sliding_window", "</think>", "type"])] = at[key]
    else:
        at[key] = rng.choice(VALUES)
    return content


def try_import(path: Path) -> str:
    """What was said, or nothing of a model, which must work."""
    try:
        gpt, tokenizer = import_model(path)
    except InputError as error:
        said = str(error)
        assert "\n" not in said
        assert 10 < len(said) < 700, said
        return said
    assert tokenizer.vocabulary == gpt.config.vocabulary == len(tokenizer.pieces)
    try:
        ids = tokenizer.encode("The king</think> é").tolist()
    except InputError:
        return ""
    with torch.inference_mode():
        assert gpt(torch.tensor([[*ids, 0][: gpt.config.context]])).shape[-1] == tokenizer.vocabulary
    return ""


def each(kind: str, whole: Path, tmp_path: Path, change: Callable[[Path, random.Random], Path]) -> None:
    """Try many damaged copies; the message of a failure has the seed of its copy."""
    for n in range(COUNT):
        seed = f"{kind} {SEED} {n}"
        copied = tmp_path / str(n)
        shutil.copytree(whole, copied)
        path = change(copied, random.Random(seed))
        try:
            try_import(path)
        except Exception as error:
            raise AssertionError(f"{seed}: {type(error).__name__}: {error}") from error
        shutil.rmtree(copied)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_damaged_values(name: str, whole: Path, tmp_path: Path) -> None:
    content = json.loads((whole / "hf" / name).read_text())

    def change(copied: Path, rng: random.Random) -> Path:
        damaged = content
        for _ in range(rng.choice([1, 1, 2])):
            damaged = damage_json(damaged, rng) if isinstance(damaged, dict | list) else damaged
        (copied / "hf" / name).write_text(json.dumps(damaged))
        return copied / "hf"

    each(name, whole, tmp_path, change)


@pytest.mark.parametrize("name", ["hf/config.json", "hf/tokenizer.json", "hf/model.safetensors", "model.gguf"])
def test_damaged_bytes(name: str, whole: Path, tmp_path: Path) -> None:
    data = (whole / name).read_bytes()

    def change(copied: Path, rng: random.Random) -> Path:
        (copied / name).write_bytes(damage_bytes(data, rng))
        return copied / "hf" if name.startswith("hf") else copied / name

    each(name, whole, tmp_path, change)


def test_damaged_numbers_of_gguf(whole: Path, tmp_path: Path) -> None:
    """Lengths, counts, offsets and types: a field of four or eight bytes made large."""
    data = (whole / "model.gguf").read_bytes()
    header = data.index(b"blk.0.attn_k.weight") + 3000

    def change(copied: Path, rng: random.Random) -> Path:
        damaged, kind = bytearray(data), rng.choice(["<Q", "<I"])
        most = 2 ** (8 * struct.calcsize(kind))
        number = rng.choice([0, 1, 5, 2**31 - 1, 2**31, most - 1, most - 32, most // 2, rng.randrange(most)]) % most
        struct.pack_into(kind, damaged, rng.randrange(min(header, len(data) - 8)), number)
        (copied / "model.gguf").write_bytes(damaged)
        return copied / "model.gguf"

    each("numbers", whole, tmp_path, change)
