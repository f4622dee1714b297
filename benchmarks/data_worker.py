"""What `data` does in a process of its own, so that its memory can be told."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.system.device import keep_freed_memory
from quoth.text.corpus import corpus
from quoth.train.loop import fit
from quoth.train.objectives import next_token
from quoth.train.optimizers import make_optimizer

STEPS = 20


def memory_mb() -> dict[str, float]:
    """Private memory and file pages of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
    return {"private": kib["RssAnon"] * 1024 / 1e6, "file": kib["RssFile"] * 1024 / 1e6}


def tokenize(text: str, tokenizer: str) -> dict[str, float]:
    before, began = sum(memory_mb().values()), time.perf_counter()
    data = corpus(text, tokenizer)
    tokens = len(data.train) + len(data.validation)
    return {"seconds": time.perf_counter() - began, "tokens": tokens, "before_mb": before}


def train(text: str, tokenizer: str) -> dict[str, float]:
    keep_freed_memory()
    data = corpus(text, tokenizer)
    model = GPT(family("modern", vocabulary=data.tokenizer.vocabulary, layers=2, width=128, context=128))
    after = [memory_mb() for _ in fit(model, make_optimizer(model), data.batches(16, 128), next_token, steps=STEPS)]
    growth = {f"{kind}_growth_mb": after[-1][kind] - after[0][kind] for kind in ("private", "file")}
    return {"private_mb": after[-1]["private"], **growth}


if __name__ == "__main__":
    work, *arguments = sys.argv[1:]
    print(json.dumps({"tokenize": tokenize, "train": train}[work](*arguments)))
