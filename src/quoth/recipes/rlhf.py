"""The whole way from a text to a model that answers as it is liked, stage by stage, with the effect of each one.

It is the way of Ouyang et al. 2022 (arXiv:2203.02155): finetuning, a reward model of comparisons, and PPO against it;
and beside them what came later. A hidden taste (`tune/verse.py`) takes the place of people, so that what is rewarded
can be compared with what is truly liked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import torch

from quoth.recipes.base import Base, open_base
from quoth.recipes.session import Session
from quoth.recipes.start import start
from quoth.recipes.start_tuning import start_tuning
from quoth.recipes.warm_start import init_checkpoint
from quoth.system.errors import InputError
from quoth.system.files import as_json, write_atomic
from quoth.system.world import World
from quoth.text.packing import padded
from quoth.text.tokenizer import decode
from quoth.train.preferences import scores
from quoth.train.run import read_metrics
from quoth.tune.answers import Answer, answering_engine, share_distinct, share_ended, write_answers
from quoth.tune.pairs import Agreement, Pair, agreement, each_answer
from quoth.tune.rollouts import SLOTS, measure
from quoth.tune.score import load_scorer
from quoth.tune.verse import Request, Verse, held_out, means, requests, taste

# How many requests a model answers to be judged, and which five of them are shown.
JUDGED, SHOWN = 256, 5
ANSWER_TOKENS = 72
# So many requests get two answers to compare; the taste likes about half of these pairs alike.
COMPARED = 2600
# In how many comparisons the reward model is checked.
CHECKED = 1000
BEST_OF = (1, 4, 16)
TASTE = '''"""The hidden taste of the demo, as a reward function: change it, and see what the model learns."""

from quoth.tune.verse import request_of, taste


def liked(prompt: str, answer: str) -> float:
    return taste(request_of(prompt), answer).score
'''


@dataclass(frozen=True)
class Effect:
    """What a stage has made of the model.

    Attributes:
        stage: the stage's name.
        run: the run's folder.
        seconds: how long the stage took; None for a base that was there already.
        known: means over answers to requests of the kind that was trained on: the verdicts of the taste, `ended`,
            `distinct`, and `kl` from the finetuned model.
        held_out: the same for requests that were never trained on.
        shown: the same five requests each time, with their answers.
        curve: for stages that learn from rewards, what was logged at each writing of answers.
    """

    stage: str
    run: str
    seconds: float | None
    known: dict[str, float]
    held_out: dict[str, float]
    shown: list[tuple[str, str]]
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Rlhf:
    """The stages of the demo in one folder; `carry_out` runs a session and shows it.

    `errors` is the share of comparisons in which the taste errs, as people do.

    >>> for effect in Rlhf(Path("rlhf"), carry_out).stages(): print(effect.known["score"])   # doctest: +SKIP
    """

    folder: Path
    carry_out: Callable[[str, Session], None]
    base: str = ""
    minutes: float = 3.0
    seed: int = 1337
    errors: float = 0.0
    effects: list[Effect] = field(default_factory=list)
    agreement: Agreement | None = None
    best_of: dict[int, float] = field(default_factory=dict)

    def stages(self) -> Iterator[Effect]:
        """Carry out the stages one after the other; an effect is yielded after each, but for the reward model."""
        began = time.monotonic()
        base = self.base or self._pretrain()
        text = open_base(base).text()
        if text is None:
            raise InputError(f"{base} was not trained on a text that can be read here; the demo needs Shakespeare's.")
        verse = Verse(decode(text.tokenizer, text.train.tolist()))
        write_atomic(self.folder / "taste.py", TASTE)
        yield self._effect("pretraining", base, None if self.base else began)
        examples, prompts = self._write_conversations(verse)
        # The last step is taken: how well held-out lines are known is best earlier, how answers look is best late.
        yield self._tune("sft", "finetuning", base, examples, held_out=0.05, evaluate_every=10**6)
        sft = str(self.folder / "finetuning")
        pairs = self._write_pairs(sft)
        self._session("reward", "reward-model", sft, pairs, {"held_out": 0.1})
        reward = str(self.folder / "reward-model")
        self.agreement = self._agreement(sft, reward)
        self.best_of = self._best_of(sft, reward)
        liked = f"{self.folder / 'taste.py'}:liked"
        # The demo shows what a reward model that is often wrong does, and says how often it is.
        policy = {"true_reward": liked, "answer_tokens": ANSWER_TOKENS, "anyway": True}
        for name, beta in (("ppo", 0.2), ("ppo-without-kl", 0.0)):
            yield self._tune("ppo", name, sft, prompts, reward=reward, beta=beta, **policy)
        yield self._tune("rloo", "rloo-on-the-rule", sft, prompts, reward=liked, **policy)
        yield self._tune("dpo", "dpo", sft, pairs, answer_tokens=ANSWER_TOKENS)

    def record(self) -> dict[str, Any]:
        """All that was measured, for rlhf.json and the report."""
        return {
            "seed": self.seed,
            "errors": self.errors,
            "judged": JUDGED,
            "reward_model": asdict(self.agreement) if self.agreement else None,
            "best_of": self.best_of,
            "effects": [asdict(one) for one in self.effects],
        }

    def _pretrain(self) -> str:
        out = self.folder / "pretraining"
        flags = {"data": "shakespeare", "minutes": self.minutes, "seed": self.seed}
        self.carry_out("pretraining", start("laptop", None, flags, str(out), None, time.monotonic()))
        return str(out)

    def _session(self, stage: str, name: str, run: str, data: Path, flags: dict[str, Any]) -> None:
        given = {"data": str(data), "seed": self.seed, **flags}
        out, began = str(self.folder / name), time.monotonic()
        self.carry_out(name, start_tuning(stage, run, None, given, out, began, World()))

    def _tune(self, stage: str, name: str, run: str, data: Path, **flags: Any) -> Effect:
        began = time.monotonic()
        self._session(stage, name, run, data, flags)
        return self._effect(name, str(self.folder / name), began)

    def _effect(self, name: str, run: str, began: float | None) -> Effect:
        seconds = None if began is None else round(time.monotonic() - began, 1)
        reference = self.folder / "finetuning"
        against = open_base(str(reference)) if reference.exists() and name != "finetuning" else None
        base = open_base(run)
        known, held = (_judged(base, asked, against, self.seed) for asked in (requests(self.seed, JUDGED), _held()))
        five = [*requests(self.seed, SHOWN - 1), held_out()[0]]
        answers = _answers(base, five, self.seed)
        curve = [line for line in read_metrics(Path(run)) if "reward" in line]
        shown = [(one.text, answer.text) for one, answer in zip(five, answers, strict=True)]
        effect = Effect(name, run, seconds, known, held, shown, curve)
        self.effects.append(effect)
        return effect

    def _write_conversations(self, verse: Verse) -> tuple[Path, Path]:
        """Files of the conversations to finetune on, and of prompts alone."""
        found = verse.conversations(self.seed)
        examples, prompts = self.folder / "conversations.jsonl", self.folder / "prompts.jsonl"
        _write_lines(examples, ({"messages": [_user(one), _assistant(line)]} for one, line in found))
        known = dict.fromkeys(one for one, _ in found)
        _write_lines(prompts, ({"messages": [_user(one)]} for one in known))
        return examples, prompts

    def _write_pairs(self, run: str) -> Path:
        """A file of comparisons: the taste prefers one of two answers, and may err now and then."""
        rng, rows = Random(self.seed), []
        for one, *answers in self._compared(open_base(run), COMPARED, self.seed):
            chosen, rejected = answers if rng.random() >= self.errors else reversed(answers)
            rows.append({"prompt": one.text, "chosen": chosen.text, "rejected": rejected.text})
        path = self.folder / "pairs.jsonl"
        _write_lines(path, rows)
        return path

    def _compared(self, base: Base, count: int, seed: int) -> Iterator[tuple[Request, Answer, Answer]]:
        """Requests with two answers, of which the taste likes the first better; none that it likes as much."""
        asked = requests(f"{seed} compared", count)
        both = [_answers(base, asked, seed + number) for number in (1, 2)]
        for one, first, second in zip(asked, *both, strict=True):
            better = taste(one, first.text).score - taste(one, second.text).score
            if better and all(answer.ended and answer.text.strip() for answer in (first, second)):
                yield (one, first, second) if better > 0 else (one, second, first)

    def _agreement(self, run: str, reward: str) -> Agreement:
        """How often the reward model agrees with the taste, which does not err here, about answers it never saw."""
        base, scorer = open_base(run), load_scorer(init_checkpoint(reward)).model
        pairs = [
            Pair(base.prompt_ids([_user(one)]), better.ids, other.ids)
            for one, better, other in self._compared(base, CHECKED, self.seed + 1000)
        ]
        return agreement(each_answer(scores, scorer, pairs), pairs)

    def _best_of(self, run: str, reward: str) -> dict[int, float]:
        """The true score of the best of so many answers, by the reward model: what learning from it has to beat."""
        base, asked, most = open_base(run), requests(f"{self.seed} best of", 128), max(BEST_OF)
        answers = _answers(base, [one for one in asked for _ in range(most)], self.seed)
        scorer = load_scorer(init_checkpoint(reward)).model
        ids = [base.prompt_ids([_user(one)]) for one in asked]
        true, guessed = [], []
        for number, one in enumerate(asked):
            mine = answers[number * most : (number + 1) * most]
            with torch.no_grad():
                guessed.append(scores(scorer, padded([(ids[number], answer.ids) for answer in mine])).tolist())
            true.append([taste(one, answer.text).score for answer in mine])
        return {n: fmean(t[g.index(max(g[:n]))] for t, g in zip(true, guessed, strict=True)) for n in BEST_OF}


def _held() -> list[Request]:
    return requests("held out", JUDGED // 2, held_out())


def _answers(base: Base, asked: Sequence[Request], seed: int) -> list[Answer]:
    ids = {one: base.prompt_ids([_user(one)]) for one in set(asked)}
    ends, longest = base.tokenizer.ends, max(map(len, ids.values())) + ANSWER_TOKENS
    engine = answering_engine(base.model, base.tokenizer, longest, slots=SLOTS, compiled=True)
    return write_answers(engine, [ids[one] for one in asked], tokens=ANSWER_TOKENS, ends=ends, seed=seed)


def _judged(base: Base, asked: Sequence[Request], against: Base | None, seed: int) -> dict[str, float]:
    answers = _answers(base, asked, seed)
    found = means([(one, answer.text) for one, answer in zip(asked, answers, strict=True)])
    found |= {"ended": share_ended(answers), "distinct": share_distinct(answers)}
    if against:
        batch = padded([(base.prompt_ids([_user(one)]), a.ids) for one, a in zip(asked, answers, strict=True)])
        with torch.no_grad():
            seen = measure(base.model, against.model, batch)
        assert batch.weight_BT is not None
        found["kl"] = (seen.kl_BT * batch.weight_BT).sum(1).mean().item()
    return found


def _user(one: Request) -> dict[str, str]:
    return {"role": "user", "content": one.text}


def _assistant(line: str) -> dict[str, str]:
    return {"role": "assistant", "content": line}


def _write_lines(path: Path, rows: Any) -> None:
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def save(demo: Rlhf) -> None:
    """Write rlhf.json into the demo's folder."""
    write_atomic(demo.folder / "rlhf.json", as_json(demo.record()))
