import json

import pytest
import torch

from quoth.model.config import FAMILIES, family
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.text.batches import Batch
from quoth.text.tokenizer import Characters
from quoth.train.checkpoint import Keeper, kept, load, load_optimizer, save
from quoth.train.loop import fit
from quoth.train.objectives import next_token
from quoth.train.optimizers import OptimizerConfig, make_optimizer

pytestmark = pytest.mark.usefixtures("one_thread")

LETTERS = Characters("abcdefghijk")


def make(name="modern", **given):
    model = GPT(family(name, vocabulary=11, context=8, layers=2, width=16, heads=2, dropout=0.0, **given))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def train(model, optimizer, first, steps):
    """Some steps, each on the batch of its number."""

    class Batches:
        def __getitem__(self, step):
            tokens = torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(step))
            return [Batch(tokens[:, :-1], tokens[:, 1:])]

    return [step.loss for step in fit(model, optimizer, Batches(), next_token, first=first, steps=steps)]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_was_saved_is_loaded(tmp_path, name, tied):
    model, tokens = make(name, tied=tied), torch.randint(11, (2, 8))
    save(tmp_path / "it", model, LETTERS, {"step": 7, "loss": 1.5})
    back = load(tmp_path / "it")
    assert torch.equal(back.model(tokens), model.eval()(tokens))
    assert back.model.config == model.config
    assert back.state == {"step": 7, "loss": 1.5}
    assert back.tokenizer.dump() == LETTERS.dump()
    assert not back.model.training
    assert (back.model.head.weight is back.model.embed.weight) == tied


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_run_goes_on_from_a_checkpoint_as_if_nothing_had_been(tmp_path, kind):
    config, model = OptimizerConfig(optimizer=kind), make()
    optimizer = make_optimizer(model, config)
    train(model, optimizer, 0, 3)
    save(tmp_path / "it", model, LETTERS, {"step": 3}, optimizer)
    wanted = train(model, optimizer, 3, 8)
    again = load(tmp_path / "it").model
    other = make_optimizer(again, config)
    load_optimizer(tmp_path / "it", other)
    assert train(again, other, 3, 8) == wanted
    for (name, p), q in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_without_an_optimizer_a_run_cannot_go_on(tmp_path):
    model = make()
    save(tmp_path / "it", model, LETTERS, {})
    with pytest.raises(InputError, match="holds no optimizer"):
        load_optimizer(tmp_path / "it", make_optimizer(model))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "state.json", "optimizer.safetensors"]
)
@pytest.mark.parametrize("damage", ["cut", "changed", "removed"])
def test_a_damaged_checkpoint_is_refused(tmp_path, name, damage):
    model = make()
    save(tmp_path / "it", model, LETTERS, {"step": 3}, make_optimizer(model))
    path = tmp_path / "it" / name
    data = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match=f"is broken: {name} is missing or was changed"):
        load(tmp_path / "it")


def test_no_checkpoint_and_no_manifest_are_refused(tmp_path):
    with pytest.raises(InputError, match="There is no checkpoint"):
        load(tmp_path / "it")
    (tmp_path / "it").mkdir()
    with pytest.raises(InputError, match=r"manifest\.json cannot be read"):
        load(tmp_path / "it")


def test_best_and_last_are_kept(tmp_path):
    model = make()
    optimizer = make_optimizer(model)
    with pytest.raises(InputError, match="no checkpoint yet"):
        kept(tmp_path)
    for step, best in [(10, True), (20, True), (30, False), (40, False)]:
        # A run that goes on finds what was kept before.
        Keeper(tmp_path).save(model, LETTERS, {"step": step}, optimizer, best=best)
    assert kept(tmp_path).name == kept(tmp_path, "best").name == "step-000020"
    assert kept(tmp_path, "last").name == "step-000040"
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["kept.json", "step-000020", "step-000040"]
    assert load(kept(tmp_path)).state == {"step": 20}


def test_without_a_best_the_last_is_taken(tmp_path):
    model = make()
    Keeper(tmp_path).save(model, LETTERS, {"step": 1}, make_optimizer(model), best=False)
    assert json.loads((tmp_path / "checkpoints" / "kept.json").read_text()) == {"last": "step-000001"}
    assert kept(tmp_path, "best").name == "step-000001"
