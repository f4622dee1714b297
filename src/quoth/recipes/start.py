"""From what was asked for to a session that is ready to run."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from quoth.recipes.dial import complete
from quoth.recipes.memory import check_memory
from quoth.recipes.recipe import Recipe, Settings, make, origins, read_recipe, settings, to_toml
from quoth.recipes.session import Session
from quoth.system.device import Hardware, choose
from quoth.system.errors import InputError
from quoth.system.files import read_json, sha256_of, write_atomic
from quoth.text.corpus import Corpus, corpus, find
from quoth.text.tokenizer import Tokenizer
from quoth.train.run import find_run, new_run

# In fewer minutes than this, compiling with a cold cache takes longer than it saves.
WORTH_COMPILING = 0.75


def start(
    preset: str, config: Path | None, flags: dict[str, Any], out: str | None, resume: str | None, started: float
) -> Session:
    """A session for a new run, or for one that goes on.

    Raises:
        InputError: something that was given cannot be used.
    """
    if resume:
        others = {"preset": preset != "laptop", "config": config, "out": out}
        return _again(resume, [*flags, *(name for name, used in others.items() if used)], started)
    known = settings(preset, config, flags)
    hardware = hardware_for(known)
    data = open_corpus(known)
    recipe, known = plan(known, data, hardware, time.monotonic() - started)
    check_memory(recipe, hardware)
    folder = new_run(out, preset, data.name)
    write_atomic(folder / "config.toml", to_toml(origins(recipe, known)))
    return Session(recipe, data, hardware, folder, started)


def plan(known: Settings, data: Corpus, hardware: Hardware, elapsed: float) -> tuple[Recipe, Settings]:
    """The complete recipe: the dial fills what is not known, from the time that is left."""
    known = complete(known, data, hardware, elapsed)
    recipe = make(known, data.tokenizer.vocabulary)
    for split in ("train", "validation"):
        have, need = len(getattr(data, split)), recipe.model.context + 1
        if have < need:
            raise InputError(
                f"The {split} split has {have} tokens, but a context of {need - 1} needs {need}; give more text or a "
                "smaller --context."
            )
    return recipe, known


def hardware_for(known: Settings) -> Hardware:
    """The machine, with what is known of how to use it."""
    get = {name: known[name].value for name in ("device", "dtype", "threads") if name in known}
    compiled = {"on": True, "off": False}.get(known["compile"].value) if "compile" in known else None
    hardware = choose(**get, compile=compiled)
    minutes = known["minutes"].value if "minutes" in known else 0.0
    if compiled is None and hardware.compile and 0 < minutes < WORTH_COMPILING:
        why = f"it would take longer than it saves in {minutes:g} min"
        return replace(hardware, compile=False, reasons=hardware.reasons | {"compile": why})
    return hardware


def open_corpus(known: Settings) -> Corpus:
    """The data that is asked for."""
    get = {name: known[name].value for name in ("data", "tokenizer", "separator", "errors") if name in known}
    return corpus(**get)


def open_again(run: Path, recipe: Recipe, tokenizer: str | Tokenizer | None = None) -> Corpus:
    """The data of a run, in its own tokenizer or another.

    Raises:
        InputError: it cannot be read, or is not what the run began with.
    """
    c, path = recipe.data, run / "environment.json"
    began_with = read_json(path).get("sources") if path.exists() else None
    _, files = find(c.data)
    if began_with is not None and list(began_with.values()) != [sha256_of(file) for file in files]:
        raise InputError(
            f"{c.data} has changed since {run} was trained on it, so what was for training and what for validation is "
            "no longer known; train a new run on it."
        )
    return corpus(c.data, tokenizer or c.tokenizer, separator=c.separator or None, errors=c.errors)


def _again(resume: str, given: list[str], started: float) -> Session:
    if given:
        flags = ", ".join("DATA" if name == "data" else f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"--resume goes on as the run began; leave out {flags}.")
    folder = find_run(resume)
    recipe = read_recipe(folder)
    run = recipe.run
    hardware = choose(run.device, run.dtype, run.threads, {"on": True, "off": False}.get(run.compile))
    text = open_again(folder, recipe)
    check_memory(recipe, hardware)
    session = Session(recipe, text, hardware, folder, started)
    session.resume()
    session.started -= session.training_seconds
    return session
