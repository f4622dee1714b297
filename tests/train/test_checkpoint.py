import json
import pickle
import random
import re
from functools import partial
from importlib.metadata import version

import pytest
import torch
from model.adapters import adapt

import quoth
from quoth.model.config import FAMILIES, family
from quoth.model.gpt import GPT, Block
from quoth.system.errors import InputError
from quoth.system.files import as_json
from quoth.text.batches import Batch
from quoth.text.tokenizer import Characters
from quoth.train.checkpoint import load, load_optimizer, name_of, save
from quoth.train.loop import fit
from quoth.train.manifest import problems, seal, verify
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
    with pytest.raises(InputError, match=r"its manifest\.json is missing or damaged"):
        load(tmp_path / "it")


def test_every_flipped_bit_and_every_cut_is_found(tmp_path):
    model, rng = make(), random.Random(0)
    save(tmp_path / "it", model, LETTERS, {"step": 3}, make_optimizer(model))
    files = sorted((tmp_path / "it").iterdir())
    for _ in range(100):
        path = rng.choice(files)
        whole = path.read_bytes()
        if rng.random() < 0.8:
            at = rng.randrange(8 * len(whole))
            spoiled = bytearray(whole)
            spoiled[at // 8] ^= 1 << at % 8
        else:
            spoiled = whole[: rng.randrange(len(whole))]
        path.write_bytes(spoiled)
        with pytest.raises(InputError, match=r"is broken|of another version|is not read|does not list"):
            verify(tmp_path / "it")
        path.write_bytes(whole)
    verify(tmp_path / "it")


def test_a_planted_pickle_is_refused(tmp_path):
    folder, model = tmp_path / "it", make()
    save(folder, model, LETTERS, {})
    bomb = pickle.dumps({"weights": 1})
    (folder / "model.pt").write_bytes(bomb)
    with pytest.raises(InputError, match=r"holds model\.pt, which its manifest\.json does not list"):
        load(folder)
    (folder / "manifest.json").unlink()
    seal(folder)  # Whoever planted it made the manifest anew.
    with pytest.raises(InputError, match=r"holds model\.pt, which is none of \.safetensors, \.json, \.toml"):
        load(folder)
    (folder / "model.pt").unlink()
    (folder / "model.safetensors").write_bytes(bomb)
    (folder / "manifest.json").unlink()
    seal(folder)
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read as safetensors"):
        load(folder)


def test_a_newer_version_is_named(tmp_path):
    folder = tmp_path / "it"
    save(folder, make(), LETTERS, {})
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(as_json({**manifest, "format": 2}))
    with pytest.raises(InputError, match="is of another version of quoth: format 2, and this one reads 1"):
        load(folder)


def test_all_that_is_wrong_is_told(tmp_path):
    folder = tmp_path / "it"
    save(folder, make(), LETTERS, {})
    (folder / "state.json").unlink()
    (folder / "config.json").write_text("{}")
    assert [re.sub(".* is broken: ", "", problem) for problem in problems(folder)] == [
        "config.json is missing or was changed since it was saved.",
        "state.json is missing or was changed since it was saved.",
    ]


class Other(Block):
    """A block of somebody's own, with one more matrix."""

    def __init__(self, c):
        super().__init__(c)
        self.more = torch.nn.Linear(c.width, c.width)


def test_a_block_of_ones_own_is_loaded_with_that_block_and_else_named(tmp_path):
    model = GPT(family("modern", vocabulary=11, context=8, layers=1, width=16, heads=2), block=Other)
    quoth.save(str(tmp_path / "mine"), model, Characters("abcdefghijk"), {"step": 3})
    loaded = quoth.load(str(tmp_path / "mine"), block=Other).model
    assert torch.equal(loaded.blocks[0].more.weight, model.blocks[0].more.weight)
    with pytest.raises(InputError) as refused:
        quoth.load(tmp_path / "mine")
    assert str(refused.value) == (
        f"{tmp_path / 'mine'} was trained with the block {__name__}:Other, and the block here is "
        f"quoth.model.gpt:Block; load it in Python with quoth.load('{tmp_path / 'mine'}', block=...)."
    )
    plain = GPT(model.config)
    quoth.save(tmp_path / "plain", plain, Characters("abcdefghijk"), {})
    assert "block" not in json.loads((tmp_path / "plain/config.json").read_text())
    with pytest.raises(InputError, match=r"was trained with the block quoth\.model\.gpt:Block, .*plain'\)"):
        quoth.load(tmp_path / "plain", block=Other)


@pytest.mark.parametrize(
    ("block", "name"),
    [(Block, "quoth.model.gpt:Block"), (partial(Block, causal=False), "quoth.model.gpt:Block(causal=False)")],
)
def test_what_a_block_is_called(block, name):
    assert name_of(block) == name


def test_the_package_knows_its_version():
    assert quoth.__version__ == version("quoth")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_compiled_model_is_saved_under_its_own_names(tmp_path, name):
    model, tokens = make(name), torch.randint(11, (2, 8))
    save(tmp_path / "it", torch.compile(model), LETTERS, {})
    assert torch.equal(load(tmp_path / "it").model(tokens), model.eval()(tokens))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_parametrized_model_is_saved_as_it_computes(tmp_path, name):
    model, tokens = make(name), torch.randint(11, (2, 8))
    adapt(model, "parametrized")
    save(tmp_path / "it", model, LETTERS, {})
    torch.testing.assert_close(load(tmp_path / "it").model(tokens), model.eval()(tokens), atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="could not be read again"):
        save(tmp_path / "no", model, LETTERS, {}, make_optimizer(model))


@pytest.mark.parametrize("kind", ["wrapped", "derived"])
def test_a_model_that_could_not_be_read_again_is_not_saved(tmp_path, kind):
    model = make()
    adapt(model, kind)
    with pytest.raises(InputError, match="could not be read again"):
        save(tmp_path / "it", model, LETTERS, {})
    assert not (tmp_path / "it").exists()
