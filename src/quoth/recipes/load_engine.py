"""Load a run's checkpoint into an engine, which generates text with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch

from quoth.generate.engine import Engine
from quoth.generate.native.decoder import Weights
from quoth.generate.sampling import Sampling
from quoth.model.gpt import GPT
from quoth.recipes.load_run import LoadedRun, load_run
from quoth.system.errors import InputError
from quoth.system.memory import available_bytes, size
from quoth.text.chat import Template

_said: set[str] = set()


@dataclass(frozen=True)
class LoadedEngine:
    """A run that is ready to generate text; one without a chat template can only continue a text."""

    run: LoadedRun
    engine: Engine
    template: Template | None

    @property
    def name(self) -> str:
        return self.run.name


def sampling_of(arguments: object) -> Sampling:
    """The sampling settings among a command's arguments.

    Raises:
        InputError: a value is out of its range.
    """
    names = [field.name for field in fields(Sampling) if hasattr(arguments, field.name)]
    return Sampling(**{name: getattr(arguments, name) for name in names})


def tell_why_not(engine: Engine, say: Callable[[str], None]) -> None:
    """Say, once in a process, why an engine decodes with PyTorch instead of the compiled decoder."""
    why = engine.decoder.why_not
    if why and why not in _said:
        _said.add(why)
        say(f"PyTorch runs the model, which is slower than the compiled decoder: {why}.")


def load_engine(
    run: str,
    which: str,
    say: Callable[[str], None],
    *,
    slots: int = 1,
    weights: Weights = "float32",
    threads: int = 0,
    context: int = 0,
    taken: int | None = None,
) -> LoadedEngine:
    """Load the best or last checkpoint of a run, or of a run with adapters, as `load_run` does.

    `say` is called with a sentence for each broken checkpoint that is skipped, and if the compiled decoder could not be
    built.

    Args:
        run: the run's folder, its name, or latest; or RUN+ADAPTER.
        which: best or last.
        say: a function that shows a sentence to the user.
        slots: how many requests are decoded at once.
        weights: the number type in which weights are kept.
        threads: the number of threads; 0 tries out which number is fastest.
        context: the number of tokens in a window; 0 takes the run's own context.
        taken: bytes of memory that others may use; if given, full slots must fit into memory beside them.

    Raises:
        InputError: there is no such run, it has no intact checkpoint, or the engine cannot be made as asked or does
            not fit into memory.
    """
    torch.set_num_threads(1)  # The compiled decoder leaves little work to torch.
    loaded = load_run(run, which, "cpu", say)
    kept = loaded.checkpoint
    config = kept.model.config
    if context > config.context:
        raise InputError(
            f"{loaded.name} has a context of {config.context:,} tokens, so --context cannot be {context:,}."
        )
    if taken is not None:
        check_memory(loaded.name, kept.model, slots, weights, context or config.context, taken)
    how: dict[str, Any] = {"slots": slots, "weights": weights, "threads": threads, "context": context}
    engine = Engine(kept.model, kept.tokenizer, compiled=True, **how)
    tell_why_not(engine, say)
    template = Template(kept.tokenizer.template) if kept.tokenizer.template else None
    return LoadedEngine(loaded, engine, template)


def check_memory(name: str, model: GPT, slots: int, weights: Weights, context: int, taken: int) -> None:
    """Refuse an engine that would not fit once all slots are full; the system grants memory before it is used.

    Raises:
        InputError: the engine would not fit.
    """
    needed, free = Engine.memory_bytes(model, slots, weights=weights, context=context), available_bytes("cpu")
    if free is not None and needed + taken > free:
        raise InputError(
            f"{name} does not fit into memory: {slots} slots of {context:,} tokens and the weights take "
            f"{size(needed)}, but {size(max(0, free - taken))} are free; give fewer --slots or a smaller --context."
        )
