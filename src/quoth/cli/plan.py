"""`quoth plan`: predict what a run will take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import columns, print_json, warn
from quoth.cli.settings import given, with_settings, words
from quoth.system.errors import InputError, suggestion
from quoth.system.words import count, duration

ABOUT = """Predict what a run will take: parameters, FLOPs, memory, time and cost.

For this machine the prediction comes from a trial of twenty steps, and for a device named by --on from its data sheet.
The flags are those of `quoth train`.

Attributes:
    what: a preset, a run, or a published model: gpt2, gpt2-medium, gpt2-large, gpt2-xl, gpt3, llama2-7b, llama3-8b,
        llama3-405b.
    data: the text for a preset: a named corpus (shakespeare, plays), a UTF-8 file, or a folder of such files.
    on: the device: here, which is this machine, or t4, v100, l4, rtx3090, rtx4090, a100, h100, h200 or b200; when left
        out, here for a preset or a run, and h100 for a published model.
    count: how many such devices train together.
    tokens: how many tokens to train on; when left out, the run's, the published number, or 20 a parameter.
    utilization: the share of a device's FLOP/s that training reaches, communication between devices included.
    price: the price of one device for one hour, in any currency.
    json: print one JSON object on stdout.
"""


def arguments_class() -> type:
    """The class of the command's arguments: its own, and a flag for every setting of a recipe."""
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
    from quoth.recipes.forecast import counted, published, recipe_of, tried

    check(a)
    flags = given(a)
    if a.what in PUBLISHED:
        known = published(a.what, flags, a.on or "h100", a.count, a.tokens, a.utilization)
    else:
        recipe, compiled = recipe_of(a.what, flags, started)
        if a.on is None:
            warn(f"Twenty steps of {recipe.run.batch} windows are tried out, and then twenty of half as many.")
            known = tried(recipe, a.tokens, compiled=compiled)
        else:
            known = counted(recipe, a.on, a.count, a.tokens, a.utilization)
    hours = known["seconds"] / 3600 * known["count"]
    known = {"plan": a.what, **known, "device_hours": hours, "cost": hours * a.price if a.price else None}
    if a.json:
        print_json(known)
    else:
        print("\n".join(lines(known)))


def check(a: Any) -> None:
    """Refuse arguments that do not fit together.

    Raises:
        InputError: two of them do not, or one means nothing.
    """
    from quoth.plan.costs import UTILIZATION
    from quoth.plan.devices import DEVICES
    from quoth.plan.published import PUBLISHED

    a.on = None if a.on == "here" else a.on
    if not (a.count >= 1 and 0 < a.utilization <= 1 and a.tokens >= 0 and a.price >= 0):
        raise InputError("--count must be 1 or more, --utilization in (0, 1], and --tokens and --price 0 or more.")
    if any(getattr(a, name) is not None and getattr(a, name) < 1 for name in ("batch", "accumulate")):
        raise InputError("--batch and --accumulate must be 1 or more.")
    if a.on not in (None, *DEVICES):
        raise InputError(f"There is no device {a.on!r}{suggestion(a.on, ['here', *DEVICES])}.")
    if a.on is None and a.what not in PUBLISHED and (a.count > 1 or a.utilization != UTILIZATION):
        raise InputError("--count and --utilization are for devices that --on names; without it this machine is tried.")


def lines(known: dict[str, Any]) -> Iterator[str]:
    """The plan as lines for a person."""
    k = known
    published = f"; published {k['published_flops']:.3g}" if k.get("published_flops") else ""
    rows = [
        ["parameters", f"{k['parameters']:,}"],
        ["FLOPs", f"{k['flops_per_token']:.3g} a token, {k['flops']:.3g} in all{published}"],
        ["", f"attention's besides: {k['attention_flops_per_token'] / k['flops_per_token']:.1%}"],
        ["tokens", f"{count(k['tokens'])}, {count(k['tokens_per_step'])} a step"],
        ["", f"{count(k['compute_optimal_tokens'])} would be best for the size"],
        *memory_rows(k),
        *time_rows(k),
    ]
    if source := k.get("source"):
        rows.append(["source", source])
    yield from columns(rows)


def memory_rows(k: dict[str, Any]) -> Iterator[list[str]]:
    """Rows on the memory that the run takes, the largest batch that fits, and what to change if nothing fits."""
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
    """Rows on how long the run takes, on which devices, and what it costs."""
    step = f"{k['step_seconds'] * 1000:,.1f} ms" if k["step_seconds"] < 1 else f"{k['step_seconds']:,.1f} s"
    devices = f"{k['count']:,} × {k['device']}" if k["count"] > 1 else k["device"]
    assumed = f", at {k['utilization']:.0%} of what it can do" if "utilization" in k else ""
    yield ["step", f"{step} on {devices}{assumed}"]
    yield ["whole run", f"{count(k['steps'])} steps, {long(k['seconds'])}"]
    if k["count"] > 1:
        yield ["", f"{count(k['device_hours'])} hours of devices"]
    if k["cost"] is not None:
        yield ["cost", f"{k['cost']:,.2f}"]


def long(seconds: float) -> str:
    """A time as a person says it, in days or years if it is long."""
    days = seconds / 86400
    return duration(seconds) if days < 2 else f"{days:,.0f} days" if days < 730 else f"{days / 365:,.0f} years"
