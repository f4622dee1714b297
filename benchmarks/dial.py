"""The shapes that the dial chooses, against grids of other shapes with the same time; results are kept as they come."""

from __future__ import annotations

import argparse
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.common import Records, Report, Table, ratio, say
from benchmarks.training import add_train_flags, data_argument, fresh_caches, shape_flags, train
from quoth.system.errors import InputError

# Layers x width x context x windows a step: 0.4 to 19 million parameters, wide enough to have the best inside.
SHAPES = (
    "2x128x64x16",
    "3x128x128x16",
    "4x128x128x16",
    "4x192x128x8",
    "4x192x128x16",
    "4x192x256x8",
    "6x192x128x16",
    "4x256x128x16",
    "6x256x128x16",
    "6x256x256x16",
    "6x384x256x16",
    "6x512x256x16",
)
DIAL = "dial"
TRAIN_SHARE = 0.9  # As quoth splits a text.


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 3.0, 10.0])
    parser.add_argument("--data", nargs="+", default=["shakespeare", "plays"], metavar="NAME")
    parser.add_argument("--shapes", type=Path, metavar="FILE", help="a shape a line, such as 4x192x128x16")
    parser.add_argument(
        "--holdout", action="store_true", help="train on, and be judged by, parts of the training split only"
    )
    parser.add_argument("--results", type=Path, default=Path("runs/dial.jsonl"), help="what is there is not run again")
    parser.add_argument("--again", action="store_true", help="run the dial's own choices again")
    parser.add_argument("--dial-only", action="store_true", help="leave the grid as far as it is there")
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--seed", type=int, default=1337)
    add_train_flags(parser)


def run(options: argparse.Namespace) -> Report:
    shapes = read_shapes(options.shapes.read_text(encoding="utf-8")) if options.shapes else list(SHAPES)
    records = Records(options.results)
    with tempfile.TemporaryDirectory() as folder:
        texts = {d: held_out(d, Path(folder)) if options.holdout else data_argument(d) for d in options.data}
        tried = [DIAL] if options.dial_only else [DIAL, *shapes]
        for data, minutes, shape in product(options.data, options.minutes, tried):
            key = key_of(options, data, minutes, shape)
            if records.get(key) and not (options.again and shape == DIAL):
                continue
            say(key)
            try:
                records.add(key, _one(options, texts[data], minutes, shape))
            except InputError as error:
                say(str(error))  # The others go on, and this one is tried again the next time.
    return _report(options, records, shapes)


def read_shapes(text: str) -> list[str]:
    """The shapes of a file; what follows a # is a comment."""
    shapes = [line.partition("#")[0].strip() for line in text.splitlines()]
    return [shape for shape in shapes if shape and shape_flags(shape)]


def held_out(data: str, folder: Path) -> str:
    """A file of the training split alone, whose own last tenth then is the judge."""
    from quoth.text.sources import materialise

    source = Path(data) if Path(data).exists() else materialise(data, folder / "texts")
    text = source.read_bytes().decode()
    path = folder / f"{source.stem}-training-split.txt"
    path.write_bytes(text[: int(TRAIN_SHARE * len(text))].encode())
    return str(path)


def key_of(options: argparse.Namespace, data: str, minutes: float, shape: str) -> str:
    """A result's name in the file of results."""
    held = " (training split only)" if options.holdout else ""
    flags = f" {' '.join(options.train_flags)}" if options.train_flags else ""
    return f"{Path(data).name}{held}, {minutes:g} min, {shape}, {options.preset}, seed {options.seed}{flags}"


def _one(options: argparse.Namespace, text: str, minutes: float, shape: str) -> dict[str, Any]:
    flags = [text, "--preset", options.preset, "--minutes", f"{minutes:g}", "--seed", str(options.seed)]
    flags += options.train_flags + ([] if shape == DIAL else shape_flags(shape))
    # The time includes compiling, which larger shapes take longer for, so everyone begins with cold caches.
    with fresh_caches() as caches:
        result = train(flags, caches)
    summary = result.summary
    return {
        "loss": summary["validation_loss"],
        "bits_per_byte": summary["bits_per_byte"],
        "last_loss": summary["last_validation_loss"],
        "seconds": round(result.finished.seconds, 1),
        "parameters": summary["parameters"],
        "steps": summary["steps"],
        "tokens_per_second": summary["tokens_per_second"],
        "shape": result.shape,
        "settings": result.settings,
    }


def _report(options: argparse.Namespace, records: Records, shapes: list[str]) -> Report:
    columns = ["", "dial's shape", "parameters", "loss", "seconds", "best of grid", "its loss", "dial's over it"]
    table = Table("The dial's choice against the best of the grid", columns)
    grid = Table("Loss by shape (layers x width x context x windows a step)", ["", DIAL, *shapes])
    values = []
    for data in options.data:
        for minutes in options.minutes:
            found = {shape: records.get(key_of(options, data, minutes, shape)) for shape in [DIAL, *shapes]}
            known = {shape: r for shape, r in found.items() if r}
            name = f"{Path(data).name}, {minutes:g} min"
            table.rows.append([name, *_against(known)])
            grid.rows.append([name, *(f"{known[s]['loss']:.4f}" if s in known else "-" for s in found)])
            values += [{"data": data, "minutes": minutes, "given": shape, **r} for shape, r in known.items()]
    judge = "the last tenth of the training split" if options.holdout else "the whole validation split"
    note = (
        f"Loss in nats per token over {judge}; every run began with cold caches and had the same time, compiling "
        f"included; seed {options.seed}; what the shape leaves open, the dial chose."
    )
    return Report([table, grid], {"runs": values}, [note])


def _against(known: dict[str, dict[str, Any]]) -> list[str]:
    cells, loss, least = ["-"] * 4, None, None
    if ours := known.get(DIAL):
        loss = ours["loss"]
        cells = [ours["shape"], f"{ours['parameters']:,}", f"{loss:.4f}", f"{ours['seconds']:.0f}"]
    best = min((s for s in known if s != DIAL), key=lambda s: known[s]["loss"], default=None)
    if best:
        least = known[best]["loss"]
    return [*cells, best or "-", f"{least:.4f}" if least else "-", ratio(loss, least, 4)]
