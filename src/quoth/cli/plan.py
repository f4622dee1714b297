"""`quoth plan`: what a run will take, before it is made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import columns, count, duration, print_json
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
    on: this machine (here), or t4, v100, l4, rtx3090, rtx4090, a100, h100, h200, b200.
    count: how many devices.
    tokens: how many tokens to train on; what the run would see, was published, or is best for the size.
    utilization: the share of a device's FLOP/s that training reaches.
    price: of a device and hour, in the currency that you like.
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

    from quoth.plan.devices import DEVICES
    from quoth.plan.published import PUBLISHED

    if a.count < 1 or not 0 < a.utilization <= 1 or a.tokens < 0 or a.price < 0:
        raise InputError("--count must be 1 or more, --utilization in (0, 1], and --tokens and --price 0 or more.")
    if a.on not in (None, "here", *DEVICES):
        raise InputError(f"There is no device {a.on!r}{suggestion(a.on, ['here', *DEVICES])}.")
    if a.what in PUBLISHED:
        known = published(a)
    else:
        recipe = recipe_of(a, started)
        known = tried(recipe) if a.on in (None, "here") else counted(a, recipe)
    hours = known["seconds"] / 3600 * a.count
    known = {"plan": a.what, **known, "device_hours": hours, "cost": hours * a.price if a.price else None}
    if a.json:
        print_json(known)
    else:
        print("\n".join(lines(known)))


def published(a: Any) -> dict[str, Any]:
    """A published model on devices of the table."""
    from quoth.plan.devices import DEVICES
    from quoth.plan.predict import predict
    from quoth.plan.published import PUBLISHED

    one, device = PUBLISHED[a.what], DEVICES["h100" if a.on in (None, "here") else a.on]
    how = {name: getattr(a, name) for name in ("batch", "accumulate", "optimizer") if getattr(a, name)}
    tokens = a.tokens or one.tokens
    made = predict(one.config, device, a.count, tokens=tokens, utilization=a.utilization, **how)
    said = {"published_flops": one.flops or None, "source": one.source}
    return {**asdict(made), "device": device.name, "count": a.count, **said}


def recipe_of(a: Any, started: float) -> Recipe:
    """The recipe of a run, or what a preset comes to with this machine and text."""
    from quoth.recipes.presets import PRESETS
    from quoth.recipes.recipe import read_recipe, settings
    from quoth.recipes.start import hardware_for, open_corpus, plan
    from quoth.train.run import find_run

    if a.what not in PRESETS:
        return read_recipe(find_run(a.what))
    known = settings(a.what, None, given(a))
    hardware = hardware_for(known)
    recipe, _ = plan(known, open_corpus(known), hardware, time.monotonic() - started)
    return recipe


def counted(a: Any, recipe: Recipe) -> dict[str, Any]:
    """A recipe on devices of the table."""
    from quoth.plan.devices import DEVICES
    from quoth.plan.predict import predict

    c, run = recipe.model, recipe.run
    made = predict(
        c,
        DEVICES[a.on],
        a.count,
        tokens=a.tokens or run.steps * run.batch * run.accumulate * c.context,
        batch=-(-run.batch * run.accumulate // (run.accumulate * a.count)),
        accumulate=run.accumulate,
        optimizer=recipe.optimizer.optimizer,
        shard=run.shard,
        recompute=run.recompute,
        utilization=a.utilization,
    )
    return {**asdict(made), "device": DEVICES[a.on].name, "count": a.count}


def tried(recipe: Recipe) -> dict[str, Any]:
    """A recipe on this machine, by twenty steps of it, and twenty of half the batch."""
    from quoth.plan.calibrate import calibrate
    from quoth.plan.costs import OPTIMAL_TOKENS, attention_flops_per_token, flops_per_token
    from quoth.plan.memory import parameters
    from quoth.recipes.recipe import to_toml, with_origins
    from quoth.system.memory import available_bytes

    def trial(batch: int) -> Trial:
        halved = replace(recipe, run=replace(recipe.run, batch=batch))
        return calibrate(to_toml(with_origins(halved, lambda name: "as planned")))

    c, run, count = recipe.model, recipe.run, parameters(recipe.model)
    whole, half = trial(run.batch), trial(max(1, run.batch // 2))
    window = (whole.peak_bytes - half.peak_bytes) / max(1, run.batch - run.batch // 2)
    free = (available_bytes("cpu") or 0) - whole.peak_bytes
    tokens_per_step = run.batch * run.accumulate * c.context
    steps = run.steps or 60 * run.minutes / whole.step_seconds
    return {
        "parameters": count,
        "flops_per_token": flops_per_token(c),
        "attention_flops_per_token": attention_flops_per_token(c),
        "flops": steps * tokens_per_step * flops_per_token(c),
        "memory_bytes": whole.peak_bytes,
        "fits": True,
        "largest_batch": run.batch + max(0, int(free / window)) if window > 0 else None,
        "batch": run.batch,
        "tokens": steps * tokens_per_step,
        "tokens_per_step": tokens_per_step,
        "steps": steps,
        "step_seconds": whole.step_seconds,
        "seconds": steps * whole.step_seconds,
        "compute_optimal_tokens": OPTIMAL_TOKENS * count,
        "device": "this machine",
        "count": 1,
    }


def lines(known: dict[str, Any]) -> Iterator[str]:
    """The plan for a person."""
    from quoth.system.memory import size

    k, many = known, f"{known['count']:,} × " if known["count"] > 1 else ""
    step = f"{k['step_seconds'] * 1000:,.1f} ms" if k["step_seconds"] < 1 else f"{k['step_seconds']:,.1f} s"
    published = f"; published {k['published_flops']:.3g}" if k.get("published_flops") else ""
    rows = [
        ["parameters", f"{k['parameters']:,}"],
        ["FLOPs", f"{k['flops_per_token']:.3g} a token, {k['flops']:.3g} in all{published}"],
        ["", f"attention's, not in these, {k['attention_flops_per_token'] / k['flops_per_token']:.1%} more"],
        ["tokens", f"{count(k['tokens'])}, {count(k['tokens_per_step'])} a step; {count(k['compute_optimal_tokens'])} "
         "would be best for the size"],
        ["memory", f"{size(k['memory_bytes'])} at its peak, with {k['batch']:,} windows"],
    ]  # fmt: skip
    if parts := k.get("memory"):
        named = [f"{name} {size(value)}" for name, value in parts.items() if value and name != "cache"]
        rows += [["", ", ".join(named)], ["cache", f"{size(parts['cache'])} for a window when it generates"]]
    if k.get("sharded"):
        rows.append(["", f"spread over {k['count']:,} devices (--shard)"])
    if not k["fits"]:
        rows.append(["", f"more than {k['device']} has; more devices, --shard, --recompute or a smaller batch"])
    elif k["largest_batch"]:
        rows.append(["", f"{k['largest_batch']:,} windows would fit"])
    rows += [
        ["step", f"{step} on {many}{k['device']}"],
        ["whole run", f"{count(k['steps'])} steps, {long(k['seconds'])}"],
    ]
    if k["count"] > 1:
        rows.append(["", f"{count(k['device_hours'])} hours of devices"])
    if k["cost"] is not None:
        rows.append(["cost", f"{k['cost']:,.2f}"])
    if source := k.get("source"):
        rows.append(["source", source])
    yield from columns(rows)


def long(seconds: float) -> str:
    """A time that may be years."""
    days = seconds / 86400
    return duration(seconds) if days < 2 else f"{days:,.0f} days" if days < 730 else f"{days / 365:,.0f} years"
