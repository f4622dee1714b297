"""Flags from dataclasses by tyro, with errors in one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

import tyro

from quoth.system.errors import InputError

T = TypeVar("T")
_WANTED = {int: "a whole number", float: "a number"}


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


def declared(kind: type) -> list[Argument]:
    """The arguments of a command's dataclass."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return [
        _argument(f.name, hints[f.name], f.default is f.default_factory is dataclasses.MISSING)
        for f in dataclasses.fields(kind)
    ]


def parse(kind: type[T], arguments: Sequence[str], command: str) -> T:
    """The command's arguments as its dataclass.

    Raises:
        InputError: an unknown flag, a value that is missing or of the wrong kind.
        SystemExit: help was asked for, and printed.
    """
    arguments = list(_checked(declared(kind), arguments, command))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                kind,
                args=arguments,
                prog=f"quoth {command}",
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        words = re.sub(r"[╭╮╰╯─│]+", " ", said.getvalue().split("──── │")[0])
        raise InputError(f"{' '.join(words.split())} (see `quoth {command} --help`)") from None


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


def _checked(known: list[Argument], arguments: Sequence[str], command: str) -> Iterator[str]:
    """Pass the arguments on, refusing in a sentence what tyro would refuse in a box."""
    flags = {a.flag: a for a in known if not a.positional}
    places = [a for a in known if a.positional]
    remaining = iter(arguments)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        flag = flag.replace("_", "-")
        if argument in ("-h", "--help"):
            yield argument
        elif not argument.startswith("-") or argument == "-":
            if not places:
                raise InputError(f"`quoth {command}` has no use for {argument!r}; see `quoth {command} --help`.")
            place = places[0] if typing.get_origin(places[0].kind) is list else places.pop(0)
            _check(place.name.upper(), place, argument)
            yield argument
        elif flag not in flags:
            raise InputError(_unknown(flag, known, command))
        elif flags[flag].kind is bool:
            if equals:
                raise InputError(f"{flag} takes no value.")
            yield flag
        else:
            if not equals and (value := next(remaining, None)) is None:  # type: ignore[assignment]
                raise InputError(f"{flag} needs a value.")
            _check(flag, flags[flag], value)
            # In one word, so that a value may begin with a dash.
            yield f"{flag}={value}"
    if places and places[0].required and not {"-h", "--help"}.intersection(arguments):
        wanted = f": {', '.join(places[0].choices)}" if places[0].choices else ""
        raise InputError(f"`quoth {command}` needs {places[0].name.upper()}{wanted}.")


def _unknown(flag: str, known: list[Argument], command: str) -> str:
    if place := next((a for a in known if a.positional and a.flag == flag), None):
        return f"There is no flag {flag}: {place.name.upper()} is given without one."
    close = get_close_matches(flag, [a.flag for a in known if not a.positional] + ["--help"], n=1)
    # A command may have fifty flags, so they are listed only by its help.
    return f"There is no flag {flag} ({f'did you mean {close[0]!r}?' if close else f'see `quoth {command} --help`'})."


def _check(what: str, argument: Argument, value: str) -> None:
    if argument.choices and value.lower() not in argument.choices:
        raise InputError(f"{what} must be one of {', '.join(argument.choices)}, not {value!r}.")
    if argument.kind in (int, float):
        try:
            argument.kind(value)
        except ValueError:
            raise InputError(f"{what} must be {_WANTED[argument.kind]}, not {value!r}.") from None
