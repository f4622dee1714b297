"""Forecast the time and memory of a recipe or a published model, computed for a known GPU or tried on this machine."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

from quoth.plan.calibrate import Trial, calibrate
from quoth.plan.costs import OPTIMAL_TOKENS, attention_flops_per_token, flops_per_token, step_seconds
from quoth.plan.devices import DEVICES
from quoth.plan.footprint import memory, parameters
from quoth.plan.predict import predict
from quoth.plan.published import PUBLISHED
from quoth.recipes.presets import PRESETS
from quoth.recipes.recipe import HOME, Recipe, read_recipe, settings, to_toml, with_origins
from quoth.recipes.start import hardware_for, open_corpus, plan
from quoth.recipes.warm_start import with_shape_of_init
from quoth.system.device import can_compile
from quoth.system.errors import InputError
from quoth.system.memory import available_bytes
from quoth.text.batches import shares
from quoth.train.run import find_run

# The share of a run's minutes that is left for steps besides evaluations.
STEPS_SHARE = 0.97
# A difference in memory smaller than this share of the whole is noise.
NOISE = 0.002


def published(
    name: str, flags: dict[str, Any], on: str, count: int, tokens: float, utilization: float
) -> dict[str, Any]:
    """What training a published model takes on `count` GPUs of the kind `on`; `flags` may change its shape.

    Raises:
        InputError: a flag does not affect the forecast.
    """
    one, device = PUBLISHED[name], DEVICES[on]
    changed = {flag: value for flag, value in flags.items() if HOME[flag] == "model" and flag != "family"}
    how = {n: flags[n] for n in ("batch", "accumulate", "optimizer", "shard", "recompute") if n in flags}
    if ignored := [flag for flag in flags if flag not in {*changed, *how}]:
        raise InputError(f"--{ignored[0].replace('_', '-')} does not apply to {name}; leave it out.")
    config = one.config.replace(**changed)
    made = predict(config, device, count, tokens=tokens or one.tokens, utilization=utilization, **how)
    said = {} if changed else {"published_flops": one.flops or None, "source": one.source}
    return {**asdict(made), "device": device.name, "count": count, "utilization": utilization, **said}


def recipe_of(what: str, flags: dict[str, Any], started: float) -> tuple[Recipe, bool]:
    """The recipe of a run, or of a preset on this machine and text; and whether the run would be compiled.

    Raises:
        InputError: there is no such run, or flags were given for a run, which has its own settings.
    """
    if what not in PRESETS:
        recipe = read_recipe(find_run(what))
        if flags:
            raise InputError(f"The run {what} has its own settings; leave out --{min(flags).replace('_', '-')}.")
        return recipe, recipe.run.compile == "on" or (recipe.run.compile == "auto" and can_compile("cpu")[0])
    known = with_shape_of_init(settings(what, None, flags))
    hardware = hardware_for(known)
    recipe, _ = plan(known, open_corpus(known), hardware, time.monotonic() - started)
    return recipe, hardware.compile


def counted(recipe: Recipe, on: str, count: int, tokens: float, utilization: float) -> dict[str, Any]:
    """What a recipe takes on `count` GPUs of the kind `on`; if it gives minutes, as many steps as fit are taken."""
    c, run, device = recipe.model, recipe.run, DEVICES[on]
    batch, each = shares(run.batch, run.accumulate, count)
    tokens_per_step = run.batch * run.accumulate * c.context
    took = step_seconds(c, tokens_per_step, device, count, utilization, recompute=run.recompute)
    made = predict(
        c,
        device,
        count,
        tokens=tokens or tokens_per_step * (run.steps or 60 * run.minutes / took),
        batch=batch,
        accumulate=each // batch,
        optimizer=recipe.optimizer.optimizer,
        shard=run.shard,
        recompute=run.recompute,
        utilization=utilization,
    )
    return {**asdict(made), "device": device.name, "count": count, "utilization": utilization}


def tried(recipe: Recipe, tokens: float, *, compiled: bool) -> dict[str, Any]:
    """What a recipe takes on this machine, from a trial of twenty steps and another with half the batch."""

    def trial(batch: int) -> Trial:
        changed = replace(recipe, run=replace(recipe.run, batch=batch))
        return calibrate(to_toml(with_origins(changed, lambda name: "as planned")), compiled=compiled)

    c, run, each = recipe.model, recipe.run, parameters(recipe.model)
    whole, half = trial(run.batch), trial(max(1, run.batch // 2))
    largest, free, window = None, available_bytes(run.device if run.device != "auto" else "cpu"), 0.0
    if run.batch > 1 and whole.peak_bytes and half.peak_bytes:
        window = (whole.peak_bytes - half.peak_bytes) / (run.batch - run.batch // 2)
    if free and whole.peak_bytes and window > NOISE * whole.peak_bytes:
        largest = run.batch + max(0, int((free - whole.peak_bytes) / window))
    tokens_per_step = run.batch * run.accumulate * c.context
    left = max(0.0, STEPS_SHARE * 60 * run.minutes - whole.other_seconds)
    steps = tokens / tokens_per_step or run.steps or left / whole.step_seconds
    return {
        "parameters": each,
        "flops_per_token": flops_per_token(c),
        "attention_flops_per_token": attention_flops_per_token(c),
        "flops": steps * tokens_per_step * flops_per_token(c),
        "memory": asdict(memory(c, run.batch, optimizer=recipe.optimizer.optimizer, compiled=compiled)),
        "memory_bytes": whole.peak_bytes,
        "fits": True,
        "largest_batch": largest,
        "batch": run.batch,
        "tokens": steps * tokens_per_step,
        "tokens_per_step": tokens_per_step,
        "steps": steps,
        "step_seconds": whole.step_seconds,
        "seconds": steps * whole.step_seconds + whole.other_seconds,
        "compute_optimal_tokens": OPTIMAL_TOKENS * each,
        "device": "this machine",
        "count": 1,
    }
