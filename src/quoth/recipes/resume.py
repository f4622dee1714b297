"""Resume a run with its own settings, on a machine that may have changed, and for longer if flags ask for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from quoth.recipes.limits import check_memory
from quoth.recipes.open_again import open_again
from quoth.recipes.pretraining import pretraining
from quoth.recipes.recipe import BESIDE, HOME, Recipe, parse_recipe, read_recipe, to_toml, with_origins
from quoth.recipes.session import Session
from quoth.recipes.stage import Stage
from quoth.recipes.tuning import changed, tuning
from quoth.recipes.warm_start import init_checkpoint, tokenizer_of
from quoth.system.device import Hardware, choose, cores, environment
from quoth.system.errors import InputError
from quoth.system.files import read_json, write_atomic
from quoth.system.lock import hold
from quoth.system.world import World
from quoth.text.tokenizer import read as read_tokenizer
from quoth.train.keeper import checkpoints, intact
from quoth.train.run import find_run

# Settings that do not change a step may change during a run; any other would make it a different run.
CHANGEABLE = {"minutes", "steps", "pace", *BESIDE}


def resume_session(resume: str, flags: dict[str, Any], others: list[str], started: float, world: World) -> Session:
    """A session that continues a run from its newest checkpoint.

    `flags` are the settings given as flags, and `others` are the names of the other arguments given.

    Raises:
        InputError: the run, its data or its tokenizer has changed, or an argument was given that cannot change.
    """
    if fixed := [*(name for name in flags if name not in CHANGEABLE), *others]:
        names = ", ".join("DATA" if name == "data" else f"--{name.replace('_', '-')}" for name in fixed)
        raise InputError(f"--resume uses the settings that the run began with; leave out {names}.")
    folder = find_run(resume)
    lock = hold(folder) if world.leads else None
    world.most([0.0])  # No process reads the folder before the first one holds its lock, since others may write there.
    recipe = read_recipe(folder)
    said: list[str] = []
    saved = intact(folder, "last", said.append, resumable=True) if checkpoints(folder) else None
    if saved and (began := saved / "run.toml").exists():
        _check_unchanged(recipe, parse_recipe(began.read_text(encoding="utf-8"), began), folder)
    recipe = _extended(recipe, flags)
    hardware = _as_before(recipe, saved or folder, world)
    stage = _stage(recipe, folder, saved, hardware, world)
    differences = list(_differences(saved or folder, hardware, world))
    session = Session(recipe, stage, hardware, folder, started, world, lock)
    if differences:
        session.remarks.append(
            f"The run began with {'; '.join(differences)}: it goes on, but not bit for bit as without a break."
        )
    session.remarks += said
    if recipe.run.init and not saved and not recipe.tune:
        session.begin_with(init_checkpoint(recipe.run.init))
    session.resume(saved)
    if recipe.run.steps and flags and session.state.step >= recipe.run.steps:
        raise InputError(f"{folder} has taken {session.state.step:,} steps already; give more --steps to go on.")
    if flags and world.leads:
        known = with_origins(recipe, lambda name: "flag, when it was resumed" if name in flags else "as it began")
        write_atomic(folder / "config.toml", to_toml(known))
    return session


def _stage(recipe: Recipe, folder: Path, saved: Path | None, hardware: Hardware, world: World) -> Stage:
    """The stage of a run that is resumed, with the data that it began with.

    Raises:
        InputError: the data or the tokenizer has changed.
    """
    if recipe.tune:
        stage = tuning(recipe, hardware, world)
        if what := changed(recipe, folder, stage.facts):
            raise InputError(f"{what} has changed since {folder} began with it; tune a new run.")
        return stage
    text = open_again(folder, recipe, tokenizer_of(recipe.run.init, saved))
    if saved and (saved / "tokenizer.json").exists() and read_tokenizer(saved).dump() != text.tokenizer.dump():
        raise InputError(
            f"The tokenizer that is now made from {recipe.data.data} is not the one that {folder} was trained with; "
            "install the version of tokenizers that made the run's tokenizer, or train a new run."
        )
    check_memory(recipe, hardware, world)
    return pretraining(recipe, text, hardware, world)


def _check_unchanged(now: Recipe, before: Recipe, folder: Path) -> None:
    for name, section in HOME.items():
        was, is_now = (getattr(getattr(recipe, section), name, None) for recipe in (before, now))
        if was != is_now and name not in CHANGEABLE:
            raise InputError(
                f"{folder / 'config.toml'} has changed since the run began: {name} is {is_now!r} and was {was!r}. "
                "Undo that change to resume the run, or train a new run."
            )


def _extended(recipe: Recipe, flags: dict[str, Any]) -> Recipe:
    """The recipe with the changes that flags give. Minutes and steps, each of the whole run, displace each other."""
    if flags.get("minutes") and flags.get("steps"):
        raise InputError("Give minutes or steps, not both.")
    displaced: dict[str, Any] = {}
    if flags.get("minutes"):
        displaced = {"steps": 0, "pace": ""}
    elif flags.get("steps"):
        displaced = {"minutes": 0.0, "pace": ""}
    return replace(recipe, run=replace(recipe.run, **displaced, **flags))


def _as_before(recipe: Recipe, place: Path, world: World) -> Hardware:
    """The machine, used as the run used it before, so that no choice that was made by timing changes."""
    run, path = recipe.run, place / "environment.json"
    chosen = read_json(path) if path.exists() else {}
    if chosen.get("world", 1) != world.size:
        chosen["threads"] = max(1, cores() // world.locals) if world.size > 1 else 0
    threads = run.threads or chosen.get("threads", 0)
    dtype = chosen.get("dtype", run.dtype) if run.dtype == "auto" else run.dtype
    compiled = {"on": True, "off": False}.get(run.compile, chosen.get("compile"))
    return choose(run.device, dtype, threads, compiled)


def _differences(place: Path, hardware: Hardware, world: World) -> Iterator[str]:
    """Facts that a run's numbers depend on and that have changed, each as 'name before (now after)'."""
    path = place / "environment.json"
    before = read_json(path) if path.exists() else {}
    now = {**environment(), **dataclasses.asdict(hardware), "world": world.size}
    for name in ("torch", "cpu", "gpu", "device", "dtype", "threads", "compile", "world"):
        if name in before and before[name] != now.get(name):
            yield f"{name} {before[name]} (now {now.get(name)})"
