"""Make a run folder for a model of another program."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, replace
from pathlib import Path

from quoth.interop.importing import import_model
from quoth.model.gpt import GPT
from quoth.recipes.recipe import make, settings, to_toml, with_origins
from quoth.recipes.state import RunState
from quoth.system.files import as_json, write_atomic
from quoth.train.checkpoint import save
from quoth.train.keeper import Keeper
from quoth.train.run import new_run


def import_run(path: Path, out: str | None) -> tuple[Path, GPT]:
    """Read a model of another program, make a run of it, and return the run's folder and the model.

    Raises:
        InputError: the model cannot be read, or the folder cannot be written.
    """
    model, tokenizer = import_model(path)
    name = path.resolve().stem if path.is_file() else path.resolve().name
    folder = new_run(out, "import", name)
    shape = {n: v for n, v in asdict(model.config).items() if n != "vocabulary"}
    recipe = make(settings("laptop", None, {**shape, "data": "", "tokenizer": tokenizer.name}), model.config.vocabulary)
    recipe = replace(recipe, model=model.config)
    keeper = Keeper(folder)
    save(keeper.path(0), model, tokenizer, dataclasses.asdict(RunState()))
    keeper.mark_best(0)
    counts = {"parameters": model.parameters_count, "tokens": 0, "steps": 0}
    facts = {"run": folder.name, "folder": str(folder), "data": f"{path.name} (imported)", "tokenizer": tokenizer.name}
    write_atomic(folder / "summary.json", as_json({**facts, **counts, "stopped": "finished"}))
    write_atomic(folder / "config.toml", to_toml(with_origins(recipe, lambda name: "imported")))
    return folder, model
