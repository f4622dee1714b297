"""A tiny run and data to tune it on, for tests."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from recipes.runs import begin

from quoth.recipes.session import Session
from quoth.recipes.start_tuning import start_tuning
from quoth.system.world import World

WORDS = ["king", "queen", "sea", "love", "night", "day"]
REWARD = """
def sea(prompt, answer):
    return float('sea' in answer) - 0.01 * len(answer)

def letter(prompt, answer):
    return answer.count('e') / 8
"""
FLAGS: dict[str, Any] = {"threads": 1, "dtype": "float32", "device": "cpu", "sample_tokens": 12, "seed": 3}
LENGTH = {"steps": 12, "evaluate_every": 4, "passes": 2, "minibatches": 2}
POLICY = {"answers": 16, "answer_tokens": 8, "reward": "rule.py:sea", **LENGTH}
STAGES: dict[str, dict[str, Any]] = {
    "sft": {"steps": 12, "compile": "off", "replay": 0.25},
    "reward": {"steps": 12},
    "dpo": {"steps": 12},
    "kto": {"steps": 12},
    "distill": {"steps": 12, "teacher": "base", "temperature": 2.0, "alpha": 0.3},
    "ppo": POLICY,
    "grpo": {**POLICY, "group": 4},
    "rloo": {**POLICY, "group": 4},
}

DATA = {
    "sft": "chats.jsonl",
    "reward": "pairs.jsonl",
    "dpo": "pairs.jsonl",
    "kto": "rated.jsonl",
    "distill": "text.txt",
}


def make_base() -> None:
    """A run whose model can be tuned, and data for each stage."""
    list(begin("base", steps=10).events())
    rng = random.Random(1)
    asked = [f"{one} {rng.choice(WORDS)}" for one in WORDS for _ in range(4)]
    write("chats.jsonl", [{"messages": [said("user", a), said("assistant", rng.choice(WORDS))]} for a in asked])
    pairs = [{"prompt": a, "chosen": f"sea {rng.choice(WORDS)}", "rejected": rng.choice(WORDS)} for a in asked]
    write("pairs.jsonl", [one for one in pairs if one["chosen"] != one["rejected"]])
    rated = [{"prompt": a, "completion": rng.choice(WORDS), "label": rng.random() < 0.3} for a in asked]
    write("rated.jsonl", rated)
    write("prompts.jsonl", [{"messages": [said("user", a)]} for a in asked])
    Path("rule.py").write_text(REWARD)


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def write(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def tune(stage: str, out: str = "tuned", **flags: Any) -> Session:
    data = DATA.get(stage, "prompts.jsonl")
    given = {"data": data, **FLAGS, **STAGES[stage], **flags}
    return start_tuning(stage, "base", None, given, out, time.monotonic(), World())
