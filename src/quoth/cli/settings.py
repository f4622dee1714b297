"""Flags for the settings of a recipe, for the commands that accept settings."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection
from typing import Annotated, Any, Literal

import tyro


def with_settings(
    name: str, about: str, own: list[tuple[str, Any, Any]], leave_out: Collection[str] | None = None
) -> type:
    """The class of a command's arguments: its own, given as (name, type, default), and the settings of a recipe.

    `about` is the docstring of the class up to the lines that document the settings, which are added to it. Some
    settings are left out: those to `leave_out`, which are those of tuning if not given; the vocabulary, which the
    tokenizer decides; and the pace, which a finished run has measured.
    """
    from quoth.recipes.recipe import SECTIONS, TUNE_SETTINGS

    taken = {"vocabulary", "pace", *(field for field, _, _ in own)}
    taken |= set(TUNE_SETTINGS if leave_out is None else leave_out)
    fields = list(own)
    for section in SECTIONS.values():
        about += _documented(section, taken)
        fields += [
            (f.name, _optional(section, f.name), None) for f in dataclasses.fields(section) if f.name not in taken
        ]
    specs = [(field, hint, dataclasses.field(default=default)) for field, hint, default in fields]
    return dataclasses.make_dataclass(name, specs, namespace={"__doc__": about})


def given(arguments: Any) -> dict[str, Any]:
    """The settings that were given as flags, by name."""
    from quoth.recipes.recipe import HOME, SECTIONS, boolean

    values = {name: getattr(arguments, name) for name in HOME if getattr(arguments, name, None) is not None}
    for name, value in values.items():
        if typing.get_type_hints(SECTIONS[HOME[name]])[name] is bool:
            values[name] = boolean(name, value)
    return values


def words(metavar: str) -> Any:
    """The type of a text flag that may be left out; help shows no default for it."""
    return Annotated[str | None, tyro.conf.arg(metavar=metavar, help_behavior_hint="")]


def _optional(section: type, name: str) -> Any:
    """The type of the flag for a setting of a recipe's section."""
    hint = typing.get_type_hints(section)[name]
    if typing.get_origin(hint) is Literal:
        metavar = "|".join(typing.get_args(hint))
    else:
        metavar = {int: "N", float: "X", bool: "true|false"}.get(hint, "TEXT")
        hint = str if hint is bool else hint
    return Annotated[hint | None, tyro.conf.arg(metavar=metavar, help_behavior_hint="")]


def _documented(section: type, leave_out: set[str]) -> str:
    """The lines of a config's docstring that document its fields."""
    lines = (section.__doc__ or "").partition("Attributes:")[2].partition("\n\n")[0].splitlines()
    kept = (line.strip() for line in lines if line.strip() and line.partition(":")[0].strip() not in leave_out)
    return "".join(f"    {line}\n" for line in kept)
