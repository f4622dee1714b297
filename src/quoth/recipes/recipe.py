"""A recipe: everything that a run is decided by, and for each value where it came from."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

from quoth.model.config import GPTConfig, family
from quoth.recipes.presets import PRESETS
from quoth.system.errors import InputError, suggestion
from quoth.system.files import write_atomic
from quoth.train.optimizers import OptimizerConfig
from quoth.train.schedule import Pace


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read.

    Attributes:
        data: a named corpus (shakespeare, plays), a file, folder or zip archive of texts; several with commas between.
        tokenizer: characters, bytes, bpe:N (such as bpe:1024) or gpt2.
        separator: what stands between documents where the tokenizer has no end token, and where plain text is split.
        column: the column of tables, or the key of JSON rows, that holds the text.
        keep_newlines: whether the line breaks of Windows stay as they are.
    """

    data: str = "shakespeare"
    tokenizer: str = "characters"
    separator: str = ""
    column: str = ""
    keep_newlines: bool = False

    @property
    def reading(self) -> dict[str, Any]:
        """How documents are read, as `corpus` takes it."""
        return {"separator": self.separator, "column": self.column, "keep_newlines": self.keep_newlines}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long, how much at a time, and on what.

    Attributes:
        minutes: the time that the whole command may take; 0 where steps decide.
        steps: the number of steps; 0 where minutes decide.
        pace: after which step each 256th part of the minutes began, as a finished run says, to repeat it step by step.
        init: a run whose weights, shape and tokenizer this one begins with.
        batch: windows in a microbatch.
        accumulate: microbatches in a step.
        seed: of weights, batches, dropout and samples.
        evaluate_every: steps between evaluations; 0 spends at most 3% of the time on them.
        validation_tokens: how much of the validation split judges; 0 for all of it.
        checkpoint_every: steps between checkpoints, besides those before evaluations; 0 for none.
        checkpoint_minutes: minutes after which there is one in any case.
        keep_last: how many of the newest checkpoints are kept, besides the best.
        keep_every: of steps that are a multiple of it the checkpoint is kept for good; 0 for none.
        spikes: steps whose loss lies so many standard deviations above the last ones are left out; 0 takes all.
        sample_tokens: how much is sampled at each evaluation; 0 for nothing.
        device: auto, cpu, cuda or mps.
        dtype: auto, bfloat16 or float32.
        deterministic: on a GPU, only algorithms that give the same bits each time; a CPU's do anyway.
        shard: spread weights, gradients and optimizer over all processes (FSDP2), for models that no device holds.
        recompute: keep a block's input only and compute it again going backward: less memory, a third more time.
        threads: for a CPU; 0 tries what is best.
        compile: auto, on or off.
    """

    minutes: float = 0.0
    steps: int = 0
    pace: str = ""
    init: str = ""
    batch: int = 32
    accumulate: int = 1
    seed: int = 1337
    evaluate_every: int = 0
    validation_tokens: int = 0
    checkpoint_every: int = 0
    checkpoint_minutes: float = 5.0
    keep_last: int = 2
    keep_every: int = 0
    spikes: float = 6.0
    sample_tokens: int = 150
    device: str = "auto"
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    threads: int = 0
    deterministic: bool = False
    shard: bool = False
    recompute: bool = False
    compile: Literal["auto", "on", "off"] = "auto"

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "keep_last"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}.")
        counts = ("evaluate_every", "checkpoint_every", "keep_every", "sample_tokens", "threads", "seed")
        if self.validation_tokens == 1:
            raise InputError("validation_tokens must be 0, for all, or at least 2: a loss needs a token before it.")
        for name in ("minutes", "steps", "checkpoint_minutes", "spikes", "validation_tokens", *counts):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} must be 0 or more, not {getattr(self, name)}.")
        if not (self.minutes or self.steps):
            raise InputError("A run needs --minutes or --steps above 0.")
        if self.pace:
            Pace.parse(self.pace)


@dataclass(frozen=True)
class Recipe:
    """A complete run. Saved as `config.toml`, and read back the same."""

    data: DataConfig
    model: GPTConfig
    optimizer: OptimizerConfig
    run: RunConfig


SECTIONS: dict[str, type] = {"data": DataConfig, "model": GPTConfig, "optimizer": OptimizerConfig, "run": RunConfig}
# Where each setting belongs. The vocabulary is the tokenizer's to say.
HOME = {f.name: section for section, kind in SECTIONS.items() for f in dataclasses.fields(kind)}
# What says nothing of how weights move. Any other flag makes another run, which no pace of a finished one fits.
BESIDE = {
    *("evaluate_every", "validation_tokens", "sample_tokens"),
    *("checkpoint_every", "checkpoint_minutes", "keep_last", "keep_every"),
}


class Setting(NamedTuple):
    """A value and where it came from."""

    value: Any
    origin: str


Settings = dict[str, Setting]


def settings(preset: str, config: Path | None = None, flags: dict[str, Any] | None = None) -> Settings:
    """What preset, config file and flags fix, the later over the earlier.

    `minutes` and `steps` displace each other. A file may give the vocabulary, as saved ones do, but the tokenizer
    decides it.

    Raises:
        InputError: an unknown preset, a file that cannot be read, an unknown key, a value of the wrong kind.
    """
    if preset not in PRESETS:
        raise InputError(f"There is no preset {preset!r}{suggestion(preset, PRESETS)}.")
    known: Settings = {}
    layers = [
        (f"preset {preset}", PRESETS[preset]),
        (str(config), _parse(_text(config), config) if config else {}),
        ("flag", flags or {}),
    ]
    for origin, values in layers:
        if values.get("minutes") and values.get("steps"):
            raise InputError(f"Give minutes or steps, not both ({origin}).")
        for key, value in values.items():
            if key == "vocabulary":
                continue
            if key not in HOME:
                raise InputError(f"There is no setting {key!r}{suggestion(key, set(HOME) - {'vocabulary'})}.")
            known[key] = Setting(_checked(key, value), origin)
            if key in ("minutes", "steps") and value:
                known.pop("steps" if key == "minutes" else "minutes", None)
        if origin == "flag" and values.keys() - BESIDE:
            known.pop("pace", None)
    return known


def make(known: Settings, vocabulary: int) -> Recipe:
    """The recipe of what is known, with the defaults for the rest.

    Raises:
        InputError: the values do not fit together.
    """
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, setting in known.items():
        parts[HOME[key]][key] = setting.value
    model = parts["model"]
    config = family(model.pop("family", "modern"), vocabulary=vocabulary, **model)
    return Recipe(DataConfig(**parts["data"]), config, OptimizerConfig(**parts["optimizer"]), RunConfig(**parts["run"]))


def origins(recipe: Recipe, known: Settings) -> Settings:
    """Every value of a recipe with its origin."""

    def origin(name: str) -> str:
        if name in known:
            return known[name].origin
        if name == "vocabulary":
            return "the tokenizer"
        return f"family {recipe.model.family}" if HOME[name] == "model" else "default"

    return with_origins(recipe, origin)


def with_origins(recipe: Recipe, origin: Callable[[str], str]) -> Settings:
    """Every value of a recipe with what is said of where it came from."""
    return {name: Setting(getattr(getattr(recipe, HOME[name]), name), origin(name)) for name in HOME}


def to_toml(complete: Settings) -> str:
    """A config file, each value with its origin as a comment."""
    lines = []
    for section, kind in SECTIONS.items():
        lines.append(f"[{section}]")
        for field in dataclasses.fields(kind):
            value, origin = complete[field.name]
            lines.append(f"{f'{field.name} = {toml_value(value)}':<40} # {origin}")
        lines.append("")
    return "\n".join(lines)


def write_pace(config: Path, pace: Pace) -> None:
    """Put a finished run's pace into its config file, so that the file repeats the run."""
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    said = f"pace = {toml_value(str(pace))} # as it went\n"
    write_atomic(config, "".join(said if line.startswith("pace = ") else line for line in lines))


def toml_value(value: Any) -> str:
    """A bool, number or string as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    return repr(value)


def read_recipe(run: Path) -> Recipe:
    """The recipe that a run folder's `config.toml` holds.

    Raises:
        InputError: it is missing or damaged.
    """
    path = run / "config.toml"
    return parse_recipe(_text(path), path)


def parse_recipe(text: str, path: Path) -> Recipe:
    """The recipe that a text says all of, from where `path` tells.

    Raises:
        InputError: it is damaged.
    """
    values = _parse(text, path)
    # What is saved is complete, so nothing may be filled in by a default.
    if missing := [name for name in HOME if name not in values]:
        raise InputError(f"{path} is broken: it says nothing of {missing[0]}.")
    if unknown := [name for name in values if name not in HOME]:
        raise InputError(f"{path} is not of this version of quoth: there is no setting {unknown[0]!r}.")
    vocabulary = values.pop("vocabulary")
    if type(vocabulary) is not int:
        raise InputError(f"{path} is broken: its vocabulary is {vocabulary!r}.")
    return make({key: Setting(_checked(key, value), path.name) for key, value in values.items()}, vocabulary)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"The config {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The config {path} is not TOML: it is not UTF-8.") from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The config {path} is not TOML: {error}.") from error
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if not isinstance(value, dict):
            flat[key] = value
            continue
        if key not in SECTIONS:
            raise InputError(f"{path} has a section [{key}]{suggestion(key, SECTIONS)}.")
        for inner, inner_value in value.items():
            if HOME.get(inner, key) != key:
                raise InputError(f"{path}: {inner} belongs in [{HOME[inner]}], not in [{key}].")
            flat[inner] = inner_value
    return flat


def _checked(key: str, value: Any) -> Any:
    """The value as its field's type."""
    kind = typing.get_type_hints(SECTIONS[HOME[key]])[key]
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(k for k in typing.get_args(kind) if k is not types.NoneType)
    if typing.get_origin(kind) is Literal:
        allowed = typing.get_args(kind)
        if value not in allowed:
            raise InputError(f"{key} must be one of {', '.join(map(str, allowed))}, not {value!r}.")
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not isfinite(value):
            raise InputError(f"{key} must be a finite number, not {value}.")
        return float(value)
    if kind in (int, float, bool, str) and type(value) is not kind:
        raise InputError(f"{key} must be {_NAMES[kind]}, not {value!r}.")
    if key in _COUNTS and value < 1:
        raise InputError(f"{key} must be at least 1, not {value}.")
    return value


# The dial divides by them before a config can refuse them.
_COUNTS = {"context", "width", "heads", "kv_heads", "head_size", "hidden", "batch", "accumulate"}
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def boolean(key: str, value: str) -> bool:
    """`true` or `false`, as a flag gives it.

    Raises:
        InputError: it is neither.
    """
    if value.lower() not in ("true", "false"):
        raise InputError(f"--{key.replace('_', '-')} must be true or false, not {value!r}.")
    return value.lower() == "true"
