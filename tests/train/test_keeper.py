"""Which checkpoints stay, and which one is taken up when the newest is broken."""

import errno
import json
import os
import shutil

import pytest
import torch

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.system.files import as_json
from quoth.text.tokenizer import Characters
from quoth.train import keeper as keeper_module
from quoth.train.checkpoint import load, snapshot
from quoth.train.keeper import Keeper, checkpoints, intact, kept, kept_problem, last_good
from quoth.train.manifest import seal
from quoth.train.optimizers import make_optimizer
from quoth.train.tensors import read_tensors

LETTERS = Characters("abcdefghijk")


def content(step=0):
    model = GPT(family("modern", vocabulary=11, context=8, layers=1, width=16, heads=2))
    return snapshot(model, LETTERS, {"step": step}, make_optimizer(model))


def fill(run, steps, best=(), **given):
    keeper = Keeper(run, **given)
    for step in steps:
        keeper.save(content(step), step)
        if step in best:
            keeper.mark_best(step)
    keeper.finish()
    return keeper


def steps(run):
    return [int(folder.name.removeprefix("step-")) for folder in reversed(checkpoints(run))]


def test_the_last_the_best_and_every_so_manieth_are_kept(tmp_path):
    fill(tmp_path, range(10, 90, 10), best=[10, 30], last=2, every=50)
    assert steps(tmp_path) == [30, 50, 70, 80]
    assert kept(tmp_path).name == kept(tmp_path, "best").name == "step-000030"
    assert kept(tmp_path, "last").name == "step-000080"
    assert load(kept(tmp_path)).state == {"step": 30}
    # A run that goes on finds what was kept before.
    fill(tmp_path, [90], last=1)
    assert steps(tmp_path) == [30, 90]


def test_without_a_best_the_last_is_taken(tmp_path):
    with pytest.raises(InputError, match="no checkpoint yet"):
        kept(tmp_path)
    fill(tmp_path, [1])
    assert kept(tmp_path, "best").name == "step-000001"


def test_training_may_go_on_while_it_is_written(tmp_path):
    model = GPT(family("modern", vocabulary=11, context=8, layers=1, width=16, heads=2))
    before = model.embed.weight.detach().clone()
    keeper = Keeper(tmp_path)
    keeper.save(snapshot(model, LETTERS, {}, make_optimizer(model)), 1)
    with torch.no_grad():
        model.embed.weight.zero_()
    keeper.finish()
    assert torch.equal(read_tensors(kept(tmp_path) / "model.safetensors")["embed.weight"], before)


def test_from_a_broken_one_the_one_before_is_taken_and_that_is_said(tmp_path):
    fill(tmp_path, [10, 20, 30], best=[20], last=3)
    (tmp_path / "checkpoints/step-000030/state.json").write_text("{}")
    said = []
    assert intact(tmp_path, "last", said.append).name == "step-000020"
    assert len(said) == 1
    assert said[0].endswith("state.json is missing or was changed since it was saved. step-000020 is used instead.")
    (tmp_path / "checkpoints/step-000020/model.safetensors").unlink()
    assert intact(tmp_path, "best", said.append).name == "step-000010"
    shutil.rmtree(tmp_path / "checkpoints/step-000010")
    with pytest.raises(InputError, match=r"No checkpoint of .* is intact\. The checkpoint .*step-000030 is broken"):
        intact(tmp_path, "last", said.append)


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}"])
def test_what_is_best_may_be_forgotten(tmp_path, damage):
    fill(tmp_path, [10, 20], best=[10])
    (tmp_path / "checkpoints/kept.json").write_text(damage)
    assert kept(tmp_path).name == "step-000020"


def test_no_flipped_bit_names_another_checkpoint_the_best(tmp_path):
    fill(tmp_path, [10, 20], best=[10], last=5)
    path = tmp_path / "checkpoints/kept.json"
    written = path.read_bytes()
    for bit in range(8 * len(written)):
        flipped = bytearray(written)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        said = []
        folder = intact(tmp_path, "best", said.append)
        assert folder.name == ("step-000020" if said else "step-000010")
    path.write_bytes(written)
    assert kept_problem(tmp_path) == ""


def test_none_goes_before_a_newer_one_is_whole(tmp_path, monkeypatch):
    fill(tmp_path, [10, 20], last=1)
    assert steps(tmp_path) == [20]

    def spoiled(folder, content):
        real(folder, content)
        (folder / "model.safetensors").write_bytes(b"")
        raise InputError("what is read back differs")

    real = keeper_module.write
    monkeypatch.setattr(keeper_module, "write", spoiled)
    keeper = Keeper(tmp_path, last=1)
    keeper.save(content(30), 30)
    with pytest.raises(InputError, match="differs"):
        keeper.finish()
    assert intact(tmp_path, "last", lambda problem: None).name == "step-000020"


def test_a_disk_that_is_full_for_a_while(tmp_path, monkeypatch):
    keeper = fill(tmp_path, [10])

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        keeper.save(content(20), 20)
        with pytest.raises(InputError, match="No space is left"):
            keeper.finish()
    assert steps(tmp_path) == [10]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000010"]
    keeper.save(content(30), 30)
    keeper.finish()
    assert steps(tmp_path) == [10, 30]


def test_room_is_looked_for_first(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    keeper = Keeper(tmp_path)
    keeper.save(content(1), 1)
    with pytest.raises(InputError, match="No space is left"):
        keeper.finish()


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    fill(tmp_path, [10])
    left = tmp_path / "checkpoints/.step-000020.abc"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    Keeper(tmp_path).clear()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000010"]
    assert json.loads((tmp_path / "checkpoints/step-000010/manifest.json").read_text())["format"] == 1


def test_a_broken_one_that_is_later_does_not_count(tmp_path):
    fill(tmp_path, [20, 30], last=2)
    (tmp_path / "checkpoints/step-000030/state.json").unlink()
    fill(tmp_path, [25], last=1)
    assert steps(tmp_path) == [25, 30]
    assert intact(tmp_path, "last", lambda problem: None).name == "step-000025"


def test_the_last_good_one_was_not_saved_while_steps_were_left_out(tmp_path):
    assert last_good(tmp_path) is None
    keeper = fill(tmp_path, [10])
    keeper.save(content(20), 20)
    keeper.finish()
    state = tmp_path / "checkpoints/step-000020/state.json"
    (tmp_path / "checkpoints/step-000020/manifest.json").unlink()
    state.write_text(as_json({"step": 20, "bad": 3}))
    seal(state.parent)
    assert last_good(tmp_path).name == "step-000010"
