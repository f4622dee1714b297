"""`quoth eval`: compute the exact loss over held-out text or answers, or compare answers with another run's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json, warn
from quoth.system.errors import InputError

if TYPE_CHECKING:
    from quoth.system.device import Hardware


@dataclass
class Arguments:
    """Judge a run by what it has not learned from: its validation split, the answers that it held out, or a file.

    A pretrained run is judged by its exact loss over text. A tuned run is judged by what its stage measures, such as
    the loss of held-out answers and the share of its own answers that end. With --against, both runs answer the
    held-out prompts, and a reward says whose answers are better.

    Attributes:
        run: a run's folder, its name, or latest; or RUN+ADAPTER.
        data: all of a text to judge the run by, instead of its validation split; of a tuned run, also rows such as it
            was tuned on, in JSON Lines, JSON, CSV or Parquet.
        separator: what stands between documents of a text, as for `quoth train`.
        column: the column that holds the text of a table, as for `quoth train`.
        checkpoint: which of the run's checkpoints to judge, best or last.
        against: another run, whose answers to the same prompts the run's answers are compared with.
        reward: what compares them: a reward model's run, or rules and FILE.py:FUNCTION, as for `quoth tune grpo`.
        answer_tokens: the most tokens of an answer; what the run was tuned with, but at most half of the context, when
            left out.
        dtype: the number type to compute in; auto takes what is fastest here.
        json: print one JSON object on stdout.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[RUN]")]] = "latest"
    data: Annotated[str | None, tyro.conf.arg(metavar="DATA", help_behavior_hint="")] = None
    separator: str = ""
    column: str = ""
    checkpoint: Literal["best", "last"] = "best"
    against: Annotated[str | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    reward: Annotated[str | None, tyro.conf.arg(metavar="REWARD", help_behavior_hint="")] = None
    answer_tokens: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    dtype: Literal["auto", "bfloat16", "float32"] = "float32"
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "eval")
    if bool(a.against) != bool(a.reward):
        raise InputError("A comparison of answers needs both --against RUN and --reward REWARD.")
    if a.answer_tokens is not None and a.answer_tokens < 1:
        raise InputError(f"answer_tokens must be at least 1, not {a.answer_tokens}.")

    from quoth.recipes.held_out import has_stage_for, recipe_of
    from quoth.system.device import choose

    hardware = choose(dtype=a.dtype, compile=False)
    if a.against:
        values, lines = _compared(a, hardware)
    elif not (a.column or a.separator) and has_stage_for(recipe_of(a.run), a.data or ""):
        values, lines = _held_out(a, hardware)
    else:
        values, lines = _text(a, hardware)
    if a.json:
        print_json(values)
        return
    screen = console(False)
    (name, about), *rest = lines
    screen.print(f"[bold]{name}[/] {about}")
    width = max(len(name) for name, _ in rest)
    for name, value in rest:
        screen.print(f"  {name:<{width}}  {value}")


def _text(a: Arguments, hardware: Hardware) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The exact loss over text."""
    import numpy as np
    from numpy.typing import NDArray
    from rich.markup import escape

    from quoth.recipes.load_run import load_run
    from quoth.recipes.open_again import open_again
    from quoth.recipes.recipe import read_recipe
    from quoth.text.corpus import encode_all
    from quoth.train.evaluate import evaluate

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
    return values, [
        (escape(run.name), f"on {escape(where)}, all {result.tokens:,} tokens, nothing sampled:"),
        ("loss", f"{result.loss:.4f} nats per token"),
        ("bits per byte", f"{result.bits_per_byte:.4f}"),
        ("perplexity", f"{result.perplexity:.3f}"),
    ]


def _held_out(a: Arguments, hardware: Hardware) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """What the stage of a tuned run measures."""
    from rich.markup import escape

    from quoth.recipes.held_out import judge_held_out
    from quoth.system.words import count

    found = judge_held_out(a.run, a.checkpoint, a.data or "", hardware, warn)
    judged = found.judgement
    values = {
        "run": found.run,
        "data": found.data,
        "checkpoint": found.checkpoint,
        "stage": found.stage,
        "held_out": found.items,
        "loss": judged.loss,
        **judged.metrics,
    }
    return values, [
        (escape(found.run), f"on {escape(found.data)}, {count(found.items)} in all:"),
        ("loss", f"{judged.loss:.4f} {found.loss_is}"),
        *((name.replace("_", " "), f"{value:.4f}") for name, value in judged.metrics.items()),
    ]


def _compared(a: Arguments, hardware: Hardware) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """How often the run's answers are better than another run's."""
    from dataclasses import asdict

    from rich.markup import escape

    from quoth.recipes.compared_prompts import held_out_prompts, tuned_run
    from quoth.recipes.held_out import recipe_of
    from quoth.recipes.tune_config import TuneConfig
    from quoth.recipes.win_rate import open_answering, win_rate
    from quoth.tune.read import read_prompts

    assert a.against and a.reward
    recipe = recipe_of(a.run)
    tuned = tuned_run(a.run)
    asked = read_prompts(a.data) if a.data else held_out_prompts(tuned) if tuned else []
    if not asked:
        raise InputError(f"{a.run} has held out no prompts, since it was not tuned on any; give --data FILE.")
    name, run = open_answering(a.run, a.checkpoint, hardware, warn)
    other_name, other = open_answering(a.against, a.checkpoint, hardware, warn)
    own = recipe.tune.answer_tokens if recipe.tune else TuneConfig.answer_tokens
    half = min(side.model.config.context for side in (run, other)) // 2
    tokens = a.answer_tokens or min(own, half)
    found = win_rate(
        run, other, [one.prompt for one in asked], a.reward, hardware, warn, tokens=tokens, seed=recipe.run.seed
    )
    low, high = found.interval
    numbers = {"win_rate": found.share, "win_rate_interval": [low, high], **asdict(found)}
    values = {"run": name, "against": other_name, "judged_by": a.reward, **numbers}
    return values, [
        (escape(name), f"against {escape(other_name)}, judged by {escape(a.reward)}:"),
        ("win rate", f"{found.share:.1%}, and with 95% confidence {low:.1%} to {high:.1%}; a tie counts half"),
        ("comparisons", f"{found.total:,}; ties: {found.ties:,}; prompts left out: {found.left_out:,}"),
        ("mean reward", f"{found.reward:.3f}, and of the other run {found.other_reward:.3f}"),
    ]
