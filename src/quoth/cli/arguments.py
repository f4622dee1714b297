"""A command's arguments from its dataclass, and its help from tyro. What is wrong is said in one sentence.

tyro's own parser would tell errors in boxes, and takes a sixth of a second for the flags of `quoth train`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import Any, Literal, NoReturn, TypeVar

import tyro

from quoth.system.errors import InputError

T = TypeVar("T")
_WANTED = {int: "a whole number", float: "a number"}
_METAVARS = {int: "N", float: "X", str: "TEXT"}


@dataclass(frozen=True)
class Argument:
    """An argument of a command, as its dataclass declares it. `kind` is its type without None."""

    name: str
    kind: Any
    choices: tuple[str, ...]
    positional: bool
    required: bool

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def repeats(self) -> bool:
        """Whether it may be given several times; its value is a list of texts."""
        return typing.get_origin(self.kind) is list


def declared(kind: type) -> list[Argument]:
    """The arguments of a command's dataclass."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return [
        _argument(f.name, hints[f.name], f.default is f.default_factory is dataclasses.MISSING)
        for f in dataclasses.fields(kind)
    ]


def parse(kind: type[T], arguments: Sequence[str], command: str) -> T:
    """The command's arguments as its dataclass. A flag's value may begin with a dash, and the last one given counts.

    Raises:
        InputError: an unknown flag, a value that is missing or of the wrong kind.
        SystemExit: help was asked for, and printed.
    """
    known = declared(kind)
    flags = {a.flag: a for a in known if not a.positional}
    places = [a for a in known if a.positional]
    values: dict[str, Any] = {}
    remaining = iter(arguments)
    for word in remaining:
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-")
        if word in ("-h", "--help"):
            _print_help(kind, command)
        elif not word.startswith("-") or word == "-":
            if not places:
                raise InputError(f"`quoth {command}` has no use for {word!r}; see `quoth {command} --help`.")
            place = places[0] if places[0].repeats else places.pop(0)
            _take(values, place, place.name.upper(), word)
        elif flag not in flags:
            raise InputError(_unknown(flag, known, command))
        elif flags[flag].kind is bool:
            if equals:
                raise InputError(f"{flag} takes no value.")
            values[flags[flag].name] = True
        else:
            given = value if equals else next(remaining, None)
            if given is None:
                raise InputError(f"{flag} needs a value.")
            _take(values, flags[flag], flag, given)
    if places and places[0].required and places[0].name not in values:
        wanted = f": {', '.join(places[0].choices)}" if places[0].choices else ""
        raise InputError(f"`quoth {command}` needs {places[0].name.upper()}{wanted}.")
    return kind(**values)


def _print_help(kind: type, command: str) -> NoReturn:
    tyro.cli(
        _for_help(kind),
        args=["--help"],
        prog=f"quoth {command}",
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    raise SystemExit(0)


def _for_help(kind: type) -> type:
    """The dataclass as help should show it: N, X or TEXT for a value, and no default that tells nothing."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = []
    for field, argument in zip(dataclasses.fields(kind), declared(kind), strict=True):
        hint: Any = hints[field.name]
        if not any(hasattr(extra, "metavar") for extra in getattr(hint, "__metadata__", ())):
            metavar = _METAVARS.get(argument.kind)
            if argument.positional:
                metavar = field.name.upper() if argument.required else f"[{field.name.upper()}]"
            tells_nothing = argument.kind is not int and field.default in (False, "", 0.0)
            shown = tyro.conf.arg(metavar=metavar, help_behavior_hint="" if tells_nothing else None)
            hint = typing.Annotated[hint, shown]
        fields.append((field.name, hint, _default(field)))
    return dataclasses.make_dataclass(kind.__name__, fields, namespace={"__doc__": kind.__doc__})


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    return dataclasses.field(default=field.default)


def _argument(name: str, hint: Any, required: bool) -> Argument:
    extras = []
    if typing.get_origin(hint) is typing.Annotated:
        extras, hint = list(hint.__metadata__), hint.__origin__
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(h for h in typing.get_args(hint) if h is not types.NoneType)
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    metavar = next((m for extra in extras if (m := getattr(extra, "metavar", None))), "")
    choices = choices or (tuple(metavar.split("|")) if "|" in metavar else ())
    return Argument(name, hint, choices, any("Positional" in str(extra) for extra in extras), required)


def _unknown(flag: str, known: list[Argument], command: str) -> str:
    if place := next((a for a in known if a.positional and a.flag == flag), None):
        return f"There is no flag {flag}: {place.name.upper()} is given without one."
    close = get_close_matches(flag, [a.flag for a in known if not a.positional] + ["--help"], n=1)
    # A command may have fifty flags, so they are listed only by its help.
    return f"There is no flag {flag} ({f'did you mean {close[0]!r}?' if close else f'see `quoth {command} --help`'})."


def _take(values: dict[str, Any], argument: Argument, what: str, text: str) -> None:
    """Add an argument's value to those that were given before."""
    if argument.repeats:
        values.setdefault(argument.name, []).append(text)
    else:
        values[argument.name] = _converted(argument, what, text)


def _converted(argument: Argument, what: str, text: str) -> Any:
    if argument.choices:
        if text.lower() not in argument.choices:
            raise InputError(f"{what} must be one of {', '.join(argument.choices)}, not {text!r}.")
        return text.lower()
    if argument.kind not in _WANTED:
        return text
    try:
        number = argument.kind(text)
    except ValueError:
        raise InputError(f"{what} must be {_WANTED[argument.kind]}, not {text!r}.") from None
    if not isfinite(number):
        raise InputError(f"{what} must be a finite number, not {text}.")
    if argument.kind is int and not -(2**63) <= number < 2**63:
        raise InputError(f"{what} must be below 2⁶³ = {2**63:,}, not {text}.")
    return number
