"""How fast a finetuned run writes the answers that it is to learn from, and what part of PPO's time that takes."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

from benchmarks.common import Report, Table, say

SLOTS, TOKENS, TIMES = 64, 72, 7


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, metavar="RUN", help="a run that was finetuned")
    parser.add_argument("--reward", required=True, metavar="REWARD", help="as in `quoth tune ppo`")
    parser.add_argument("--prompts", type=Path, required=True, metavar="FILE", help="as in `quoth tune ppo`")


def tokens_per_second(run: str, prompts: Path, compiled: bool) -> list[float]:
    """How many tokens of answers a run writes per second, twice as many at a time as there are slots."""
    from quoth.recipes.base import open_base
    from quoth.tune.answers import answering_engine, write_answers
    from quoth.tune.read import read_prompts

    base = open_base(run)
    asked = [base.prompt_ids(one.prompt) for one in read_prompts(str(prompts))][: 2 * SLOTS]
    asked = (asked * (1 + 2 * SLOTS // len(asked)))[: 2 * SLOTS]
    longest = max(map(len, asked)) + TOKENS
    engine = answering_engine(base.model, base.tokenizer, longest, slots=SLOTS, compiled=compiled)
    found = []
    for seed in range(TIMES):
        began = time.perf_counter()
        engine.reload(base.model)
        made = write_answers(engine, asked, tokens=TOKENS, ends=base.tokenizer.ends, seed=seed)
        found.append(sum(len(one.ids) for one in made) / (time.perf_counter() - began))
    return found[1:]


@contextmanager
def timed(where: str, spent: list[float]) -> Iterator[None]:
    """In it the seconds of each call of a function, which is named by its module and name, are noted."""
    module, name = where.rsplit(".", 1)
    function: Callable[..., object] = getattr(__import__(module, fromlist=[name]), name)

    def call(*args: object, **given: object) -> object:
        began = time.perf_counter()
        made = function(*args, **given)
        spent.append(time.perf_counter() - began)
        return made

    with patch(where, call):
        yield


def share_of_ppo(options: argparse.Namespace) -> tuple[float, float]:
    """The seconds that PPO's steps take, and those of them in which it writes."""
    from quoth.recipes.start_tuning import start_tuning
    from quoth.system.world import World

    with TemporaryDirectory() as folder:
        given = {"data": str(options.prompts), "reward": options.reward, "answer_tokens": TOKENS, "anyway": True}
        session = start_tuning("ppo", options.run, None, given, f"{folder}/ppo", time.monotonic(), World())
        with timed("quoth.tune.rollouts.write_answers", spent := []):
            for _ in session.events():
                pass
        whole = json.loads(Path(folder, "ppo", "summary.json").read_text())["training_seconds"]
    return whole, sum(spent)


def run(options: argparse.Namespace) -> Report:
    speeds: dict[bool, float] = {}
    for compiled in (True, False):
        say("writing, compiled" if compiled else "writing, by PyTorch")
        speeds[compiled] = median(tokens_per_second(options.run, options.prompts, compiled))
    say("PPO")
    whole, writing = share_of_ppo(options)
    rows = [
        [f"tokens per second, {SLOTS} slots, compiled", f"{speeds[True]:,.0f}"],
        ["by PyTorch", f"{speeds[False]:,.0f}"],
        ["PPO: seconds of its steps", f"{whole:.1f}"],
        ["in which it writes answers", f"{writing / whole:.0%}"],
    ]
    values = {"compiled": speeds[True], "torch": speeds[False], "ppo_seconds": whole, "writing_seconds": writing}
    return Report([Table("", ["", ""], rows)], values)
