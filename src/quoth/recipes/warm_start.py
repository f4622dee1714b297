"""Begin a run with another run's weights, shape and tokenizer."""

from __future__ import annotations

from dataclasses import asdict
from math import inf
from pathlib import Path

from quoth.recipes.dial import learning_rate_for
from quoth.recipes.recipe import Setting, Settings
from quoth.system.errors import InputError
from quoth.text.tokenizer import Tokenizer
from quoth.text.tokenizer import read as read_tokenizer
from quoth.train.checkpoint import read_config
from quoth.train.keeper import intact, kept
from quoth.train.run import find_run

# Windows have at most this many tokens, even if the model reads longer ones, unless --context says otherwise.
LONGEST = 512
# Learning rates are this share of a new model's, so that the model does not forget at once what it has learned.
RATE = 0.1


def with_shape_of_init(known: Settings) -> Settings:
    """The known settings, with the shape of the run that `init` names, if it names one; `init` becomes a path.

    The run's shape overrides the preset's.

    Raises:
        InputError: there is no such run, or a shape was given that differs from the run's.
    """
    if not is_warm_start(known):
        return known
    run = find_run(known["init"].value)
    c = read_config(kept(run))
    origin = f"run {run.name}"
    shape = {name: Setting(value, origin) for name, value in asdict(c).items() if name not in ("vocabulary", "dropout")}
    asked = {name: setting for name, setting in known.items() if not setting.origin.startswith("preset")}
    for name in asked.keys() & shape.keys():
        may_differ = name == "context" and c.positions != "learned"
        if asked[name].value != shape[name].value and not may_differ:
            raise InputError(
                f"--init begins with {run.name}, whose {name} is {shape[name].value}; leave out "
                f"--{name.replace('_', '-')} {asked[name].value}."
            )
    if "context" in asked and asked["context"].value > c.context:
        raise InputError(f"{run.name} reads {c.context:,} tokens at most; --context {asked['context'].value} is more.")
    if c.positions != "learned" and c.context > LONGEST:
        shape["context"] = Setting(LONGEST, f"of {origin}'s {c.context:,}")
    if "tokenizer" in asked:
        raise InputError(f"--init begins with {run.name}, which has its own tokenizer; leave out --tokenizer.")
    tokenizer = Setting(read_tokenizer(kept(run)).name, origin)
    init = Setting(str(run.resolve()), known["init"].origin)
    return {**known, **shape, **asked, "init": init, "tokenizer": tokenizer}


def is_warm_start(known: Settings) -> bool:
    """Whether the settings name a run to begin with."""
    return "init" in known and bool(known["init"].value)


def lower_rates(known: Settings, before: Settings) -> Settings:
    """The known settings, with lower learning rates than a new model's, unless a flag or file gave rates `before`."""
    if not is_warm_start(known):
        return known
    rates: Settings = {}
    for name in ("learning_rate", "embedding_learning_rate"):
        if name in known and (name not in before or before[name].origin.startswith("preset")):
            value, origin = known[name]
            if name not in before:
                # The dial raises the rate for few steps, in which a new model has far to go; this one has not.
                value = min(value, learning_rate_for(inf)) if name == "learning_rate" else value
            rates[name] = Setting(value * RATE, f"{origin}, a tenth of a new model's, to go on from a run")
    return {**known, **rates}


def init_checkpoint(run: str | Path) -> Path:
    """The best intact checkpoint of the run to begin with; every file's hash is checked.

    Raises:
        InputError: the run has no intact checkpoint.
    """
    return intact(Path(run), "best", lambda said: None)


def tokenizer_of(init: str, saved: Path | None = None) -> Tokenizer | None:
    """The tokenizer for a run that begins with `init`, from the `saved` checkpoint if given; None without `init`."""
    return read_tokenizer(saved or kept(Path(init))) if init else None
