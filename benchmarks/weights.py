"""What weights as bfloat16 and int8 cost a run's loss, and gain in speed."""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.common import Report, Table, ratio, say

FORMS = ("float32", "bfloat16", "int8")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", default="latest", help="a trained run")
    parser.add_argument("--threads", type=int, default=0)


def run(options: argparse.Namespace) -> Report:
    import torch

    from quoth.recipes.open_again import open_again
    from quoth.recipes.recipe import read_recipe
    from quoth.train.keeper import load_kept
    from quoth.train.run import find_run

    torch.set_num_threads(1)
    folder = find_run(options.run)
    kept = load_kept(folder, "best", "cpu", say)
    tokens = open_again(folder, read_recipe(folder), kept.tokenizer).validation
    table, values = Table("", ["weights", "loss", "more than float32", "tokens/s, one text", "gain"]), {}
    for form in FORMS:
        say(form)
        values[form] = measure(kept.model, kept.tokenizer, tokens, form, options.threads)
    plain = values["float32"]
    for form, known in values.items():
        more, gain = known["loss"] - plain["loss"], ratio(known["tokens_per_second"], plain["tokens_per_second"])
        table.rows.append([form, f"{known['loss']:.4f}", f"{more:+.4f}", f"{known['tokens_per_second']:,.0f}", gain])
    size = f"{kept.model.parameters_count:,} parameters; nats per token over the whole validation split, in windows of "
    return Report([table], {"weights": values}, [f"{size}{kept.model.config.context} tokens."])


def measure(model: Any, tokenizer: Any, tokens: Any, form: Any, threads: int) -> dict[str, float]:
    """The exact loss by the compiled decoder, and its speed."""
    import torch

    from quoth.generate.decoder import Batch
    from quoth.generate.engine import Engine
    from quoth.generate.native.decoder import NativeDecoder
    from quoth.generate.request import Request

    context, total = model.config.context, 0.0
    decoder = NativeDecoder(model, rows=context, weights=form, threads=threads)
    for start in range(0, len(tokens) - 1, context):
        window = torch.from_numpy(tokens[start : start + context + 1].astype("int64"))
        rows = Batch()
        rows.add(0, 0, window[:-1].tolist(), len(window) - 1)
        total += torch.nn.functional.cross_entropy(decoder.step(rows), window[1:], reduction="sum").item()
    engine = Engine(model, tokenizer, weights=form, threads=threads, compiled=True)
    times = []
    for seed in range(5):
        began = time.perf_counter()
        engine.generate([Request(prompt=[0], tokens=context - 1, seed=seed)])
        times.append(time.perf_counter() - began)
    return {"loss": total / (len(tokens) - 1), "tokens_per_second": (context - 1) / min(times)}
