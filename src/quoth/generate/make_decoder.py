"""Which decoder a model gets."""

from __future__ import annotations

from quoth.generate.decoder import Decoder, TorchDecoder, WindowDecoder
from quoth.generate.native.build import BuildError, failure, is_built
from quoth.generate.native.decoder import NativeDecoder, Weights, can_decode
from quoth.model.gpt import GPT
from quoth.system.errors import InputError


def make_decoder(
    model: GPT,
    slots: int,
    rows: int,
    *,
    weights: Weights = "float32",
    threads: int = 0,
    compiled: bool | None = None,
    cached: bool = True,
    context: int = 0,
) -> Decoder:
    """The fastest decoder that fits the model and its device.

    Args:
        slots: how many requests move at once.
        rows: how many tokens a step may take in.
        weights: float32, bfloat16 or int8, which only the compiled decoder knows.
        threads: of the compiled decoder; 0 tries out how many are fastest.
        compiled: whether to use the compiled decoder; None does where it was compiled before.
        cached: false for blocks that keep no cache.
        context: how many tokens a slot has room for, at most the model's context; 0 takes that. Less takes less memory.

    Raises:
        InputError: weights were asked for that cannot be had here.
    """
    if not cached:
        return WindowDecoder(model, slots=slots, rows=rows, context=context)
    why, why_not = "this model or device is not for it", ""
    if can_decode(model):
        try:
            if compiled or (compiled is None and is_built()):
                return NativeDecoder(model, slots=slots, rows=rows, weights=weights, threads=threads, context=context)
            why_not = failure() if compiled is None else ""
        except BuildError as error:
            why, why_not = str(error), str(error) if error.tried else ""
    if weights != "float32":
        raise InputError(f"Weights of {weights} need the compiled decoder, but {why}; leave out --weights.")
    made = TorchDecoder(model, slots=slots, rows=rows, context=context)
    made.why_not = why_not
    return made
