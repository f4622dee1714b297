"""`quoth export` writes a run in a form that other programs load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json, warn
from quoth.system.errors import InputError


@dataclass
class Arguments:
    """Write a run in a form that other programs load: transformers and vLLM, or llama.cpp and Ollama.

    Attributes:
        run: a run's folder, its name, or latest; or RUN+ADAPTER. Adapters are merged into the weights.
        to: hf, a folder of safetensors and JSON, or gguf, one file.
        dtype: the number type of the weights: f32, bf16, f16, or for gguf also q8_0.
        out: the folder to write; exports/<to>-<dtype> in the run's folder when left out.
        checkpoint: which checkpoint to export: best or last.
        json: print one JSON object on stdout.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[RUN]")]] = "latest"
    to: Literal["hf", "gguf"] = "hf"
    dtype: Literal["f32", "bf16", "f16", "q8_0"] = "f32"
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    checkpoint: Literal["best", "last"] = "best"
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "export")

    from quoth.interop.export import export_gguf, export_hf
    from quoth.recipes.load_run import load_run
    from quoth.system.files import read_json

    loaded = load_run(a.run, a.checkpoint, "cpu", warn)
    kept, name = loaded.checkpoint, loaded.name
    summary = loaded.folder / "summary.json"
    facts = {"parameters": kept.model.parameters_count, **(read_json(summary) if summary.is_file() else {})}
    adapter = name.removeprefix(loaded.folder.name)
    folder = Path(a.out).expanduser() if a.out else loaded.folder / "exports" / f"{a.to}-{a.dtype}{adapter}"
    if a.out and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already; give --out a new folder.")
    if a.to == "hf":
        export_hf(folder, kept.model, kept.tokenizer, a.dtype, name, facts)
        path = folder
    else:
        try:
            path = export_gguf(folder, kept.model, kept.tokenizer, a.dtype, name, facts)
        except ModuleNotFoundError as error:
            raise InputError(f"--to gguf needs {error.name}; pip install 'quoth[gguf]' brings it.") from error
    if a.json:
        print_json({"run": name, "to": a.to, "dtype": a.dtype, "path": str(path)})
        return
    screen = console(False)
    screen.print(f"The export is {path}", markup=False)
    if a.to == "hf":
        screen.print(f'  transformers.AutoModelForCausalLM.from_pretrained("{path}")', style="dim", markup=False)
    else:
        screen.print(f"  llama-cli -m {path}", style="dim", markup=False)
        screen.print(f"  ollama create NAME -f {folder / 'Modelfile'}", style="dim", markup=False)
