"""The summary of a run, written at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from quoth.system.memory import peak_bytes

if TYPE_CHECKING:
    from quoth.recipes.session import Session


def summary(s: Session) -> dict[str, Any]:
    """The content of `summary.json`, for a run that has ended; losses are in nats per token."""
    state, tokens = s.state, s.state.step * s.stage.tokens_per_step
    return {
        "run": s.folder.name,
        "folder": str(s.folder),
        "data": s.stage.data,
        "tokenizer": s.stage.tokenizer.name,
        "parameters": s.policy.parameters_count,
        "tokens": tokens,
        "steps": state.step,
        "seconds": round(time.monotonic() - s.started, 2),
        "training_seconds": round(state.step_seconds, 2),
        "tokens_per_second": round(tokens / max(state.step_seconds, 1e-9), 1),
        "train_loss": state.train_loss,
        "validation_loss": state.best,
        "best_step": state.best_step,
        "last_validation_loss": state.validation_loss,
        **state.best_metrics,
        "stopped": s.ended or "finished",
        "compile_seconds": round(s.compile_seconds, 2),
        "peak_bytes": peak_bytes(s.hardware.device),
    }
