"""What the studio shows of a text: what happens in the model, in the form that the page reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoth.generate.sampling import Sampling
from quoth.look.parts import Part, heads_of, silenced
from quoth.look.passages import passages
from quoth.look.trace import losses_without, saliency, shrunk, trace
from quoth.studio.opened import OpenRun
from quoth.system.errors import InputError
from quoth.web.packed import pack

GoOn = Callable[[], bool]
# How many cells a matrix of attention has on a side at most; that of a longer text is made smaller, and shown whole
# where a single head is looked at.
CELLS = 128
LIKELIEST = 10
# How many tokens of the training text are shown around a passage.
AROUND = 40


def look(run: OpenRun, step: int, text: str, off: Sequence[str], go_on: GoOn) -> bytes:
    """What happens in the model of a step as it reads a text, without the parts that are off.

    Facts: `names`, what each id that occurs shows; `before`, how many tokens were too early to be read. Arrays: the
    `ids` (T,), the `loss` (L + 1, T − 1) by layer, the `likely` ids (L + 1, T, N) and their probabilities `p`, and
    `attention` (L, H, ...): of each head the rows of the lower triangle, one after the other, in 255ths.
    """
    model, parts, read = run.at(step), run.parts(off), run.text(text)
    found = trace(model, read.id_T, off=parts, likeliest=LIKELIEST, keep=shrunk(CELLS), go_on=go_on)
    likely = found.likely_LTN.numpy()
    shown = {*read.id_T.tolist(), *np.unique(likely).tolist()}
    return pack(
        {"names": {str(id_): run.piece(id_) for id_ in sorted(shown)}, "before": read.before},
        ids=read.id_T.numpy().astype(np.uint32),
        loss=found.loss_LT.numpy().astype(np.float32),
        likely=likely.astype(np.uint32 if model.config.vocabulary > 2**16 else np.uint16),
        p=found.probability_LTN.numpy().astype(np.float16),
        attention=_triangle(found.attention_LHTS.numpy()),
    )


def one_head(run: OpenRun, step: int, text: str, off: Sequence[str], head: str, go_on: GoOn) -> bytes:
    """The attention of one head, every cell of it, as `attention` in `look`."""
    model, parts, read = run.at(step), run.parts(off), run.text(text)
    (part,) = run.parts([head])
    if part.head is None:
        raise InputError(f"{head} is no head; write 0.attention.2 for head 2 of layer 0, both counted from 0.")
    kept = trace(model, read.id_T, off=parts, likeliest=1, keep=lambda weight: weight[part.head, None], go_on=go_on)
    return pack({}, attention=_triangle(kept.attention_LHTS[part.layer, 0].numpy()))


def _triangle(weight: NDArray[Any]) -> NDArray[Any]:
    rows, columns = np.tril_indices(weight.shape[-1])
    cells: NDArray[np.uint8] = np.rint(255 * weight[..., rows, columns]).astype(np.uint8)
    return cells


def each_off(run: OpenRun, step: int, text: str, off: Sequence[str], go_on: GoOn) -> bytes:
    """How much more the text surprises the model without each part: `names` of parts, and `more` (N, T − 1) in nats."""
    model, read = run.at(step), run.text(text)
    config = model.config
    layers = range(config.layers)
    parts = [*heads_of(config), *(Part(layer, name) for layer in layers for name in ("attention", "mlp"))]
    if off:
        model = silenced(model, run.parts(off))
    more = losses_without(model, read.id_T, parts, go_on)
    return pack({"names": [str(part) for part in parts]}, more=more.numpy().astype(np.float16))


def hangs_on(run: OpenRun, step: int, text: str, off: Sequence[str], place: int) -> bytes:
    """How much the loss of the token after a place hangs on each token up to it: `saliency` (place + 1,).

    Raises:
        InputError: no token follows that place.
    """
    model, read = run.at(step), run.text(text)
    if not 0 <= place < len(read.id_T) - 1:
        raise InputError(f"There is no token after place {place}; the text has {len(read.id_T)}, counted from 0.")
    found = saliency(silenced(model, run.parts(off)) if off else model, read.id_T, place)
    return pack({}, saliency=found.numpy().astype(np.float32))


def same_passages(run: OpenRun, text: str, place: int, go_on: GoOn) -> dict[str, Any]:
    """Where the training text goes as this text does up to a place: `counts` by length, and some `places`.

    Raises:
        InputError: the training text cannot be read.
    """
    read, train = run.text(text), run.corpus().train
    id_T = read.id_T.numpy()[: place + 1]
    found = passages(train, id_T, go_on=go_on)
    return {
        "counts": found.counts,
        "places": [
            {
                "before": run.said(train[max(0, end - found.length - AROUND) : end - found.length]),
                "same": run.said(train[end - found.length : end]),
                "after": run.said(train[end : end + AROUND]),
            }
            for end in found.ends
        ],
    }


def written(
    run: OpenRun, step: int, prompt: str, off: Sequence[str], tokens: int, sampling: Sampling, seed: int, go_on: GoOn
) -> dict[str, Any]:
    """What the model of a step writes after a prompt, without the parts that are off."""
    model = run.at(step)
    if off:
        model = silenced(model, run.parts(off))
    generation = run.write(model, prompt, tokens, sampling, seed, go_on)
    return {"text": generation.text, "finish": generation.finish}


def example(run: OpenRun) -> str:
    """A text worth looking at: a piece of the validation split, which the model has not learned from.

    It begins at the beginning of a line where there is one. Of a run whose data cannot be read, it is what it wrote.
    """
    context = run.model.config.context
    try:
        token_N = run.corpus().validation[: 8 * context]
    except InputError:
        samples = sorted((run.folder / "samples").glob("*.txt"))
        said = samples[-1].read_text(encoding="utf-8", errors="replace") if samples else ""
        return said[: 4 * context] or "To be, or not to be"
    said = run.said(token_N)
    begin = said.find("\n\n") + 2 if "\n\n" in said[: len(said) // 2] else 0
    ids = run.tokenizer.encode(said[begin:]).tolist()[: min(context, CELLS) - len(run.tokenizer.begins)]
    return run.said(ids)
