"""`quoth sample`: let a run write."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json, warn


@dataclass
class Arguments:
    """Let a run write.

    Attributes:
        run: a run's folder, its name, or latest.
        prompt: what it goes on from.
        tokens: how many tokens it writes.
        count: how many times.
        temperature: 0 always takes the likeliest token; 1 is the model's own spread.
        top_k: only the k likeliest tokens; 0 for all.
        top_p: only the likeliest tokens that together reach this probability.
        min_p: only tokens at least this share as likely as the likeliest.
        seed: the same seed, the same text.
        stop: end before this text; may be given several times.
        checkpoint: best or last.
        json: one JSON object on stdout.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[RUN]")]] = "latest"
    prompt: str = ""
    tokens: int = 500
    count: int = 1
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 1337
    stop: Annotated[tyro.conf.UseAppendAction[list[str]], tyro.conf.arg(metavar="TEXT")] = field(default_factory=list)
    checkpoint: Literal["best", "last"] = "best"
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "sample")

    import torch

    from quoth.generate.engine import Engine
    from quoth.generate.sampling import Sampling
    from quoth.train.keeper import load_kept
    from quoth.train.run import find_run

    run = find_run(a.run)
    names = [f.name for f in dataclasses.fields(Sampling)]
    sampling = Sampling(**{name: getattr(a, name) for name in names})
    torch.set_num_threads(1)  # A small model writes fastest on one thread.
    checkpoint = load_kept(run, a.checkpoint, "cpu", warn)
    engine = Engine(checkpoint.model, checkpoint.tokenizer)
    screen, aside = console(a.json), console(True)
    context = checkpoint.model.config.context
    if len(engine.prompt_ids(a.prompt)) > context:
        aside.print(f"The prompt is longer than the context of {context} tokens: only its end is read.", style="dim")
    elif len(engine.prompt_ids(a.prompt)) + a.tokens > context and not a.json:
        aside.print(f"The context is {context} tokens; past that the window slides.", style="dim")
    if a.json or a.count > 1:
        texts = engine.samples(a.prompt, a.tokens, a.count, sampling=sampling, seed=a.seed, stop=a.stop)
        if a.json:
            print_json({"run": run.name, "prompt": a.prompt, "samples": [{"text": text} for text in texts]})
            return
        for number, text in enumerate(texts, 1):
            screen.rule(f"{number} of {a.count}", style="dim", align="left")
            sys.stdout.write(a.prompt + text + "\n")
            sys.stdout.flush()
        return
    if a.tokens < 1 or a.count < 1:
        engine.samples(a.prompt, a.tokens, a.count)
    sys.stdout.write(a.prompt)
    for piece in engine.stream(a.prompt, a.tokens, sampling=sampling, seed=a.seed, stop=a.stop):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
