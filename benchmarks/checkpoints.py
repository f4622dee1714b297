"""What saving costs the training that goes on meanwhile, and how long loading takes."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.common import Report, Table, say, spread

SHAPES = ["4x192x128x32", "6x384x256x8", "8x768x256x4"]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="SHAPE")
    parser.add_argument("--repeats", type=int, default=5, help="saves, each between as many steps without one")
    parser.add_argument("--seconds", type=float, default=6.0, help="of the steps with a save, and of those without")


def run(options: argparse.Namespace) -> Report:
    columns = ["shape", "parameters", "MB saved", "a save delays by, s", "share, once a minute", "loading, s"]
    table, values = Table("", columns), {}
    for shape in options.shapes:
        say(shape)
        values[shape] = known = measure(shape, options.repeats, options.seconds)
        share = 100 * max(0.0, median(known["delay"])) / 60
        table.rows.append(
            [
                *(shape, f"{known['parameters']:,}", f"{known['bytes'] / 1e6:,.0f}"),
                *(spread(known["delay"], 3), f"{share:.2f}%", spread(known["load"], 2)),
            ]
        )
    return Report([table], {"shapes": values}, ["Shapes are layers x width x context x windows a step; not compiled."])


def measure(shape: str, repeats: int, seconds: float) -> dict[str, object]:
    """By how much a save in the background delays the steps that it runs beside, and how long loading takes."""
    import torch

    from quoth.model.config import family
    from quoth.model.gpt import GPT
    from quoth.system.device import DTYPES, choose
    from quoth.system.world import World
    from quoth.text.batches import Batch
    from quoth.text.tokenizer import Characters
    from quoth.train.checkpoint import load, load_optimizer, snapshot
    from quoth.train.keeper import Keeper, kept
    from quoth.train.loop import train_step
    from quoth.train.objectives import next_token
    from quoth.train.optimizers import make_optimizer

    hardware = choose()
    layers, width, context, batch = map(int, shape.split("x"))
    letters = Characters("".join(map(chr, range(33, 98))))
    model = GPT(family("modern", vocabulary=65, layers=layers, width=width, context=context))
    optimizer = make_optimizer(model, dtype=DTYPES[hardware.dtype])
    x = torch.randint(65, (batch, context))

    def step() -> None:
        with hardware.autocast():
            train_step(model, optimizer, [Batch(x, x)], next_token, World())

    def some(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - began

    some(3)
    count = max(3, int(seconds / (some(5) / 5)))
    delays, loads = [], []
    with tempfile.TemporaryDirectory() as place:
        keeper = Keeper(Path(place))
        content = snapshot(model, letters, {"step": 1}, optimizer)
        for number in range(1, repeats + 1):
            without = some(count)
            began = time.perf_counter()
            keeper.save(snapshot(model, letters, {"step": number}, optimizer), number)
            some(count)
            took = time.perf_counter() - began
            keeper.finish()
            delays.append(took - (without + some(count)) / 2)
        for _ in range(repeats):
            began = time.perf_counter()
            folder = kept(Path(place), "last")
            load_optimizer(folder, make_optimizer(load(folder).model))
            loads.append(time.perf_counter() - began)
    return {"parameters": model.parameters_count, "bytes": content.bytes, "delay": delays, "load": loads}
