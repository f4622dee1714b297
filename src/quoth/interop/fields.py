"""The fields of a description that somebody else wrote, read by name and type."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from quoth.system.errors import InputError, plain, short

MOST = 2**31 - 1


class Fields:
    """Fields that are asked for one by one; `finish` refuses those that nobody asked for.

    >>> fields = Fields({"width": 8, "twist": 3}, "config.json")
    >>> fields.whole("width")
    8
    >>> fields.finish()
    Traceback (most recent call last):
    quoth.system.errors.InputError: config.json has twist 3, which quoth does not know.
    """

    def __init__(self, values: Mapping[str, Any], file: str) -> None:
        self._values, self._file = values, file
        self._known: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def get(self, name: str) -> Any:
        """The value as it is, or None."""
        self._known.add(name)
        return self._values.get(name)

    def needed(self, name: str) -> Any:
        """A value that must be there."""
        if (value := self.get(name)) is None:
            raise InputError(f"{self._file} says nothing of {name}.")
        return value

    def whole(self, name: str, default: int | None = None, most: int = MOST) -> int:
        """A whole number from 1 to `most`; without a default it must be there."""
        value = self.needed(name) if default is None else self.get(name)
        if value is None and default is not None:
            return default
        if type(value) is not int or not 1 <= value <= most:
            raise InputError(f"{self._file} has {name} {short(value)}, which is no whole number from 1 to {most:,}.")
        return value

    def positive(self, name: str, default: float | None = None) -> float:
        """A finite number above 0; without a default it must be there."""
        value = self.needed(name) if default is None else self.get(name)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            raise InputError(f"{self._file} has {name} {short(value)}, which is no number above 0.")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """A truth value."""
        value = self.get(name)
        if value is None:
            return default
        if type(value) is not bool:
            raise InputError(f"{self._file} has {name} {short(value)}, which is neither true nor false.")
        return value

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse a value that makes a model of another kind; a field may be missing or null."""
        value = self.get(name)
        known = isinstance(value, bool | int | float | str | list | dict) and value in allowed
        if value is not None and not known:
            raise InputError(f"{self._file} has {name} {short(value)}, which quoth does not know.")

    def ignore(self, names: Iterable[str]) -> None:
        """Let fields pass that change nothing."""
        self._known.update(names)

    def finish(self) -> None:
        """Refuse what was not asked for."""
        for name, value in self._values.items():
            if name not in self._known and value is not None:
                raise InputError(f"{self._file} has {plain(name)} {short(value)}, which quoth does not know.")
