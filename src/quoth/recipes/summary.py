"""The summary of a run, written at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quoth.recipes.events import Stop
from quoth.recipes.stage import Stage
from quoth.recipes.state import RunState


def summary(
    folder: Path, stage: Stage, state: RunState, seconds: float, counts: dict[str, int], stop: Stop
) -> dict[str, Any]:
    """The content of `summary.json`. `counts` are numbers of parameters and tokens; losses are in nats per token."""
    return {
        "run": folder.name,
        "folder": str(folder),
        "data": stage.data,
        "tokenizer": stage.tokenizer.name,
        **counts,
        "steps": state.step,
        "seconds": round(seconds, 2),
        "training_seconds": round(state.step_seconds, 2),
        "tokens_per_second": round(counts["tokens"] / max(state.step_seconds, 1e-9), 1),
        "train_loss": state.train_loss,
        "validation_loss": state.best,
        "best_step": state.best_step,
        "last_validation_loss": state.validation_loss,
        **state.best_metrics,
        "stopped": stop or "finished",
    }
