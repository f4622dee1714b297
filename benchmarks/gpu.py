"""For a CUDA device: time to two losses and the best loss in ten minutes; tokens per second and FLOP utilization."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.common import Report, Table, middle, say, spread
from benchmarks.training import Training, add_train_flags, fresh_caches, train
from quoth.system.errors import InputError

if TYPE_CHECKING:
    from quoth.model.config import GPTConfig
    from quoth.train.loop import Step

# The lecture's scaled-up model, and nanoGPT's, as their authors tell.
TARGETS = (1.48, 1.4697)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", choices=("loss", "speed", "both"), default="both")
    parser.add_argument("--preset", default="gpu")
    parser.add_argument("--minutes", type=float, nargs="+", default=[0.0, 10.0], help="of a run; 0: the preset's")
    parser.add_argument("--targets", type=float, nargs="+", default=list(TARGETS))
    parser.add_argument("--repeats", type=int, default=1, help="each with the next seed")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="of the device in dense bfloat16: an H100's")
    parser.add_argument("--batch", type=int, default=32, help="windows of 1,024 in a microbatch, for the speed")
    parser.add_argument("--accumulate", type=int, default=16, help="microbatches in a step, for the speed")
    parser.add_argument("--vocabulary", type=int, default=50_304, help="GPT-2's 50,257, rounded up to 128s")
    parser.add_argument("--compile", choices=("blocks", "whole"), default="blocks", help="blocks: as quoth trains")
    parser.add_argument("--steps", type=int, default=20, help="for the speed, after 3 that are not counted")
    add_train_flags(parser)


def run(options: argparse.Namespace) -> Report:
    import torch

    if not torch.cuda.is_available():
        raise InputError("This benchmark needs a CUDA device, and torch finds none here.")
    report = Report([], {}, [])
    if options.part != "speed":
        _loss(options, report)
    if options.part != "loss":
        _speed(options, report)
    return report


def _loss(options: argparse.Namespace, report: Report) -> None:
    reached = [f"seconds to {target:g}" for target in options.targets]
    table = Table("Tiny Shakespeare", ["time given", *reached, "best loss", "whole command, s", "tokens/s"])
    values = {}
    for minutes in options.minutes:
        flags = ["--preset", options.preset, *options.train_flags]
        flags += ["--minutes", f"{minutes:g}"] if minutes else []
        runs: list[Training] = []
        for turn in range(options.repeats):
            name = f"{minutes:g} minutes" if minutes else f"preset {options.preset}"
            say(f"{name}, {turn + 1} of {options.repeats}")
            with fresh_caches() as caches:
                runs.append(train([*flags, "--seed", str(options.seed + turn)], caches))
        table.rows.append([
            name,
            *(spread(r.seconds_to(target) for r in runs) for target in options.targets),
            spread((r.summary["validation_loss"] for r in runs), 4),
            spread(r.finished.seconds for r in runs),
            spread((r.summary["tokens_per_second"] for r in runs), 0),
        ])  # fmt: skip
        values[name] = [{"summary": r.summary, "settings": r.settings, "metrics": r.metrics} for r in runs]
    report.tables.append(table)
    report.values["loss"] = values
    report.notes.append(
        f"From the command on, with cold caches; exact losses over the whole validation split, {options.repeats} "
        f"seed(s) from {options.seed}."
    )


def _speed(options: argparse.Namespace, report: Report) -> None:
    import torch

    from quoth.model.config import family

    say("GPT-2 124M on random tokens")
    config = family("gpt2", vocabulary=options.vocabulary)
    times: list[float] = []
    began = 0.0
    torch.cuda.reset_peak_memory_stats()
    for step in _steps(config, options):
        # A step ends with its loss on the host, so the device has done it.
        now = time.perf_counter()
        if step.number > 3:
            times.append(now - began)
        began = now
    seconds = middle(times)
    assert seconds is not None
    tokens = options.batch * options.accumulate * config.context
    flops = flops_per_token(config)
    rate, utilization = tokens / seconds, flops * tokens / seconds / (options.peak_tflops * 1e12)
    peak = torch.cuda.max_memory_allocated() / 1e9
    table = Table("", ["", "tokens/s", "FLOP utilization", "ms a step", "tokens a step", "peak memory, GB"])
    milliseconds = spread((1000 * t for t in times), 1)
    table.rows.append(["GPT-2 124M", f"{rate:,.0f}", f"{utilization:.1%}", milliseconds, f"{tokens:,}", f"{peak:.1f}"])
    report.tables.append(table)
    report.values["speed"] = {"tokens_per_second": rate, "utilization": utilization, "seconds": times, "peak_gb": peak}
    report.notes.append(
        f"bfloat16, compiled ({options.compile}), random tokens, {options.accumulate} microbatches of {options.batch} "
        f"windows of 1,024, vocabulary {options.vocabulary:,}. {flops / 1e6:,.1f} MFLOP a token (6 for each "
        "parameter but the positions, and 12 L C T for attention, as if it were not causal: PaLM, appendix B), against "
        f"{options.peak_tflops:g} TFLOP/s."
    )


def _steps(config: GPTConfig, options: argparse.Namespace, device: str = "cuda") -> Iterator[Step]:
    """Train on random tokens as a session trains, less what lies between its steps."""
    import numpy as np
    import torch
    from torch import Tensor, nn

    from quoth.model.gpt import GPT
    from quoth.recipes.presets import PRESETS
    from quoth.system.device import choose
    from quoth.text.batches import Batch, Windows
    from quoth.train.compile import compiled
    from quoth.train.loop import fit
    from quoth.train.objectives import next_token
    from quoth.train.optimizers import OptimizerConfig, make_optimizer

    hardware = choose(device, dtype="bfloat16", compile=True)
    torch.manual_seed(0)
    model = GPT(config).to(device)
    known = {field: value for field, value in PRESETS["gpt2"].items() if field in OptimizerConfig.__dataclass_fields__}
    optimizer = make_optimizer(model, OptimizerConfig(**known), torch.bfloat16)
    tokens = np.random.default_rng(0).integers(min(50_257, config.vocabulary), size=20_000_000).astype(np.uint16)
    windows = Windows(
        tokens, batch=options.batch, context=config.context, seed=0, accumulate=options.accumulate, device=device
    )
    view = compiled(model) if options.compile == "blocks" else model

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        with hardware.autocast():
            return next_token(view, batch)

    fast = objective if options.compile == "blocks" else torch.compile(objective, dynamic=False)
    yield from fit(model, optimizer, windows, fast, steps=options.steps + 3, clip=known["clip"])


def flops_per_token(config: Any) -> float:
    """FLOP that forward and backward take for a token: Chowdhery et al. 2022 (arXiv:2204.02311), appendix B.

    Every parameter but the position embeddings takes part in a matrix product; tied ones count once, for the head.
    """
    import torch

    from quoth.model.gpt import GPT

    with torch.device("meta"):
        model = GPT(config)
    used = model.parameters_count
    if config.positions == "learned":
        used -= config.context * config.width
    if not config.tied:
        used -= config.vocabulary * config.width
    return float(6 * used + 12 * config.layers * config.heads * config.head_size * config.context)
