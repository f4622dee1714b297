"""`quoth eval`: compute the exact loss over the whole validation split, or over a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json, warn


@dataclass
class Arguments:
    """Compute a run's exact loss over its whole validation split, or over a file.

    Attributes:
        run: a run's folder, its name, or latest; or RUN+ADAPTER.
        data: a text to judge the run by, all of it, instead of the run's validation split.
        separator: what stands between documents of that text, as for `quoth train`.
        column: the column that holds the text of a table, as for `quoth train`.
        checkpoint: which of the run's checkpoints to judge, best or last.
        dtype: the number type to compute in; auto takes what is fastest here.
        json: print one JSON object on stdout.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[RUN]")]] = "latest"
    data: Annotated[str | None, tyro.conf.arg(metavar="DATA", help_behavior_hint="")] = None
    separator: str = ""
    column: str = ""
    checkpoint: Literal["best", "last"] = "best"
    dtype: Literal["auto", "bfloat16", "float32"] = "float32"
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "eval")

    import numpy as np
    from numpy.typing import NDArray
    from rich.markup import escape

    from quoth.recipes.load_run import load_run
    from quoth.recipes.open_again import open_again
    from quoth.recipes.recipe import read_recipe
    from quoth.system.device import choose
    from quoth.text.corpus import encode_all
    from quoth.train.evaluate import evaluate

    hardware = choose(dtype=a.dtype, compile=False)
    run = load_run(a.run, a.checkpoint, hardware.device, warn)
    checkpoint = run.checkpoint
    if a.data:
        encoded, remarks = encode_all(a.data, checkpoint.tokenizer, separator=a.separator, column=a.column)
        for remark in remarks:
            warn(remark)
        tokens: NDArray[np.integer] = encoded
        where = a.data
    else:
        recipe = read_recipe(run.folder)
        tokens = open_again(run.folder, recipe, checkpoint.tokenizer).validation
        where = f"the validation split of {recipe.data.data}"
    with hardware.autocast():
        result = evaluate(checkpoint.model, tokens, checkpoint.tokenizer, context=checkpoint.model.config.context)
    values = {
        "run": run.name,
        "data": where,
        "checkpoint": checkpoint.folder.name,
        "loss": result.loss,
        "bits_per_byte": result.bits_per_byte,
        "perplexity": result.perplexity,
        "tokens": result.tokens,
    }
    if a.json:
        print_json(values)
        return
    screen = console(False)
    screen.print(f"[bold]{escape(run.name)}[/] on {escape(where)}, all {result.tokens:,} tokens, nothing sampled:")
    screen.print(f"  loss           {result.loss:.4f} nats per token")
    screen.print(f"  bits per byte  {result.bits_per_byte:.4f}")
    screen.print(f"  perplexity     {result.perplexity:.3f}")
