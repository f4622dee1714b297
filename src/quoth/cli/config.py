"""`quoth config`: print every value that a run would have, and where the value came from."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import print_json
from quoth.cli.settings import given, with_settings, words
from quoth.system.words import count

ABOUT = """Print every value that `quoth train` would use, as TOML, each with where it came from.

`quoth train --config FILE` takes a file of what is printed. The flags are those of `quoth train`.

Attributes:
    preset: the values to begin with: laptop, gpu, gpt2, lecture or nanogpt-cpu.
    config: a TOML file of settings, which override the preset's and are overridden by flags.
    json: print one JSON object on stdout.
    data: a named corpus (shakespeare, plays), a file, folder or zip archive of texts; several with commas between.
"""


def arguments_class() -> type:
    """The class of the command's arguments: its own, and a flag for every setting of a recipe."""
    own: list[tuple[str, Any, Any]] = [
        ("preset", tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[PRESET]")]], "laptop"),
        ("data", words("DATA"), None),
        ("config", words("FILE"), None),
        ("json", Annotated[bool, tyro.conf.arg(help_behavior_hint="")], False),
    ]
    return with_settings("Config", ABOUT, own)


def main(arguments: list[str], started: float) -> None:
    a: Any = parse(arguments_class(), arguments, "config")

    from quoth.plan.footprint import parameters
    from quoth.recipes.recipe import SECTIONS, origins, settings, to_toml
    from quoth.recipes.start import hardware_for, open_corpus, plan
    from quoth.recipes.warm_start import with_shape_of_init

    known = with_shape_of_init(settings(a.preset, Path(a.config) if a.config else None, given(a)))
    hardware = hardware_for(known)
    data = open_corpus(known)
    recipe, known = plan(known, data, hardware, time.monotonic() - started)
    complete = origins(recipe, known)
    number = parameters(recipe.model)
    if not a.json:
        sys.stdout.write(f"# {a.preset} on {data.name}: {count(number)} parameters\n\n{to_toml(complete)}")
        return
    sections = {
        section: {f.name: complete[f.name]._asdict() for f in dataclasses.fields(kind)}
        for section, kind in SECTIONS.items()
        if section != "tune"
    }
    print_json({"preset": a.preset, "parameters": number, **sections})
