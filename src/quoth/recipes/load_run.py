"""Load the model of a run, or of a run with another run's adapters, as RUN+ADAPTER."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from quoth.model.config import GPTConfig
from quoth.model.lora import put_on
from quoth.system.errors import InputError, short
from quoth.text.tokenizer import read as read_tokenizer
from quoth.train.adapter_checkpoint import has_base, read_base, reference
from quoth.train.checkpoint import Checkpoint, load, read_config
from quoth.train.keeper import checkpoints, intact, load_kept
from quoth.train.manifest import MANIFEST
from quoth.train.peft_format import ADAPTER, ADAPTER_CONFIG, read_adapter
from quoth.train.run import find_run

# Values of a base that adapters of its layers do not depend on.
UNREAD = ("family", "context", "dropout", "dropout_shape", "initialization")


@dataclass(frozen=True)
class LoadedRun:
    """A run's model and tokenizer, with the adapters that were asked for.

    Attributes:
        name: the run's name, or RUN+ADAPTER.
        folder: the run's folder; of RUN+ADAPTER, RUN's.
        checkpoint: the model, adapted where there are adapters, and what belongs to it.
        files: the files that stand for all that the model was made of: manifests, or the weights of PEFT's adapters.
    """

    name: str
    folder: Path
    checkpoint: Checkpoint
    files: tuple[Path, ...]


def load_run(name: str, which: str, device: torch.device | str, say: Callable[[str], None]) -> LoadedRun:
    """Load the best or last checkpoint of a run; or of RUN+ADAPTER, RUN's with adapters on it.

    ADAPTER is a run that trained adapters, or a folder in the format of Hugging Face's PEFT. A run that trained
    adapters needs no RUN+, since it knows its base. `say` is called with a sentence for each broken checkpoint that is
    skipped, and if the adapters were trained on another base than RUN.

    Raises:
        InputError: there is no such run or adapter, none of its checkpoints is intact, or the adapters do not fit RUN.
    """
    run_name, adapter = parse_name(name)
    run = find_run(run_name).resolve()
    if not adapter:
        checkpoint = load_kept(run, which, device, say)
        return LoadedRun(run.name, run, checkpoint, (checkpoint.folder / MANIFEST,))
    place, adapter_name = find_adapter(adapter, which, say)
    checkpoint = _base_for(place, run, which, device, say)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    files = (checkpoint.folder / MANIFEST, place / (MANIFEST if has_base(place) else ADAPTER))
    if has_base(place):
        _refuse_other_base(adapter_name, read_config(place), run.name, model.config)
        tokenizer = read_tokenizer(place)  # It may have a template that the base's has not.
    put_on(model, read_adapter(place, model))
    model.base = reference(checkpoint.folder)
    if has_base(place) and (trained := read_base(place)).sha256 != model.base.sha256:
        say(f"{adapter_name} was trained on {trained.folder}, and may fit {checkpoint.folder} less well.")
    adapted = dataclasses.replace(checkpoint, model=model.eval(), tokenizer=tokenizer)
    return LoadedRun(f"{run.name}+{adapter_name}", run, adapted, files)


def parse_name(name: str) -> tuple[str, str]:
    """The run and the adapter in RUN+ADAPTER; the adapter is "" if there is none, as in a run whose name has a plus.

    Raises:
        InputError: one of the two is left out.
    """
    if "+" not in name or _is_run(name):
        return name, ""
    splits = [(name[:at], name[at + 1 :]) for at, letter in enumerate(name) if letter == "+"]
    run, adapter = next((s for s in splits if _is_run(s[0]) and (_is_run(s[1]) or _is_peft(s[1]))), splits[-1])
    if not run or not adapter:
        raise InputError(f"RUN+ADAPTER names a run and adapters, not {short(name)}.")
    return run, adapter


def find_adapter(name: str, which: str, say: Callable[[str], None]) -> tuple[Path, str]:
    """The folder that holds the adapters of a run or is in PEFT's format, and its name.

    Raises:
        InputError: there is no such folder, or it holds no adapters.
    """
    if _is_peft(name):
        folder = Path(name).expanduser().resolve()
        return folder, folder.name
    run = find_run(name).resolve()
    folder = intact(run, which, say)
    if not has_base(folder):
        raise InputError(
            f"{name} holds no adapters: a run that was tuned with --lora, or a folder with PEFT's {ADAPTER_CONFIG}, is "
            "wanted after the plus."
        )
    return folder, run.name


def _is_run(name: str) -> bool:
    try:
        return bool(name and find_run(name))
    except InputError:
        return False


def _is_peft(name: str) -> bool:
    return bool(name) and (Path(name).expanduser() / ADAPTER_CONFIG).is_file()


def _base_for(place: Path, run: Path, which: str, device: torch.device | str, say: Callable[[str], None]) -> Checkpoint:
    """The checkpoint of a run that adapters were trained on; its best or last if there is none."""
    if has_base(place):
        wanted = read_base(place).sha256
        for folder in checkpoints(run):
            if (folder / MANIFEST).is_file() and reference(folder).sha256 == wanted:
                return load(folder, device)
    return load_kept(run, which, device, say)


def _refuse_other_base(adapter: str, theirs: GPTConfig, run: str, ours: GPTConfig) -> None:
    """Refuse adapters of a model of another shape.

    Raises:
        InputError: the first value that differs.
    """
    wanted = dataclasses.asdict(ours)
    for name, value in dataclasses.asdict(theirs).items():
        if name not in UNREAD and value != wanted[name]:
            raise InputError(f"{adapter} is for another base than {run}: its {name} is {value}, not {wanted[name]}.")
