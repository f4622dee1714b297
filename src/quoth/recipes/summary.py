"""What is said of a run at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quoth.recipes.events import Stop
from quoth.recipes.state import RunState
from quoth.text.corpus import Corpus
from quoth.train.evaluate import Evaluation


def summary(
    folder: Path,
    corpus: Corpus,
    state: RunState,
    judged: Evaluation | None,
    seconds: float,
    counts: dict[str, int],
    stop: Stop,
) -> dict[str, Any]:
    """As `summary.json` holds it. `counts` are of parameters and tokens; losses are in nats per token."""
    bits_per_token = judged.bits_per_byte / judged.loss if judged else 0.0
    return {
        "run": folder.name,
        "folder": str(folder),
        "data": corpus.name,
        "tokenizer": corpus.tokenizer.name,
        **counts,
        "steps": state.step,
        "seconds": round(seconds, 2),
        "training_seconds": round(state.training_seconds, 2),
        "tokens_per_second": round(counts["tokens"] / max(state.training_seconds, 1e-9), 1),
        "train_loss": state.train_loss,
        "validation_loss": state.best,
        "best_step": state.best_step,
        "last_validation_loss": state.validation_loss,
        "bits_per_byte": bits_per_token * (state.best or 0.0),
        "stopped": stop or "finished",
    }
