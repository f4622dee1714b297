"""Checkpoints of adapters: resumed to the bit, moved with their base, and refused without it."""

import json
import shutil

import pytest
import torch
from torch import nn
from train.test_checkpoint import LETTERS, make, train

from quoth.model.config import FAMILIES
from quoth.model.gpt import GPT
from quoth.model.lora import adapters, add_lora, is_adapted, merge
from quoth.system.errors import InputError
from quoth.system.world import World
from quoth.train.adapter_checkpoint import base_problems
from quoth.train.checkpoint import load, load_optimizer, load_weights, save, write_together
from quoth.train.keeper import load_kept
from quoth.train.manifest import verify
from quoth.train.optimizers import OptimizerConfig, make_optimizer
from quoth.train.parallel import shard
from quoth.train.saving import Checkpoints

pytestmark = pytest.mark.usefixtures("one_thread")

families = pytest.mark.parametrize("name", FAMILIES)
CONFIG = OptimizerConfig(optimizer="adamw", learning_rate=0.01)


def begin(folder, name="modern", shape=None, **given):
    """A model whose base is a checkpoint, with adapters and their optimizer."""
    save(folder, make(name, **(shape or {})), LETTERS, {})
    model = GPT(load(folder).model.config)
    add_lora(model, 2, **given)
    load_weights(folder, model)
    return model, make_optimizer(model, CONFIG)


@pytest.mark.parametrize("targets", ["all", "query,value"])
@families
def test_a_run_of_adapters_goes_on_as_if_nothing_had_been(tmp_path, name, targets):
    model, optimizer = begin(tmp_path / "base", name, targets=targets)
    train(model, optimizer, 0, 3)
    save(tmp_path / "it", model, LETTERS, {"step": 3}, optimizer)
    names = {file.name for file in (tmp_path / "it").iterdir()}
    assert "model.safetensors" not in names and {"adapter_model.safetensors", "adapter_config.json"} < names
    wanted = train(model, optimizer, 3, 8)
    again = GPT(model.config)  # As a session makes it.
    add_lora(again, 2, targets=targets)
    load_weights(tmp_path / "it", again)
    other = make_optimizer(again, CONFIG)
    load_optimizer(tmp_path / "it", other)
    assert train(again, other, 3, 8) == wanted
    for (name, p), q in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q), name


@families
def test_a_loaded_checkpoint_of_adapters_computes_what_was_saved(tmp_path, name):
    model, optimizer = begin(tmp_path / "base", name)
    train(model, optimizer, 0, 3)
    save(tmp_path / "it", model, LETTERS, {"step": 3})
    tokens, back = torch.randint(11, (2, 8)), load(tmp_path / "it")
    assert torch.equal(back.model(tokens), model.eval()(tokens))
    assert back.state == {"step": 3} and is_adapted(back.model)
    assert not torch.equal(back.model(tokens), load(tmp_path / "base").model(tokens))
    save(tmp_path / "copy", back.model, LETTERS, {})
    assert torch.equal(load(tmp_path / "copy").model(tokens), model(tokens))


@families
def test_a_plain_model_takes_the_merged_weights(tmp_path, name):
    model, optimizer = begin(tmp_path / "base", name)
    train(model, optimizer, 0, 3)
    save(tmp_path / "it", model, LETTERS, {})
    plain = GPT(model.config)
    own = dict(plain.named_parameters())
    load_weights(tmp_path / "it", plain)
    assert all(p is own[name] for name, p in plain.named_parameters())
    merge(model)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_merged_adapters_are_saved_whole(tmp_path):
    model, optimizer = begin(tmp_path / "base")
    train(model, optimizer, 0, 3)
    merge(model)
    save(tmp_path / "it", model, LETTERS, {})
    shutil.rmtree(tmp_path / "base")
    tokens = torch.randint(11, (2, 8))
    assert torch.equal(load(tmp_path / "it").model(tokens), model.eval()(tokens))


def test_adapters_without_a_known_base_are_merged_when_saved_or_refused(tmp_path):
    model, tokens = make(), torch.randint(11, (2, 8))
    add_lora(model, 2)
    for layer in adapters(model).values():
        nn.init.normal_(layer.lora_B)
    save(tmp_path / "it", model, LETTERS, {})
    torch.testing.assert_close(load(tmp_path / "it").model(tokens), model.eval()(tokens), atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="could not be read again"):
        save(tmp_path / "no", model, LETTERS, {}, make_optimizer(model))


def run_of_adapters(folder):
    """Two runs in a folder, a base and its adapters."""
    model, optimizer = begin(folder / "base/checkpoints/step-000000")
    train(model, optimizer, 0, 1)
    checkpoints = Checkpoints(folder / "tuned", World())
    assert not checkpoints.save(1, model, LETTERS, {"step": 1}, optimizer) and not checkpoints.settle()
    return model, folder / "tuned"


def test_runs_that_moved_together_are_found(tmp_path):
    model, _ = run_of_adapters(tmp_path / "runs")
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    tokens = torch.randint(11, (2, 8))
    back = load_kept(tmp_path / "elsewhere/tuned", "last", "cpu", print)
    assert torch.equal(back.model(tokens), model.eval()(tokens))
    shutil.move(tmp_path / "elsewhere/tuned", tmp_path / "tuned")
    with pytest.raises(InputError, match=r"step-000001 holds adapters for the base .*runs/base/.*, which is missing; "):
        load_kept(tmp_path / "tuned", "last", "cpu", print)


def test_a_base_that_was_changed_is_refused(tmp_path):
    _, run = run_of_adapters(tmp_path)
    base, folder = tmp_path / "base/checkpoints/step-000000", run / "checkpoints/step-000001"
    assert list(base_problems(folder)) == [] == list(base_problems(base))
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match=r"base/checkpoints/step-000000 is broken: model\.safetensors is missing or"):
        load(folder)
    shutil.rmtree(base)
    save(base, make(), LETTERS, {})
    with pytest.raises(InputError, match=r"for the base .*step-000000, which was changed since they were trained"):
        load(folder)
    (problem,) = base_problems(folder)
    assert "was changed" in problem
    verify(folder)


@pytest.mark.parametrize("damage", ["cut", "changed", "removed"])
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "base.json"])
def test_damage_is_found(tmp_path, name, damage):
    _, run = run_of_adapters(tmp_path)
    path = run / "checkpoints/step-000001" / name
    data = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match=f"is broken: {name} is missing or was changed"):
        load(path.parent)


@pytest.mark.parametrize("given", [{"rank": 3}, {"rank": 2, "alpha": 1.0}, {"rank": 2, "targets": "mlp"}])
def test_a_model_with_other_adapters_is_refused(tmp_path, given):
    model, _ = begin(tmp_path / "base")
    save(tmp_path / "it", model, LETTERS, {})
    other = GPT(model.config)
    add_lora(other, **given)
    with pytest.raises(InputError, match=r"The adapters differ at blocks\.0\.attention\.key: the model has"):
        load_weights(tmp_path / "it", other)


def test_a_checkpoint_of_adapters_is_small(tmp_path):
    model, optimizer = begin(tmp_path / "base")
    train(model, optimizer, 0, 1)
    save(tmp_path / "it", model, LETTERS, {}, optimizer)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    saved = sum((tmp_path / "it" / f"{name}.safetensors").stat().st_size for name in ("adapter_model", "optimizer"))
    assert saved < 4 * 3 * trained + 20_000
    assert json.loads((tmp_path / "it/base.json").read_text())["folder"] == str(tmp_path / "base")


def test_adapters_are_not_shared_out(tmp_path):
    model, _ = begin(tmp_path / "base")
    with pytest.raises(InputError, match="A model with adapters cannot be sharded; train it without --shard"):
        shard(model, World(), "cpu")
    with pytest.raises(InputError, match="Adapters are small, and are not saved in shards"):
        write_together(tmp_path / "it", model, LETTERS, {}, None, World())
    assert not (tmp_path / "it").exists()
