"""Make a run folder of a complete model that no training here made: another program's, or one with merged adapters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from quoth.interop.importing import import_model
from quoth.interop.packaged import PACKAGED, packaged_model
from quoth.model.gpt import GPT
from quoth.model.lora import is_adapted, merge
from quoth.recipes.load_run import load_run
from quoth.recipes.recipe import make, settings, to_toml, with_origins
from quoth.recipes.state import RunState
from quoth.system.errors import InputError
from quoth.system.files import as_json, write_atomic
from quoth.text.tokenizer import Tokenizer
from quoth.train.checkpoint import save
from quoth.train.keeper import Keeper
from quoth.train.run import new_run


def import_run(path: Path, out: str | None) -> tuple[Path, GPT]:
    """Read a model of another program, make a run of it, and return the run's folder and the model.

    The path is a folder's or a file's, or a name of PACKAGED.

    Raises:
        InputError: the model cannot be read, or the folder cannot be written.
    """
    if str(path) in PACKAGED and not path.exists():
        path = packaged_model(str(path))
    model, tokenizer = import_model(path)
    name = path.resolve().stem if path.is_file() else path.resolve().name
    folder = new_run(out, "import", name)
    _furnish(folder, model, tokenizer, f"{path.name} (imported)", "imported")
    return folder, model


def merge_run(name: str, which: str, out: str | None, say: Callable[[str], None]) -> tuple[Path, GPT]:
    """Merge the adapters of a run, or of RUN+ADAPTER, into its weights; return the new run's folder and the model.

    `say` is called with a sentence for each broken checkpoint that is skipped; see `load_run`.

    Raises:
        InputError: there is no such run, it has no adapters, or the folder cannot be written.
    """
    loaded = load_run(name, which, "cpu", say)
    model = loaded.checkpoint.model
    if not is_adapted(model):
        raise InputError(f"{loaded.name} has no adapters, so there is nothing to merge.")
    merge(model)
    folder = new_run(out, "merge", loaded.name)
    _furnish(folder, model, loaded.checkpoint.tokenizer, f"{loaded.name} (merged)", "merged")
    return folder, model


def _furnish(folder: Path, model: GPT, tokenizer: Tokenizer, data: str, origin: str) -> None:
    """Write a checkpoint, the summary and the settings of a run that has taken no step; `data` is what it is from."""
    shape = {n: v for n, v in asdict(model.config).items() if n != "vocabulary"}
    recipe = make(settings("laptop", None, {**shape, "data": "", "tokenizer": tokenizer.name}), model.config.vocabulary)
    recipe = replace(recipe, model=model.config)
    keeper = Keeper(folder)
    save(keeper.path(0), model, tokenizer, dataclasses.asdict(RunState()))
    keeper.mark_best(0)
    counts = {"parameters": model.parameters_count, "tokens": 0, "steps": 0}
    facts = {"run": folder.name, "folder": str(folder), "data": data, "tokenizer": tokenizer.name}
    write_atomic(folder / "summary.json", as_json({**facts, **counts, "stopped": "finished"}))
    write_atomic(folder / "config.toml", to_toml(with_origins(recipe, lambda name: origin)))
