"""A recipe: all the settings that decide a run, and where each value came from."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

from quoth.model.config import GPTConfig, family
from quoth.recipes.presets import PRESETS
from quoth.recipes.tune_config import TuneConfig
from quoth.system.errors import InputError, suggestion
from quoth.system.files import write_atomic
from quoth.train.optimizers import OptimizerConfig
from quoth.train.schedule import Pace
from quoth.train.snapshots import MOST


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What text is read, and how it is split into documents and tokens.

    Attributes:
        data: a named corpus (shakespeare, plays), or a file, folder or zip archive of texts; commas separate several.
        tokenizer: characters, bytes, bpe:N (a vocabulary of N tokens, such as bpe:1024) or gpt2.
        separator: the text put between documents if the tokenizer has no end token; plain text is also split at it.
        column: the column of tables, or the key of JSON rows, that holds the text.
        keep_newlines: whether Windows line breaks are kept as they are.
    """

    data: str = "shakespeare"
    tokenizer: str = "characters"
    separator: str = ""
    column: str = ""
    keep_newlines: bool = False

    @property
    def reading(self) -> dict[str, Any]:
        """How documents are read, as keyword arguments of `corpus`."""
        return {"separator": self.separator, "column": self.column, "keep_newlines": self.keep_newlines}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long a run trains, how much each step takes, when the run is saved, and what hardware it uses.

    Attributes:
        minutes: how many minutes the whole command may take; 0 when the number of steps is given instead.
        steps: the number of training steps; 0 when the minutes are given instead.
        pace: the step at which each 256th part of a finished run's minutes began, which repeats that run step by step.
        init: a run whose weights, shape and tokenizer this run starts with.
        batch: the number of windows in a microbatch.
        accumulate: the number of microbatches in a step.
        seed: the seed of all random numbers: for weights, batches, dropout and samples.
        evaluate_every: the number of steps between evaluations; 0 spends at most 3% of the time on evaluations.
        validation_tokens: how many tokens of the validation split an evaluation uses; 0 uses all of them.
        checkpoint_every: the number of steps between checkpoints, besides the one before each evaluation; 0 adds none.
        checkpoint_minutes: the longest time without a new checkpoint, in minutes; 0 saves one after each step.
        keep_last: how many of the newest checkpoints are kept, besides the best one.
        keep_every: a checkpoint is never deleted when its step is a multiple of this number; 0 for no such rule.
        snapshots: how many times the weights are kept as they were then, so that the studio can show how they learned.
        spikes: a step is skipped when its loss is this many standard deviations above the recent mean; 0 for no limit.
        sample_tokens: how many tokens of sample text each evaluation writes; 0 writes no sample.
        device: the device to train on: auto, cpu, cuda or mps.
        dtype: the number type to compute in: auto, bfloat16 or float32.
        deterministic: whether a GPU uses only algorithms that give the same bits each time; a CPU always does.
        shard: whether processes share out weights, gradients and optimizer (FSDP2), for models too large for a device.
        recompute: whether the backward pass recomputes each block from its input: less memory, a third more time.
        threads: the number of CPU threads; 0 chooses the fastest number.
        compile: whether steps are compiled by torch.compile: auto, on or off.
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
    snapshots: int = 20
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
        counts = ("evaluate_every", "checkpoint_every", "keep_every", "snapshots", "sample_tokens", "threads", "seed")
        if self.validation_tokens == 1:
            raise InputError("validation_tokens must be 0, for all, or at least 2: a loss needs a token before it.")
        for name in ("minutes", "steps", "checkpoint_minutes", "spikes", "validation_tokens", *counts):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} must be 0 or more, not {getattr(self, name)}.")
        if self.snapshots > MOST:
            raise InputError(f"snapshots must be at most {MOST:,}, not {self.snapshots:,}.")
        if not (self.minutes or self.steps):
            raise InputError("A run needs --minutes or --steps above 0.")
        if self.pace:
            Pace.parse(self.pace)


@dataclass(frozen=True)
class Recipe:
    """All settings of a run. They are saved as `config.toml`, and are the same when they are read back."""

    data: DataConfig
    model: GPTConfig
    optimizer: OptimizerConfig
    run: RunConfig
    tune: TuneConfig | None = None  # None for pretraining.


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "model": GPTConfig,
    "optimizer": OptimizerConfig,
    "run": RunConfig,
    "tune": TuneConfig,
}
# The section that each setting belongs to. The tokenizer decides the vocabulary.
HOME = {f.name: section for section, kind in SECTIONS.items() for f in dataclasses.fields(kind)}
TUNE_SETTINGS = {name for name, section in HOME.items() if section == "tune"}
# Settings that do not change how weights move. Any other flag makes a different run, which no saved pace fits.
BESIDE = {
    *("evaluate_every", "validation_tokens", "sample_tokens"),
    *("checkpoint_every", "checkpoint_minutes", "keep_last", "keep_every", "snapshots"),
}


class Setting(NamedTuple):
    """A value and where it came from."""

    value: Any
    origin: str


Settings = dict[str, Setting]


def settings(
    preset: str,
    config: Path | None = None,
    flags: dict[str, Any] | None = None,
    presets: Mapping[str, dict[str, Any]] = PRESETS,
) -> Settings:
    """The settings that the preset, the config file and the flags give; a later source overrides an earlier one.

    `minutes` and `steps` displace each other. A file may give the vocabulary, as saved files do, but the tokenizer
    decides the vocabulary.

    Raises:
        InputError: the preset or a key is unknown, the file cannot be read, or a value is of the wrong kind.
    """
    if preset not in presets:
        raise InputError(f"There is no preset {preset!r}{suggestion(preset, presets)}.")
    known: Settings = {}
    layers = [
        (f"preset {preset}", presets[preset]),
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
    """The recipe with the known settings, and with defaults for the rest.

    Raises:
        InputError: the values do not fit together.
    """
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, setting in known.items():
        parts[HOME[key]][key] = setting.value
    model = parts["model"]
    config = family(model.pop("family", "modern"), vocabulary=vocabulary, **model)
    tune = TuneConfig(**parts["tune"]) if parts["tune"] else None
    return Recipe(
        DataConfig(**parts["data"]), config, OptimizerConfig(**parts["optimizer"]), RunConfig(**parts["run"]), tune
    )


def origins(recipe: Recipe, known: Settings) -> Settings:
    """Every value of a recipe, with its origin."""

    def origin(name: str) -> str:
        if name in known:
            return known[name].origin
        if name == "vocabulary":
            return "the tokenizer"
        return f"family {recipe.model.family}" if HOME[name] == "model" else "default"

    return with_origins(recipe, origin)


def with_origins(recipe: Recipe, origin: Callable[[str], str]) -> Settings:
    """Every value of a recipe, with the origin that `origin` gives for its name."""
    return {name: Setting(getattr(section, name), origin(name)) for name, section in _homes(recipe)}


def values_of(recipe: Recipe) -> dict[str, Any]:
    """Every value of a recipe by its name."""
    return {name: getattr(section, name) for name, section in _homes(recipe)}


def _homes(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Each setting that a recipe has, and the section that holds it; a pretraining recipe has none to tune with."""
    for name, home in HOME.items():
        if (section := getattr(recipe, home)) is not None:
            yield name, section


def to_toml(complete: Settings) -> str:
    """The text of a config file; a comment gives each value's origin."""
    lines = []
    for section, kind in SECTIONS.items():
        if section == "tune" and "stage" not in complete:
            continue
        lines.append(f"[{section}]")
        for field in dataclasses.fields(kind):
            value, origin = complete[field.name]
            lines.append(f"{f'{field.name} = {toml_value(value)}':<40} # {origin}")
        lines.append("")
    return "\n".join(lines)


def write_pace(config: Path, pace: Pace) -> None:
    """Put a finished run's pace into its config file, so that the file repeats the run."""
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    said = f"pace = {toml_value(str(pace))} # as measured\n"
    write_atomic(config, "".join(said if line.startswith("pace = ") else line for line in lines))


def toml_value(value: Any) -> str:
    """A bool, a number or a string, written as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    return repr(value)


def read_recipe(run: Path) -> Recipe:
    """The recipe that a run folder's `config.toml` holds.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = run / "config.toml"
    return parse_recipe(_text(path), path)


def parse_recipe(text: str, path: Path) -> Recipe:
    """The recipe in a complete config text; errors name the `path` that the text came from.

    Raises:
        InputError: the text is damaged or not complete.
    """
    values = _parse(text, path)
    # Saved settings are complete, so no default may fill in a missing one.
    wanted = (name for name, home in HOME.items() if home != "tune" or values.keys() & TUNE_SETTINGS)
    if missing := [name for name in wanted if name not in values]:
        raise InputError(f"{path} is broken: it has no value for {missing[0]}.")
    if unknown := [name for name in values if name not in HOME]:
        raise InputError(f"{path} is from another version of quoth: there is no setting {unknown[0]!r}.")
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
    """The value, converted to the type of its field."""
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


# The dial divides by these settings before a config can refuse them.
_COUNTS = {"context", "width", "heads", "kv_heads", "head_size", "hidden", "batch", "accumulate"}
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def boolean(key: str, value: str) -> bool:
    """The bool that a flag's `true` or `false` stands for.

    Raises:
        InputError: the value is neither.
    """
    if value.lower() not in ("true", "false"):
        raise InputError(f"--{key.replace('_', '-')} must be true or false, not {value!r}.")
    return value.lower() == "true"
