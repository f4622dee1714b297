"""What is written of a run: the lines of its log, and at its end its summary, its pace and its report."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from quoth.recipes.recipe import write_pace
from quoth.studio.report import write_report
from quoth.system.files import as_json, write_atomic
from quoth.system.memory import peak_bytes
from quoth.train.loop import Step
from quoth.train.schedule import Clock, Pace

if TYPE_CHECKING:
    from quoth.recipes.session import Session

# The number of steps between lines of the log.
LOG_EVERY = 10


def log_line(step: Step, learning_rate: float, speed: float) -> dict[str, float]:
    """What is logged of a step, where `learning_rate` is the highest of the run and `speed` in tokens per second."""
    return {
        "loss": step.loss,
        "learning_rate": step.multiplier * learning_rate,
        "learning_rate_share": step.multiplier,
        "gradient_norm": step.gradient_norm,
        "tokens_per_second": round(speed, 1),
        **step.metrics,
    }


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


def write_end(s: Session, known: dict[str, Any]) -> None:
    """Write the summary that is `known` and the report of a run, and its pace if it was measured by the clock.

    The first of several processes writes.
    """
    if not s.world.leads:
        return
    if isinstance(s.budget, Clock) and not s.ended:
        write_pace(s.folder / "config.toml", Pace(s.budget.pace, s.state.step))
    write_atomic(s.folder / "summary.json", as_json(known))
    write_report(s.folder, s.stage.published)
