"""`quoth tune` teaches a run's model more than its text: to answer, and to answer as people like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console
from quoth.cli.settings import given, with_settings, words
from quoth.cli.train import carry_out
from quoth.system.errors import InputError, suggestion

STAGES = {
    "sft": "supervised finetuning: learn to answer from conversations",
    "reward": "a reward model: learn from pairs which answer people like better",
    "dpo": "direct preference optimization: learn from pairs without a reward model",
    "kto": "Kahneman-Tversky optimization: learn from single answers that are rated good or bad",
    "distill": "distillation: learn what a teacher, another run's model, would say at every place",
    "ppo": "proximal policy optimization: write answers, and learn from their rewards with a critic",
    "grpo": "the same without a critic: compare answers to the same prompt",
    "rloo": "the same: compare each answer with the others' mean reward",
}
COMPARE = "a page on which you compare answers, which makes pairs to learn from"
ABOUT = """{what}. Settings that you do not give are chosen to suit the data.

Attributes:
{stages}    run: the run whose model is tuned; latest for the newest.
    data: files, folders or zip archives of {data}.
    config: a TOML file of settings, which are overridden by flags.
    out: the new run's folder; runs/<date>-{stage}-<run> when left out.
    json: print one JSON object on stdout.
"""
DATA = {
    "sft": "conversations",
    "reward": "pairs of answers",
    "dpo": "pairs of answers",
    "kto": "rated answers",
    "distill": "texts or conversations",
}
HELP = f"""Tune a run's model: teach it to answer, and to answer as people like.

usage: quoth tune STAGE RUN DATA [OPTIONS]
       quoth tune compare RUN [OPTIONS]

{chr(10).join(f"  {name:<9}{what}" for name, what in {**STAGES, "compare": COMPARE}.items())}

  quoth tune sft latest chats.jsonl      a model that answers
  quoth chat latest                      talk to it

`quoth tune STAGE --help` lists a stage's options, such as --minutes, --lora or --json.
"""


def arguments_class(stage: str = "") -> type:
    """The class of a stage's arguments, or of those of all stages."""
    from quoth.recipes.recipe import HOME
    from quoth.recipes.tune_config import USES

    positional = tyro.conf.Positional[str]
    name = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="|".join([*STAGES, "compare"]))]]
    data = tyro.conf.Positional[Annotated[list[str] | None, tyro.conf.arg(metavar="[DATA]...", help_behavior_hint="")]]
    own: list[tuple[str, Any, Any]] = [
        *([] if stage else [("stage", name, "sft")]),
        ("run", positional, "latest"),
        ("data", data, None),
        ("config", words("FILE"), None),
        ("out", words("FOLDER"), None),
        ("json", Annotated[bool, tyro.conf.arg(help_behavior_hint="")], False),
    ]
    unused = {name for name, home in HOME.items() if home == "tune" and stage and name not in USES[stage]}
    unused |= {name for name, home in HOME.items() if home in ("model", "data")}
    stages = "" if stage else "    stage: what the model learns from.\n"
    what, data_is = STAGES.get(stage, "Tune a run's model"), DATA.get(stage, "prompts")
    about = ABOUT.format(stages=stages, stage=stage, what=what[0].upper() + what[1:], data=data_is)
    return with_settings("Tune", about, own, {*unused, "stage", "init"})


def parsed_stage(arguments: list[str]) -> tuple[str, Any]:
    """The stage and its arguments.

    Raises:
        InputError: there is no such stage or flag, or no data is given.
    """
    stage, *rest = arguments or [""]
    if stage not in STAGES:
        raise InputError(f"There is no stage {stage!r}{suggestion(stage, [*STAGES, 'compare'])}.")
    a: Any = parse(arguments_class(stage), rest, f"tune {stage}")
    if not a.data:
        raise InputError(f"`quoth tune {stage}` needs DATA: {DATA.get(stage, 'prompts')}.")
    return stage, a


def main(arguments: list[str], started: float) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if arguments else 2
    if arguments[0] == "compare":
        from quoth.cli import compare

        compare.main(arguments[1:], started)
        return 0
    stage, a = parsed_stage(arguments)
    flags = given(a)
    flags["data"] = ",".join(a.data)
    screen = console(a.json)

    from quoth.recipes.start_tuning import start_tuning

    config = Path(a.config) if a.config else None
    return carry_out(lambda world: start_tuning(stage, a.run, config, flags, a.out, started, world), screen, a.json)
