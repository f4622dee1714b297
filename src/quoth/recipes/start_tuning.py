"""Make a session that is ready to tune a run's model, from a command's arguments."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quoth.recipes.base import Base, open_base
from quoth.recipes.limits import with_snapshots
from quoth.recipes.recipe import (
    TUNE_SETTINGS,
    Setting,
    Settings,
    make,
    origins,
    parse_recipe,
    settings,
    to_toml,
)
from quoth.recipes.resume import resume_session
from quoth.recipes.session import Session
from quoth.recipes.start import as_decided, hardware_for, with_hardware
from quoth.recipes.tune_config import TuneConfig
from quoth.recipes.tuning import KINDS, PRESETS, check_processes, needs_chat, stage_of, tuning
from quoth.system.device import choose
from quoth.system.files import write_atomic
from quoth.system.lock import hold
from quoth.system.world import World
from quoth.train.run import new_run


def start_tuning(
    stage: str,
    run: str,
    config: Path | None,
    flags: dict[str, Any],
    out: str | None,
    started: float,
    world: World,
) -> Session:
    """A session for a new run that tunes the model of `run`.

    Raises:
        InputError: an argument cannot be used.
    """
    if begun := world.remembered():
        return resume_session(begun, {}, [], started, world)
    if not world.leads:
        said = json.loads(world.tell(""))
        recipe = parse_recipe(said["recipe"], Path(said["folder"]) / "config.toml")
        hardware = choose(said["device"], said["dtype"], said["threads"], said["compile"])
        return Session(recipe, tuning(recipe, hardware, world), hardware, Path(said["folder"]), started, world)
    known = settings(stage, config, flags, PRESETS)
    known["stage"] = Setting(stage, "command")
    tune = TuneConfig(**{name: known[name].value for name in TUNE_SETTINGS & known.keys()})
    check_processes(tune, world, sharded="shard" in known and known["shard"].value)
    base = open_base(run, tune, chat=needs_chat(tune, known["data"].value))
    known |= _given(base)
    hardware = hardware_for(known, world)
    value = {name: setting.value for name, setting in known.items()}
    kind, data = KINDS[stage], KINDS[stage].read(base, {**value, **asdict(tune)})
    known = with_hardware({**kind.choose(base, data, known), **known}, hardware)
    recipe, known = with_snapshots(make(known, base.tokenizer.vocabulary), known)
    hardware = as_decided(hardware, recipe, known)
    made = stage_of(kind, recipe, base, data, hardware, world)
    folder = new_run(out, stage, base.run.name)
    lock = hold(folder)
    text = to_toml(origins(recipe, known))
    write_atomic(folder / "config.toml", text)
    world.tell(json.dumps({"folder": str(folder), "recipe": text, **asdict(hardware)}))
    world.remember(str(folder))
    session = Session(recipe, made, hardware, folder, started, world, lock)
    session.remarks += data.remarks
    return session


def _given(base: Base) -> Settings:
    """The settings that the stage and the base decide."""
    origin = f"run {base.run.name}"
    shape = {name: Setting(value, origin) for name, value in asdict(base.model.config).items() if name != "vocabulary"}
    return {
        **shape,
        "dropout": Setting(0.0, "tuning never drops"),
        "tokenizer": Setting(base.tokenizer.name, origin),
        "init": Setting(str(base.run), "command"),
    }
