"""The studio's answers: they are what the model computes, and what cannot be answered is said in a sentence."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from studio.opening import Opened, studio, trained

from quoth.look.parts import Part
from quoth.look.trace import losses_without, saliency, trace
from quoth.studio.app import FOLDER
from quoth.studio.opened import OpenRun
from quoth.system.errors import InputError
from quoth.train.checkpoint import load
from quoth.train.keeper import moments
from quoth.web.packed import pack

TEXT = "hath king love sea"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads = torch.get_num_threads()
    made = trained(tmp_path_factory.mktemp("studio"))
    torch.set_num_threads(threads)
    return made


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[Opened]:
    with studio(folder) as one:
        yield one


def unpacked(block: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    size = int.from_bytes(block[:4], "little")
    head = json.loads(block[4 : 4 + size])
    arrays = {}
    for name, (kind, shape, place) in head["arrays"].items():
        assert (4 + size + place) % 8 == 0
        arrays[name] = np.frombuffer(block, f"<{kind}", int(np.prod(shape)), 4 + size + place).reshape(shape)
    return head["facts"], arrays


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "f2", "f4", ">f4"])
def test_packed_arrays_are_read_again(kind: str) -> None:
    given = {"a": np.arange(5).astype(kind), "b": np.arange(6).reshape(2, 3).astype(kind), "none": np.zeros(0, kind)}
    facts, found = unpacked(pack({"é": [1]}, **given))
    assert facts == {"é": [1]}
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_run_is_described(opened: Opened) -> None:
    told = opened.client.get("/api/run").json()
    assert (told["name"], told["layers"], told["heads"], told["context"]) == ("run", 2, 2, 32)
    assert told["moments"] == list(moments(opened.run.folder))
    assert told["moments"][0] == 0 and told["moments"][-1] == 100
    assert [step for step, _ in told["curves"]["loss"]] == list(range(10, 101, 10))
    assert told["parameters"] == opened.run.model.parameters_count
    validation = opened.run.said(opened.run.corpus().validation)
    assert told["example"] in validation and 2 <= len(told["example"]) <= 32


def test_what_is_shown_is_what_the_model_of_that_step_computes(opened: Opened) -> None:
    for step, folder in moments(opened.run.folder).items():
        facts, got = unpacked(opened.ask("/api/look", step=step, text=TEXT).content)
        model = load(folder).model
        id_T = torch.from_numpy(opened.run.tokenizer.encode(TEXT))
        assert "".join(facts["names"][str(i)] for i in got["ids"]) == TEXT
        logit_TV = model(id_T[None])[0]
        loss_T = F.cross_entropy(logit_TV[:-1], id_T[1:], reduction="none")
        np.testing.assert_allclose(got["loss"][-1], loss_T.detach(), atol=1e-6)
        top = logit_TV.softmax(-1).topk(10)
        np.testing.assert_array_equal(got["likely"][-1], top.indices)
        np.testing.assert_allclose(got["p"][-1], top.values.detach(), atol=5e-4)
        rows, columns = np.tril_indices(len(id_T))
        whole = trace(model, id_T).attention_LHTS.numpy()[..., rows, columns]
        np.testing.assert_allclose(got["attention"] / 255, whole, atol=0.5 / 255 + 1e-6)


def test_parts_that_are_off_add_nothing_to_text_and_loss(opened: Opened) -> None:
    off = ["1.mlp", "0.attention.1"]
    model, id_T = load(moments(opened.run.folder)[100]).model, torch.from_numpy(opened.run.tokenizer.encode(TEXT))
    parts = [Part(1, "mlp"), Part(0, "attention", 1)]
    _, got = unpacked(opened.ask("/api/look", step=100, text=TEXT, off=off).content)
    np.testing.assert_allclose(got["loss"], trace(model, id_T, off=parts).loss_LT, atol=1e-5)
    facts, got = unpacked(opened.ask("/api/each-off", step=100, text=TEXT).content)
    one = facts["names"].index("1.mlp")
    np.testing.assert_allclose(got["more"][one], losses_without(model, id_T, [parts[0]])[0], atol=5e-3)
    assert len(facts["names"]) == len(set(facts["names"])) == 2 * 2 + 2 * 2
    ask = {"step": 100, "text": "king ", "tokens": 40, "seed": 3}
    whole, less = (opened.ask("/api/write", **ask, off=names).json()["text"] for names in ([], off))
    assert whole != less
    assert opened.ask("/api/write", **ask).json()["text"] == whole, "nothing of the copy is left"
    assert len(whole) == 40


def test_saliency_and_a_single_head(opened: Opened) -> None:
    model, id_T = load(moments(opened.run.folder)[100]).model, torch.from_numpy(opened.run.tokenizer.encode(TEXT))
    _, got = unpacked(opened.ask("/api/saliency", step=100, text=TEXT, place=7).content)
    np.testing.assert_allclose(got["saliency"], saliency(model, id_T, 7), atol=1e-6)
    _, got = unpacked(opened.ask("/api/head", step=100, text=TEXT, head="1.attention.0").content)
    rows, columns = np.tril_indices(len(id_T))
    weight = trace(model, id_T).attention_LHTS[1, 0].numpy()[rows, columns]
    np.testing.assert_allclose(got["attention"] / 255, weight, atol=0.5 / 255 + 1e-6)


def test_passages_of_the_training_text(opened: Opened) -> None:
    found = opened.ask("/api/passages", step=0, text=TEXT, place=8).json()
    train = opened.run.said(opened.run.corpus().train)
    for length, count in enumerate(found["counts"], 1):
        same = TEXT[9 - length : 9]
        assert count == sum(train.startswith(same, at) for at in range(len(train)))
    (first, *_) = found["places"]
    assert first["same"] == TEXT[9 - len(found["counts"]) : 9]
    assert first["before"] + first["same"] + first["after"] in train


def test_a_text_that_is_longer_than_the_context_is_read_from_its_end(opened: Opened) -> None:
    long = (TEXT + " ") * 3
    facts, got = unpacked(opened.ask("/api/look", step=100, text=long).content)
    assert (facts["before"], len(got["ids"])) == (len(long) - 32, 32)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/api/look", {"step": 5}, "The weights of step 5 are not there any more, or were never kept."),
        ("/api/look", {"text": "k"}, "at least two tokens"),
        ("/api/look", {"text": "king " * 400}, "The text has 2,000 tokens, and the model reads 32 at once"),
        ("/api/look", {"text": "Ж king"}, "Ж"),
        ("/api/look", {"off": ["7.mlp"]}, "There is no layer 7; the model has 2, counted from 0."),
        ("/api/look", {"off": ["0.attention.9"]}, "There is no head 9"),
        ("/api/look", {"extra": 1}, "extra"),
        ("/api/head", {"head": "0.mlp"}, "0.mlp is no head"),
        ("/api/saliency", {"place": 18}, "There is no token after place 18"),
        ("/api/passages", {"place": -1}, "place"),
        ("/api/write", {"tokens": 0}, "tokens"),
        ("/api/write", {"temperature": -1}, "temperature"),
    ],
)
def test_what_cannot_be_answered_is_said(path: str, body: dict[str, Any], said: str, opened: Opened) -> None:
    got = opened.ask(path, **{"step": 100, "text": TEXT, **body})
    assert got.status_code == 400
    assert said in got.json()["error"]["message"]


def test_nobody_else_is_let_in(opened: Opened) -> None:
    other = opened.client.__class__(base_url=opened.url)
    assert other.get("/").status_code == 403
    assert "Open the address" in other.get("/").text
    assert other.get("/api/run").status_code == 401
    assert other.post("/api/look", json={}, headers={"origin": opened.url}).status_code == 401
    assert opened.client.get("/api/run", headers={"host": "evil.example"}).status_code == 403
    assert opened.client.post("/api/look", json={}, headers={"origin": "http://evil.example"}).status_code == 403


def test_a_damaged_moment_is_said_and_the_others_are_shown(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    steps = list(moments(copy))
    weights = moments(copy)[steps[1]] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with studio(copy) as one:
        got = one.ask("/api/look", step=steps[1], text=TEXT)
        assert "is missing or was changed" in got.json()["error"]["message"]
        assert one.ask("/api/look", step=steps[0], text=TEXT).status_code == 200
        shutil.rmtree(moments(copy)[steps[2]])
        assert "not there any more" in one.ask("/api/look", step=steps[2], text=TEXT).json()["error"]["message"]


def test_a_run_without_its_text_is_shown_all_the_same(folder: Path, tmp_path: Path) -> None:
    def gone() -> Any:
        raise InputError("The text is gone.")

    with studio(folder) as one:
        one.run._read_corpus = gone
        assert one.client.get("/api/run").json()["example"]
        assert one.ask("/api/passages", step=0, text=TEXT, place=3).json()["error"]["message"] == "The text is gone."


def test_a_run_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint yet"):
        OpenRun(tmp_path, lambda: None)  # type: ignore[arg-type, return-value]


def test_the_page_loads_nothing_from_elsewhere(opened: Opened) -> None:
    page = opened.client.get("/")
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy
    named = {*re.findall(r'(?:href|src)="(/[^"]*)"', page.text), *re.findall(r'"(/static/[^"]*)"', page.text)}
    for file in FOLDER.glob("*.js"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"https?://|innerHTML|eval\(", text), file.name
        named |= set(re.findall(r'from "(/static/[^"]+)"', text))
    for path in named:
        assert opened.client.get(path).status_code == 200, path
