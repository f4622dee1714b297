"""`quoth plan`: what a run will take, before it is made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from math import inf
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import columns, count, duration, print_json, warn
from quoth.cli.settings import given, with_settings, words
from quoth.system.errors import InputError, suggestion

if TYPE_CHECKING:
    from quoth.plan.calibrate import Trial
    from quoth.recipes.recipe import Recipe

ABOUT = """Say what a run will take: parameters, FLOPs, memory, time.

On this machine twenty steps are tried out; on a device of the table it is counted. The flags are those of
`quoth train`.

Attributes:
    what: a preset, a run, or a published model: gpt2, gpt2-medium, gpt2-large, gpt2-xl, gpt3, llama2-7b, llama3-8b,
        llama3-405b.
    data: a named corpus (shakespeare, plays), a UTF-8 file, or a folder of them, for a preset.
    on: here, which is this machine, or t4, v100, l4, rtx3090, rtx4090, a100, h100, h200, b200; for a published model
        h100 when left out.
    count: how many devices.
    tokens: how many tokens to train on; when left out, the run's, the published ones, or 20 a parameter.
    utilization: the share of a device's FLOP/s that training reaches, what devices tell each other included.
    price: of one device for one hour, in any currency.
    json: one JSON object on stdout.
"""


def arguments_class() -> type:
    """The command's own arguments, and a flag for every setting of a recipe."""
    own: list[tuple[str, Any, Any]] = [
        ("what", tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[WHAT]")]], "laptop"),
        ("data", words("DATA"), None),
        ("on", words("DEVICE"), None),
        ("count", int, 1),
        ("tokens", float, 0.0),
        ("utilization", float, 0.4),
        ("price", float, 0.0),
        ("json", Annotated[bool, tyro.conf.arg(help_behavior_hint="")], False),
    ]
    return with_settings("Plan", ABOUT, own)


def main(arguments: list[str], started: float) -> None:
    a: Any = parse(arguments_class(), arguments, "plan")

    from quoth.plan.published import PUBLISHED

    check(a)
    if a.what in PUBLISHED:
        known = published(a)
    else:
        recipe, compiled = recipe_of(a, started)
        known = tried(recipe, a.tokens, compiled=compiled) if a.on is None else counted(a, recipe)
    hours = known["seconds"] / 3600 * known["count"]
    known = {"plan": a.what, **known, "device_hours": hours, "cost": hours * a.price if a.price else None}
    if a.json:
        print_json(known)
    else:
        print("\n".join(lines(known)))


def check(a: Any) -> None:
    """Refuse what does not fit together.

    Raises:
        InputError: it does not.
    """
    from quoth.plan.costs import UTILIZATION
    from quoth.plan.devices import DEVICES
    from quoth.plan.published import PUBLISHED

    a.on = None if a.on == "here" else a.on
    if not (a.count >= 1 and 0 < a.utilization <= 1 and 0 <= a.tokens < inf and 0 <= a.price < inf):
        raise InputError("--count must be 1 or more, --utilization in (0, 1], and --tokens and --price 0 or more.")
    if any(getattr(a, name) is not None and getattr(a, name) < 1 for name in ("batch", "accumulate")):
        raise InputError("--batch and --accumulate must be 1 or more.")
    if a.on not in (None, *DEVICES):
        raise InputError(f"There is no device {a.on!r}{suggestion(a.on, ['here', *DEVICES])}.")
    if a.on is None and a.what not in PUBLISHED and (a.count > 1 or a.utilization != UTILIZATION):
        raise InputError("--count and --utilization are for devices of the table; name one with --on.")


def published(a: Any) -> dict[str, Any]:
    """A published model, or one of its shape with some values changed, on devices of the table.

    Raises:
        InputError: a setting that says nothing of it.
    """
    from quoth.plan.devices import DEVICES
    from quoth.plan.predict import predict
    from quoth.plan.published import PUBLISHED
    from quoth.recipes.recipe import HOME

    flags, one, device = given(a), PUBLISHED[a.what], DEVICES[a.on or "h100"]
    changed = {name: value for name, value in flags.items() if HOME[name] == "model" and name != "family"}
    how = {n: flags[n] for n in ("batch", "accumulate", "optimizer", "shard", "recompute") if n in flags}
    if ignored := [name for name in flags if name not in {*changed, *how}]:
        raise InputError(f"--{ignored[0].replace('_', '-')} says nothing of {a.what}; leave it out.")
    tokens = a.tokens or one.tokens
    made = predict(one.config.replace(**changed), device, a.count, tokens=tokens, utilization=a.utilization, **how)
    said = {} if changed else {"published_flops": one.flops or None, "source": one.source}
    return {**asdict(made), "device": device.name, "count": a.count, "utilization": a.utilization, **said}


def recipe_of(a: Any, started: float) -> tuple[Recipe, bool]:
    """The recipe of a run, or what a preset comes to with this machine and text; and whether it would be compiled.

    Raises:
        InputError: there is no such run, or settings were given for one that has its own.
    """
    from quoth.recipes.presets import PRESETS
    from quoth.recipes.recipe import read_recipe, settings
    from quoth.recipes.start import hardware_for, open_corpus, plan
    from quoth.system.device import can_compile
    from quoth.train.run import find_run

    flags = given(a)
    if a.what not in PRESETS:
        recipe = read_recipe(find_run(a.what))
        if flags:
            raise InputError(f"The run {a.what} has its settings; leave out --{min(flags).replace('_', '-')}.")
        return recipe, recipe.run.compile == "on" or (recipe.run.compile == "auto" and can_compile("cpu")[0])
    known = settings(a.what, None, flags)
    hardware = hardware_for(known)
    recipe, _ = plan(known, open_corpus(known), hardware, time.monotonic() - started)
    return recipe, hardware.compile


def counted(a: Any, recipe: Recipe) -> dict[str, Any]:
    """A recipe on devices of the table; one in minutes takes as many steps as fit into them."""
    from quoth.plan.costs import step_seconds
    from quoth.plan.devices import DEVICES
    from quoth.plan.predict import predict
    from quoth.text.batches import shares

    c, run, device = recipe.model, recipe.run, DEVICES[a.on]
    batch, each = shares(run.batch, run.accumulate, a.count)
    tokens_per_step = run.batch * run.accumulate * c.context
    took = step_seconds(c, tokens_per_step, device, a.count, a.utilization, recompute=run.recompute)
    made = predict(
        c,
        device,
        a.count,
        tokens=a.tokens or tokens_per_step * (run.steps or 60 * run.minutes / took),
        batch=batch,
        accumulate=each // batch,
        optimizer=recipe.optimizer.optimizer,
        shard=run.shard,
        recompute=run.recompute,
        utilization=a.utilization,
    )
    return {**asdict(made), "device": device.name, "count": a.count, "utilization": a.utilization}


def tried(recipe: Recipe, tokens: float, *, compiled: bool) -> dict[str, Any]:
    """A recipe on this machine, by twenty steps of it, and twenty of half the batch."""
    from quoth.plan.calibrate import calibrate
    from quoth.plan.costs import OPTIMAL_TOKENS, attention_flops_per_token, flops_per_token
    from quoth.plan.memory import memory, parameters
    from quoth.recipes.recipe import to_toml, with_origins
    from quoth.system.memory import available_bytes

    def trial(batch: int) -> Trial:
        changed = replace(recipe, run=replace(recipe.run, batch=batch))
        return calibrate(to_toml(with_origins(changed, lambda name: "as planned")), compiled=compiled)

    c, run, each = recipe.model, recipe.run, parameters(recipe.model)
    warn(f"trying out twenty steps of {run.batch} windows, and of half as many")
    whole, half = trial(run.batch), trial(max(1, run.batch // 2))
    largest, free, window = None, available_bytes(run.device if run.device != "auto" else "cpu"), 0.0
    if run.batch > 1 and whole.peak_bytes and half.peak_bytes:
        window = (whole.peak_bytes - half.peak_bytes) / (run.batch - run.batch // 2)
    if free and whole.peak_bytes and window > 0.002 * whole.peak_bytes:  # Less is noise.
        largest = run.batch + max(0, int((free - whole.peak_bytes) / window))
    tokens_per_step = run.batch * run.accumulate * c.context
    left = max(0.0, 60 * run.minutes * 0.97 - whole.other_seconds)  # Evaluations take 3%.
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


def lines(known: dict[str, Any]) -> Iterator[str]:
    """The plan for a person."""
    k = known
    published = f"; published {k['published_flops']:.3g}" if k.get("published_flops") else ""
    rows = [
        ["parameters", f"{k['parameters']:,}"],
        ["FLOPs", f"{k['flops_per_token']:.3g} a token, {k['flops']:.3g} in all{published}"],
        ["", f"attention's besides: {k['attention_flops_per_token'] / k['flops_per_token']:.1%}"],
        ["tokens", f"{many(k['tokens'])}, {many(k['tokens_per_step'])} a step"],
        ["", f"{many(k['compute_optimal_tokens'])} would be best for the size"],
        *memory_rows(k),
        *time_rows(k),
    ]
    if source := k.get("source"):
        rows.append(["source", source])
    yield from columns(rows)


def memory_rows(k: dict[str, Any]) -> Iterator[list[str]]:
    """What it holds, what would fit, and what to do where it does not."""
    from quoth.system.memory import size

    windows = f"{k['batch']:,} window{'s' * (k['batch'] != 1)}"
    yield ["memory", f"{size(k['memory_bytes'])} at its peak with {windows}" if k["memory_bytes"] else "not told here"]
    parts = {name: value for name, value in k["memory"].items() if value and name not in ("cache", "working")}
    yield ["", "counted: " + ", ".join(f"{name} {size(value)}" for name, value in parts.items())]
    if k.get("sharded") and k["count"] > 1:
        yield ["", f"weights, gradients and optimizer spread over {k['count']:,} devices (--shard true)"]
    if not k["fits"]:
        yield ["", f"more than {k['device']} has; --recompute true, more devices or a shorter --context would help"]
    elif k["largest_batch"]:
        yield ["", f"{k['largest_batch']:,} would fit"]
    yield ["cache", f"{size(k['memory']['cache'])} for a window, when it generates"]


def time_rows(k: dict[str, Any]) -> Iterator[list[str]]:
    """How long, on what, and for how much."""
    step = f"{k['step_seconds'] * 1000:,.1f} ms" if k["step_seconds"] < 1 else f"{k['step_seconds']:,.1f} s"
    devices = f"{k['count']:,} × {k['device']}" if k["count"] > 1 else k["device"]
    assumed = f", at {k['utilization']:.0%} of what it can do" if "utilization" in k else ""
    yield ["step", f"{step} on {devices}{assumed}"]
    yield ["whole run", f"{many(k['steps'])} steps, {long(k['seconds'])}"]
    if k["count"] > 1:
        yield ["", f"{many(k['device_hours'])} hours of devices"]
    if k["cost"] is not None:
        yield ["cost", f"{k['cost']:,.2f}"]


def many(number: float) -> str:
    """A number that may be trillions."""
    return f"{number / 1e12:.1f}T" if number >= 1e12 else count(number)


def long(seconds: float) -> str:
    """A time that may be years."""
    days = seconds / 86400
    return duration(seconds) if days < 2 else f"{days:,.0f} days" if days < 730 else f"{days / 365:,.0f} years"
