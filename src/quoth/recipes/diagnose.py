"""Sentences for the user about what a run's losses show."""

from __future__ import annotations

from math import isfinite

from quoth.recipes.state import RunState
from quoth.train.loop import Step


def overfitting(state: RunState) -> list[tuple[str, str]]:
    """A remark, with its kind, if the validation loss rises while the training loss falls; else nothing."""
    train, validation = state.train_loss, state.validation_loss
    if state.worse < 2 or train is None or validation is None or train >= validation:
        return []
    text = (
        f"Overfitting since step {state.best_step}: the validation loss rises while the training loss falls; the best "
        "checkpoint is kept. More text, more dropout or less time would help."
    )
    return [("overfitting", text)]


def rate_too_high(state: RunState) -> list[tuple[str, str]]:
    """A remark, with its kind, if the validation loss is higher than before training; else nothing."""
    first, now = state.first_loss, state.validation_loss
    if first is None or now is None or now <= first:
        return []
    text = (
        f"The loss is higher than before training ({now:.2f} > {first:.2f}): this looks like a learning rate that is "
        "too high."
    )
    return [("rate", text)]


def losing(state: RunState) -> list[tuple[str, str]]:
    """What a validation loss that rises tells, as remarks with their kinds."""
    return [*overfitting(state), *rate_too_high(state)]


def fault(step: Step) -> str:
    """The reason why a step did not move the weights."""
    if not step.tokens:
        return "no target counts"
    if not isfinite(step.loss):
        return "the loss is not finite"
    if not isfinite(step.gradient_norm):
        return "the gradient is not finite"
    return f"the loss of {step.loss:.2f} is a spike"


def left_out(step: Step, batch: int) -> str:
    """The sentence for the first of several steps that did not move the weights."""
    return f"At step {step.number} (batch {batch}) {fault(step)}; such steps are left out."


def returned(step: Step, before: RunState, now: RunState) -> str:
    """The sentence for a run that went back to a checkpoint."""
    return (
        f"At step {step.number} {fault(step)}, as at the {before.bad - 1} steps before it, so the run went back to the "
        f"checkpoint of step {now.step}, and goes on from there with batch {now.step + now.dropped}."
    )


def unending(step: Step, state: RunState) -> str:
    """The beginning of the sentence for a run that gives up."""
    again = f", and going back {state.returns} times did not help" if state.returns else ""
    return (
        f"At step {step.number} {fault(step)}, as at the {state.bad - 1} steps before it, since step "
        f"{step.number - state.bad + 1}{again}"
    )
