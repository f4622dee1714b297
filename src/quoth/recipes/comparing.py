"""Comparisons under way: runs that write answers, a person's decisions, and a training on them."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.recipes.compared_prompts import prompt_ids
from quoth.recipes.load_engine import LoadedEngine
from quoth.recipes.training_process import TrainingProcess
from quoth.serve.worker import Answer, Worker
from quoth.system.errors import InputError
from quoth.text.batches import shuffled_places
from quoth.tune.comparison import (
    Choice,
    Comparison,
    Decision,
    new_pairs,
    next_number,
    next_pair,
    repeat,
    score,
    side,
    tally,
)
from quoth.tune.comparison_rows import Record
from quoth.tune.conversation import Messages
from quoth.web.errors import APIError

# A run that wrote the same answer twice, or an empty one, tries so many times; after so many such prompts it gives up.
TRIES, PROMPTS = 4, 20
# Below so many pairs nothing can be learned; with this many, only what answers look like.
LEAST_PAIRS = 50
# How long a request waits for an answer before it says that it is being written, in seconds.
PATIENCE = 20.0
# How many requests may wait for the engines.
WAITING = 64
# The stages that learn from pairs.
STAGES = ("reward", "dpo")


@dataclass(frozen=True)
class Written:
    """Two answers to a prompt, and whether each was ended by the model."""

    prompt: Messages
    answers: tuple[str, str]
    ended: tuple[bool, bool]


@dataclass(frozen=True)
class Options:
    """What a person asked for.

    Attributes:
        wanted: how many pairs are compared.
        tokens: the most tokens of an answer.
        temperature: the temperature at which answers are drawn.
        run: the run as its name is typed, for commands that train on the pairs.
    """

    wanted: int
    tokens: int
    temperature: float
    run: str


class Comparing:
    """A session of comparisons, in the form that `serve.compare` shows. All of it happens in one event loop.

    Answers are written ahead while a person reads. Those to pair n depend on the weights, the seed and n alone.

    Args:
        runs: the run that writes both answers; or two runs, of which each writes one.
        record: the decisions so far.
        prompts: the prompts, in no order; if there are none, a person types them.
        command: makes the command of a stage of training, for tests.
    """

    def __init__(
        self,
        runs: Sequence[LoadedEngine],
        record: Record,
        prompts: Sequence[Messages],
        options: Options,
        command: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        self.runs, self.record, self.prompts, self.options = runs, record, prompts, options
        self._command = command or (lambda stage: [sys.executable, "-m", "quoth", *self._words(stage)[1:], "--json"])
        self._worker = Worker([run.engine for run in runs], WAITING)
        self._tasks: dict[int, asyncio.Task[Written | None]] = {}
        self._left_out: set[int] = set()
        self._typed: dict[int, Messages] = {}
        self._training: tuple[str, TrainingProcess] | None = None
        self._problem = ""

    def start(self) -> None:
        """Begin, in the event loop."""
        self._worker.start()

    async def close(self) -> None:
        """End all that is under way; a training saves where it is."""
        for task in self._tasks.values():
            task.cancel()
        self._worker.close()
        if self._training:
            await self._training[1].stop()
        self.record.close()

    # What is shown.

    @property
    def done(self) -> bool:
        """Whether as many pairs were compared as were wanted, and those that are to be shown again too."""
        decisions = self.record.decisions
        return new_pairs(decisions) >= self.options.wanted and not repeat(decisions, self.record.about.seed)

    @property
    def pair(self) -> int:
        """The next pair that is neither decided on nor left out."""
        pair = next_pair(self.record.decisions)
        while pair in self._left_out:
            pair += 1
        return pair

    def shown(self) -> Comparison | None:
        """The comparison that a person sees; None if its answers are not written yet, or nothing is left to do."""
        decisions, seed = self.record.decisions, self.record.about.seed
        if again := repeat(decisions, seed):
            return again
        task = self._tasks.get(self.pair)
        if self.done or task is None or not task.done() or task.exception() or not (made := task.result()):
            return None
        number = next_number(decisions)
        return Comparison(number, self.pair, made.prompt, made.answers, made.ended, side(seed, number))

    async def state(self) -> dict[str, Any]:
        """Wait for the next comparison for some seconds, and return all that the page shows."""
        end = asyncio.get_running_loop().time() + PATIENCE
        while (task := self._awaited()) and (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait({task}, timeout=left)
            self._look_at(task)
        self._write_ahead()
        return self._state()

    def _state(self) -> dict[str, Any]:
        shown, options, about = self.shown(), self.options, self.record.about
        decisions = self.record.decisions
        state: dict[str, Any] = {
            "run": about.run,
            "against": about.against,
            "file": str(self.record.path),
            "wanted": options.wanted,
            "done": self.done,
            "writing": self._awaited() is not None,
            "typed": not self.prompts,
            "next": next_number(decisions),
            "problem": self._problem,
            "comparison": shown and _as_shown(shown),
            "counts": asdict(tally(decisions)),
            "training": self._training_state(),
        }
        if about.against:
            found = score(decisions)
            state["score"] = {**asdict(found), "rate": found.rate, "interval": found.interval}
        return state

    # Answers.

    def _awaited(self) -> asyncio.Task[Written | None] | None:
        """The task that the next comparison waits for, begun if need be."""
        if self.shown() or self.done or self._problem:
            return None
        return self._begin(self.pair)

    def _begin(self, pair: int) -> asyncio.Task[Written | None] | None:
        """The task that writes a pair's answers, begun if need be; None if nobody has typed its prompt."""
        if pair not in self._tasks and (prompt := self._prompt(pair)):
            self._tasks[pair] = asyncio.create_task(self._write(pair, prompt))
        return self._tasks.get(pair)

    def _write_ahead(self) -> None:
        if self.prompts and not self.done and not self._problem:
            self._begin(self.pair if repeat(self.record.decisions, self.record.about.seed) else self.pair + 1)

    def _prompt(self, pair: int) -> Messages | None:
        """A pair's prompt: all of them come in an order by chance, and then again in another one."""
        if not self.prompts:
            return self._typed.get(pair)
        place = np.array([pair], np.int64)
        return self.prompts[int(shuffled_places(place, len(self.prompts), self.record.about.seed)[0])]

    def _look_at(self, task: asyncio.Task[Written | None]) -> None:
        """Leave a pair out of which nothing came, and say so when that happens too often.

        Raises:
            InputError: the answers could not be written; the next time they are tried again.
        """
        pair = next((number for number, one in self._tasks.items() if one is task), None)
        if pair is None or not task.done():
            return
        if error := task.exception():
            del self._tasks[pair]
            raise error
        if task.result() is not None:
            return
        del self._tasks[pair]
        self._typed.pop(pair, None)
        if self.prompts:
            self._left_out.add(pair)
        if not self.prompts or self._left_out.issuperset(range(pair - PROMPTS + 1, pair + 1)):
            often = f"to {PROMPTS} prompts in a row" if self.prompts else "to this prompt"
            self._problem = (
                f"{self.record.about.run} wrote the same answer twice or an empty one {often}, so there is nothing to "
                "compare; a higher --temperature makes answers differ."
            )

    async def _write(self, pair: int, prompt: Messages) -> Written | None:
        """The answers to a prompt; None if they do not differ, or one is empty, however often they are written.

        Of two runs both answers are shown as they are: an empty one is a loss, and the same one a tie.
        """
        ids = [await asyncio.to_thread(prompt_ids, run, prompt) for run in self.runs]
        for attempt in range(TRIES):
            first = 2 * (pair * TRIES + attempt)
            asked = [
                (run.engine, self._request(run.engine, one, first)) for run, one in zip(self.runs, ids, strict=True)
            ]
            if len(asked) == 1:
                asked.append((asked[0][0], replace(asked[0][1], choice=first + 1)))
            answers = [self._worker.submit(engine, [request])[0] for engine, request in asked]
            await asyncio.gather(*(_finished(answer) for answer in answers))
            if any(answer.finish == "failed" for answer in answers):
                raise InputError("The engine failed; the terminal says why.")
            (one, other), ended = (answer.text for answer in answers), [answer.finish == "stop" for answer in answers]
            if len(self.runs) == 2 or (one != other and one.strip() and other.strip()):
                return Written(prompt, (one, other), (ended[0], ended[1]))
        return None

    def _request(self, engine: Engine, ids: Sequence[int], choice: int) -> Request:
        return Request(
            prompt=ids,
            tokens=min(self.options.tokens, engine.context - len(ids)),
            sampling=Sampling(temperature=self.options.temperature),
            seed=self.record.about.seed,
            choice=choice,
            stop_ids=frozenset(engine.tokenizer.ends),
        )

    # What a person does.

    async def decide(self, number: int, choice: Choice, seconds: float) -> None:
        """Write down what a person said of the comparison that is shown."""
        shown = self.shown()
        if shown is None or shown.number != number:
            raise _stale()
        self.record.add(Decision(shown, choice, seconds))

    async def undo(self, number: int) -> None:
        """Take back the decision before the comparison of that number, which is shown again."""
        if next_number(self.record.decisions) != number:
            raise _stale()
        taken = self.record.take_back().comparison
        self._problem = ""
        if not taken.repeat:
            self._left_out.update(range(next_pair(self.record.decisions), taken.pair))
            self._keep(Written(taken.prompt, taken.answers, taken.ended), taken.pair)

    def _keep(self, written: Written, pair: int) -> None:
        """Show answers that were written, perhaps by an earlier process, and not new ones."""

        async def known() -> Written:
            return written

        self._typed[pair] = written.prompt
        self._tasks[pair] = asyncio.create_task(known())

    async def ask(self, text: str) -> None:
        """Let the runs answer a prompt that a person typed."""
        if self.prompts or self.done or self.shown() or self.pair in self._tasks:
            raise _stale("No prompt is wanted: a comparison is under way, perhaps in another window.")
        if not text.strip():
            raise InputError("A prompt must say something.")
        prompt: Messages = ({"role": "user", "content": text},)
        for run in self.runs:
            await asyncio.to_thread(prompt_ids, run, prompt)
        self._problem = ""
        self._typed[self.pair] = prompt

    # Training.

    def _words(self, stage: str) -> list[str]:
        return ["quoth", "tune", stage, self.options.run, str(self.record.path)]

    async def train(self, stage: str) -> None:
        """Begin to train on the pairs, in a process of its own."""
        if self.record.about.against:
            raise InputError("A comparison of two runs measures them; compare one run's answers to train on.")
        if self._training and self._training[1].runs:
            raise InputError("A training is under way already; wait until it has ended.")
        if (pairs := self._teaching()) < LEAST_PAIRS:
            raise InputError(
                f"{LEAST_PAIRS} pairs with a preference are the least to train on, and there are {pairs}; a few "
                "hundred teach more than what answers look like."
            )
        process = TrainingProcess(self._command(stage))
        self._training = stage, process
        await process.start()

    def _teaching(self) -> int:
        """The number of pairs that a model can learn from, each counted once."""
        return len({one.comparison.pair for one in self.record.decisions if one.teaches})

    def _training_state(self) -> dict[str, Any] | None:
        if self.record.about.against:
            return None
        commands = {stage: shlex.join(self._words(stage)) for stage in STAGES}
        state: dict[str, Any] = {"commands": commands, "least": LEAST_PAIRS, "pairs": self._teaching(), "runs": False}
        if not self._training:
            return state
        stage, process = self._training
        made = process.summary if process.code == 0 else {}
        tuned, run = shlex.quote(made.get("folder", "")), shlex.quote(self.options.run)
        then = {
            "reward": f"quoth tune ppo {run} PROMPTS --reward {tuned}",
            "dpo": f"quoth tune compare {tuned} --against {run}",
        }
        told = {"stage": stage, "runs": process.runs, "line": process.line, "code": process.code}
        return {**state, **told, "accuracy": made.get("accuracy"), "then": then[stage] if made else ""}


def _as_shown(shown: Comparison) -> dict[str, Any]:
    """A comparison as the page may know it: neither whose answers these are, nor whether it is a repeat."""
    left, right = ({"text": shown.answers[place], "ended": shown.ended[place]} for place in shown.order)
    return {"number": shown.number, "prompt": list(shown.prompt), "left": left, "right": right}


async def _finished(answer: Answer) -> None:
    async for _ in answer.stream():
        pass


def _stale(said: str = "This was decided on already, perhaps in another window.") -> APIError:
    return APIError(409, said, code="stale")
