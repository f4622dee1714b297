"""Make a session that is ready to run from a command's arguments."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from quoth.recipes.dial import complete, steps_in
from quoth.recipes.limits import check_memory, with_snapshots
from quoth.recipes.pretraining import pretraining
from quoth.recipes.recipe import DataConfig, Recipe, Setting, Settings, make, origins, parse_recipe, settings, to_toml
from quoth.recipes.resume import resume_session
from quoth.recipes.session import Session
from quoth.recipes.warm_start import init_checkpoint, is_warm_start, lower_rates, tokenizer_of, with_shape_of_init
from quoth.system.device import Hardware, choose, cores, gpus
from quoth.system.errors import InputError
from quoth.system.files import write_atomic
from quoth.system.lock import Lock, hold
from quoth.system.world import World
from quoth.text.corpus import Corpus, corpus
from quoth.train.run import new_run

# A run of fewer steps than this gets a remark.
FEW_STEPS = 100


def start(
    preset: str,
    config: Path | None,
    flags: dict[str, Any],
    out: str | None,
    resume: str | None,
    started: float,
    world: World | None = None,
) -> Session:
    """A session for a new run, or for a run that is resumed.

    Raises:
        InputError: an argument cannot be used.
    """
    world = world or World()
    if resume:
        others = {"preset": preset != "laptop", "config": config, "out": out}
        return resume_session(resume, flags, [name for name, used in others.items() if used], started, world)
    if begun := world.remembered():
        # The processes before these began this run and died, so these go on with it.
        return resume_session(begun, {}, [], started, world)
    if not world.leads:
        return _follow(json.loads(world.tell("")), started, world)
    known = settings(preset, config, flags)
    if "stage" in known:
        stage = known["stage"].value
        raise InputError(f"{config} is of a run that was tuned; give it to `quoth tune {stage}`.")
    known = with_shape_of_init(known)
    hardware = hardware_for(known, world)
    data = open_corpus(known)
    fast = replace(hardware, flops=hardware.flops * world.size)
    recipe, known = plan(known, data, fast, time.monotonic() - started)
    hardware = as_decided(hardware, recipe, known)
    check_memory(recipe, hardware, world)
    folder = new_run(out, preset, data.name)
    lock = hold(folder)
    write_atomic(folder / "config.toml", to_toml(origins(recipe, known)))
    world.tell(json.dumps({"folder": str(folder), "recipe": to_toml(origins(recipe, known)), **asdict(hardware)}))
    world.remember(str(folder))  # By here, all processes have asked what is remembered.
    session = first_session(recipe, data, hardware, folder, started, world, lock)
    if minutes := recipe.run.minutes:
        judged, seconds = len(data.validation), 60 * minutes - (time.monotonic() - started)
        how = replace(fast, compile=hardware.compile)
        steps = steps_in(recipe.model, recipe.run.batch, how, seconds, recipe.run.validation_tokens or judged)
        if steps < FEW_STEPS:
            session.remarks.append(f"About {steps:.0f} steps of this model fit into {minutes:g} min on this machine.")
    return session


def first_session(
    recipe: Recipe,
    data: Corpus,
    hardware: Hardware,
    folder: Path,
    started: float,
    world: World,
    lock: Lock | None = None,
) -> Session:
    """A session of a new run, which starts with another run's weights if the recipe says so."""
    session = Session(recipe, pretraining(recipe, data, hardware, world), hardware, folder, started, world, lock)
    if recipe.run.init:
        session.begin_with(init_checkpoint(recipe.run.init))
    session.remarks += data.remarks
    return session


def _follow(said: dict[str, Any], started: float, world: World) -> Session:
    """The session of a process that follows the first process's decisions."""
    recipe = parse_recipe(said["recipe"], Path(said["folder"]) / "config.toml")
    hardware = choose(said["device"], said["dtype"], said["threads"], said["compile"])
    c = recipe.data
    tokenizer = tokenizer_of(recipe.run.init) or c.tokenizer
    data = corpus(c.data, tokenizer, **c.reading)
    return first_session(recipe, data, hardware, Path(said["folder"]), started, world)


def plan(known: Settings, data: Corpus, hardware: Hardware, elapsed: float) -> tuple[Recipe, Settings]:
    """The complete recipe: the dial chooses the settings that are not known, from the time that is left."""
    known = with_hardware(lower_rates(complete(known, data, hardware, elapsed), known), hardware)
    recipe, known = with_snapshots(make(known, data.tokenizer.vocabulary), known)
    for split in ("train", "validation"):
        have, need = len(getattr(data, split)), recipe.model.context + 1
        if have < need:
            raise InputError(
                f"The {split} split has {have} tokens, but a context of {need - 1} needs {need}; give more text or a "
                "smaller --context."
            )
    return recipe, known


def hardware_for(known: Settings, world: World | None = None) -> Hardware:
    """The machine, used as the known settings say. Several processes on one machine share its cores.

    If steps are given, no choice depends on timing, so that the same command makes the same choices each time.
    """
    world = world or World()
    get = {name: known[name].value for name in ("device", "dtype", "threads") if name in known}
    compiled = {"on": True, "off": False}.get(known["compile"].value) if "compile" in known else None
    if world.size > 1:
        get["threads"] = get.get("threads") or max(1, cores() // world.locals)
    timed = not ("steps" in known and known["steps"].value)
    hardware = choose(**get, compile=compiled, timed=timed)
    if hardware.device == "cuda" and world.locals > gpus():
        raise InputError(
            f"{world.locals} processes were started here, but there are {gpus()} GPUs; start one for each."
        )
    return hardware


def with_hardware(known: Settings, hardware: Hardware) -> Settings:
    """The known settings and how the machine is used, so that a run's settings are enough to repeat it."""
    used = {"dtype": hardware.dtype, **({"threads": hardware.threads} if hardware.device == "cpu" else {})}
    if not hardware.compile:
        used["compile"] = "off"
    open_ = {name: value for name, value in used.items() if name not in known or known[name].value in ("auto", 0)}
    return {**known, **{name: Setting(value, hardware.reasons.get(name, "")) for name, value in open_.items()}}


def as_decided(hardware: Hardware, recipe: Recipe, known: Settings) -> Hardware:
    """The machine, which compiles or does not, as the dial has decided."""
    compiled = recipe.run.compile == "on" or (recipe.run.compile == "auto" and hardware.compile)
    if compiled == hardware.compile:
        return hardware
    why = known["compile"].origin.removeprefix("dial: ")
    return replace(hardware, compile=compiled, reasons={**hardware.reasons, "compile": why})


def open_corpus(known: Settings) -> Corpus:
    """The corpus that the settings ask for."""
    c = DataConfig(**{f.name: known[f.name].value for f in fields(DataConfig) if f.name in known})
    tokenizer = tokenizer_of(known["init"].value) if is_warm_start(known) else None
    return corpus(c.data, tokenizer or c.tokenizer, **c.reading)
