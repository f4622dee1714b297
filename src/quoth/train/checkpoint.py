"""A checkpoint is a folder with weights, config, tokenizer, state, and a manifest that holds every file's hash."""

from __future__ import annotations

import dataclasses
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT, Block
from quoth.model.lora import base_weights, is_adapted, put_on
from quoth.model.meta import on_meta
from quoth.system.errors import InputError, plain
from quoth.system.files import as_json, new_folder, read_json, rename_folder, writing
from quoth.system.world import World
from quoth.text.tokenizer import Tokenizer, texts_of
from quoth.text.tokenizer import read as read_tokenizer
from quoth.train.adapter_checkpoint import base_of, files_of_adapters, has_base, reference, take_adapters
from quoth.train.manifest import seal, verify
from quoth.train.optimizers import Together
from quoth.train.parallel import full_tensor, own, spread
from quoth.train.peft_format import read_adapter
from quoth.train.tensors import read_tensors

# The keys of config.json that name the block and the kind of model, where these are not the usual ones.
BLOCK = "block"
KIND = "kind"
OPTIMIZER, CRITIC = "optimizer.safetensors", "critic.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint's folder: a model in evaluation mode, its tokenizer, and the run's state."""

    model: GPT
    tokenizer: Tokenizer
    state: dict[str, Any]
    folder: Path


@dataclass(frozen=True)
class Snapshot:
    """The content of a checkpoint that is to be written: tensors by file and name, and texts by file."""

    tensors: Mapping[str, dict[str, Tensor]]
    texts: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """The approximate number of bytes that the checkpoint takes on a disk."""
        numbers = sum(t.nbytes for tensors in self.tensors.values() for t in tensors.values())
        return numbers + sum(map(len, self.texts.values())) + 2**16

    def copy(self) -> Snapshot:
        """A copy whose tensors do not share memory with the model, which goes on training."""
        return dataclasses.replace(
            self, tensors={f: {n: t.clone() for n, t in d.items()} for f, d in self.tensors.items()}
        )


def snapshot(
    model: nn.Module,
    tokenizer: Tokenizer,
    state: dict[str, Any],
    optimizer: Together | None = None,
    texts: Mapping[str, str] | None = None,
) -> Snapshot:
    """What to save. `state` is JSON: the step, the loss, and what else a run needs to go on; `texts` are more files.

    Of a model with adapters whose base is known, only the adapters are saved, and a reference to the base. A critic
    that is trained beside a policy is saved with the optimizer, in a file of its own, since only training needs it.
    If the model is sharded, all ranks must call this.
    """
    critic, model = critic_of(model), bare(model)
    if model.base:
        tensors, described = files_of_adapters(model)
    else:
        tensors, described = {"model.safetensors": merged(model, optimizer)}, {}
    if optimizer is not None:
        tensors[OPTIMIZER] = optimizer_tensors(optimizer)
        tensors |= {CRITIC: distinct(critic)} if critic else {}
    return Snapshot(
        {
            file: {n: full_tensor(t.detach()).cpu().contiguous() for n, t in named.items()}
            for file, named in tensors.items()
        },
        {**_texts(model, tokenizer, state, texts), **described},
    )


def write(folder: Path, content: Snapshot) -> None:
    """Write a checkpoint, which is then either intact or absent, and read it back to check that it is intact.

    Raises:
        InputError: the disk is full, the folder may not be written, or what is read back differs.
    """
    with new_folder(folder, content.bytes) as aside:
        for name, tensors in content.tensors.items():
            try:
                save_file(tensors, aside / name)
            except SafetensorError as error:  # The error's text includes the system's message.
                raise InputError(f"{folder} cannot be written: {error}; what was written before is kept.") from error
        for name, text in content.texts.items():
            (aside / name).write_text(text, encoding="utf-8")
        seal(aside)
    verify(folder)


def write_together(
    folder: Path,
    model: GPT,
    tokenizer: Tokenizer,
    state: dict[str, Any],
    optimizer: Together | None,
    world: World,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint, intact or absent, to which each rank adds its part; all ranks call it with the same folder.

    Raises:
        InputError: the folder may not be written, what is read back differs, or the model has adapters.
    """
    from quoth.train.shards import write_shards

    if is_adapted(model):
        raise InputError("Adapters are small, and are not saved in shards; train them without --shard.")

    aside = folder.with_name(f".{folder.name}.shards")

    def begin() -> None:
        with writing(folder):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)

    def end() -> None:
        with writing(folder):
            for name, text in _texts(model, tokenizer, state, texts).items():
                (aside / name).write_text(text, encoding="utf-8")
            seal(aside)
            rename_folder(aside, folder)
        verify(folder)

    world.first(begin)
    write_shards(aside, {**distinct(model), **(optimizer_tensors(optimizer) if optimizer else {})})
    world.first(end)


def save(
    folder: Path | str, model: GPT, tokenizer: Tokenizer, state: dict[str, Any], optimizer: Together | None = None
) -> None:
    """Write a checkpoint of a model as it is now, with the optimizer's state if an optimizer is given.

    >>> save("mine", model, corpus.tokenizer, {"step": 100})                # doctest: +SKIP

    Raises:
        InputError: the disk is full or the folder may not be written.
    """
    write(Path(folder), snapshot(model, tokenizer, state, optimizer))


def load(
    folder: Path | str, device: torch.device | str = "cpu", *, block: Callable[[GPTConfig], nn.Module] = Block
) -> Checkpoint:
    """Read a checkpoint, after every file is checked against the manifest.

    `block` makes one layer, as for `GPT`. A checkpoint names the block that it was trained with, and is loaded only
    with a block of that name: nothing that a file names is imported.

    Raises:
        InputError: the checkpoint is missing, damaged, or from another kind of model.
    """
    verify(Path(folder))
    return read(Path(folder), device, block=block)


def read(
    folder: Path,
    device: torch.device | str = "cpu",
    *,
    block: Callable[[GPTConfig], nn.Module] = Block,
    kind: type[GPT] = GPT,
) -> Checkpoint:
    """Read a checkpoint that was found intact, of a GPT or of a class that is made of one; see `load`.

    Raises:
        InputError: the checkpoint is from another kind of model.
    """
    model = kind(read_config(folder), block)
    if has_base(folder):
        put_on(model, read_adapter(folder, model))
    load_weights(folder, model)
    model.to(device)
    return Checkpoint(model.eval(), read_tokenizer(folder), read_json(folder / "state.json"), folder)


def read_config(folder: Path) -> GPTConfig:
    """The config of the model that a checkpoint holds.

    Raises:
        InputError: the checkpoint is from another kind of model.
    """
    try:
        return GPTConfig(**{n: v for n, v in read_json(folder / "config.json").items() if n not in (BLOCK, KIND)})
    except (AttributeError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'} is not a config of this version of quoth: {error}.") from error


def name_of(block: object) -> str:
    """A block's name in checkpoints: `module:name`, with the arguments that a `partial` sets.

    >>> name_of(Block)
    'quoth.model.gpt:Block'
    """
    if isinstance(block, partial):
        given = [*map(repr, block.args), *(f"{name}={value!r}" for name, value in block.keywords.items())]
        return f"{name_of(block.func)}({', '.join(given)})"
    named = block if hasattr(block, "__qualname__") else type(block)
    return f"{named.__module__}:{named.__qualname__}"


def load_weights(folder: Path, model: nn.Module) -> None:
    """Put the saved weights into a model of the same shape, sharded or not, and into its critic if it has one.

    Saved adapters become the adapters of an adapted model, and are added to the weights of a plain one. Weights that
    are saved whole become the base of an adapted model, whose adapters stay as they are.

    Raises:
        InputError: the file is damaged; the model is of another kind, or has another block, shape or other adapters; or
            a base is missing.
    """
    if critic := critic_of(model):
        _copy(folder, read_tensors(folder / CRITIC), distinct(critic))
    model = bare(model)
    if has_base(folder):
        load_weights(base_of(folder), model)
        take_adapters(model, read_adapter(folder, model))
        return
    config = read_json(folder / "config.json")
    if (kind := config.get(KIND, GPT.kind)) != model.kind:
        raise InputError(f"{folder} holds a {plain(str(kind))}, but a {model.kind} is needed here.")
    trained, here = config.get(BLOCK, name_of(Block)), name_of(model.block)
    if trained != here:
        how = "" if trained == name_of(Block) else ", block=..."
        raise InputError(
            f"{folder} was trained with the block {trained}, and the block here is {here}; load it in Python with "
            f"quoth.load({str(folder)!r}{how})."
        )
    wanted = distinct(model, base_weights(model))
    if is_adapted(model):
        model.base = reference(folder)
    if in_shards(folder):
        from quoth.train.shards import read_shards

        read_shards(folder, wanted)
        return
    _copy(folder, read_tensors(folder / "model.safetensors"), wanted)


def _copy(folder: Path, saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Copy a folder's saved tensors into those of a model.

    Raises:
        InputError: they do not have the same names and shapes.
    """
    differ = [
        n for n in sorted({*saved, *wanted}) if n not in saved or n not in wanted or saved[n].shape != wanted[n].shape
    ]
    if differ:
        raise InputError(
            f"The weights in {folder} do not fit this model: {differ[0]} differs, or is in only one of the two."
        )
    for name, tensor in wanted.items():
        own(tensor).copy_(own(spread(saved[name].to(tensor.device), tensor)))


def load_optimizer(folder: Path, optimizer: Together) -> None:
    """Put the saved state into an optimizer of the same model.

    Raises:
        InputError: the checkpoint holds no optimizer.
    """
    if not has_optimizer(folder):
        raise InputError(f"{folder} holds no optimizer, so a run cannot go on from it.")
    params: list[list[Tensor]] = [[p for g in part.param_groups for p in g["params"]] for part in optimizer.parts]

    def param(key: str) -> Tensor:
        part, index, _ = key.split(".")
        return params[int(part)][int(index)]

    if in_shards(folder):
        from quoth.train.shards import read_shards, sizes_in

        sizes = {key: size for key, size in sizes_in(folder).items() if key[0].isdecimal()}
        flat = {k: torch.empty_like(param(k)) if s == param(k).shape else torch.empty(s) for k, s in sizes.items()}
        read_shards(folder, flat)
    else:
        saved = read_tensors(folder / OPTIMIZER)
        flat = {
            k: spread(t.to(param(k).device), param(k)) if t.shape == param(k).shape else t for k, t in saved.items()
        }
    states = optimizer.state_dict()
    for state in states:
        state["state"] = defaultdict(dict)
    for key, tensor in flat.items():
        number, index, name = key.split(".")
        states[int(number)]["state"][int(index)][name] = tensor
    optimizer.load_state_dict(states)


def has_optimizer(folder: Path) -> bool:
    """Whether a checkpoint holds the optimizer's state, without which a run cannot go on from it."""
    return (folder / OPTIMIZER).exists() or in_shards(folder)


def in_shards(folder: Path) -> bool:
    """Whether several ranks wrote the checkpoint, each of them its part."""
    return any(folder.glob("shard-*.safetensors"))


def optimizer_tensors(optimizer: Together) -> dict[str, Tensor]:
    """An optimizer's state as tensors, which are named optimizer.parameter.value, the first two as numbers."""
    return {
        f"{part}.{index}.{name}": tensor
        for part, state in enumerate(optimizer.state_dict())
        for index, values in state["state"].items()
        for name, tensor in values.items()
    }


def _texts(model: GPT, tokenizer: Tokenizer, state: dict[str, Any], more: Mapping[str, str] | None) -> dict[str, str]:
    config: dict[str, Any] = dataclasses.asdict(model.config)
    if (block := name_of(model.block)) != name_of(Block):
        config[BLOCK] = block
    if model.kind != GPT.kind:
        config[KIND] = model.kind
    own = {"config.json": as_json(config), "state.json": as_json(state), **texts_of(tokenizer)}
    return {**own, **(more or {})}


def distinct(model: GPT, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The weights by name, or those given; tied weights appear once, since safetensors refuses shared memory."""
    state = model.state_dict() if state is None else state
    return {name: tensor for name, tensor in state.items() if name != "head.weight" or not model.config.tied}


def bare(model: nn.Module) -> GPT:
    """The GPT inside a wrapper, whose weights have their usual names; of an actor and its critic, the actor."""
    while not isinstance(model, GPT):
        inner = (getattr(model, name, None) for name in ("_orig_mod", "module", "policy"))
        if (found := next(filter(None, inner), None)) is None:
            break
        model = found
    return cast(GPT, model)


def critic_of(model: nn.Module) -> GPT | None:
    """The critic of a `train.policy.ActorCritic`, which is in none of the files of the policy; else None."""
    return getattr(model, "critic", None)


def merged(model: GPT, optimizer: Together | None) -> dict[str, Tensor]:
    """The weights that a model of this config and block computes with; tied weights appear once.

    Raises:
        InputError: the model has a part that its config and block do not make, so the model could not be read again.
    """
    with on_meta():
        wanted = distinct(type(model)(model.config, model.block)).keys()
    merges = optimizer is None and (is_adapted(model) or any(map(is_parametrized, model.modules())))
    found = {name: _part(model, name) for name in wanted} if merges else distinct(model)
    if odd := sorted(found.keys() ^ wanted):
        raise InputError(
            f"The model's {odd[0]} is not a part that its config makes, so the model could not be read again; merge "
            "what was put around a layer into its weight first."
        )
    return found


def _part(model: GPT, name: str) -> Tensor:
    module, _, weight = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(module), weight)
    return found
