"""nanoGPT and this project, name by name; both are the lecture's model, written twice."""

from __future__ import annotations

from collections.abc import Iterator

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Table
from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.model.meta import on_meta

NAMES = (
    ("transformer.wte", "embed", "a vector for each token"),
    ("transformer.wpe", "positions.table", "a vector for each place"),
    ("transformer.h", "blocks", "the layers"),
    ("h.N.ln_1", "blocks.N.attention_norm", "the norm before attention"),
    ("h.N.attn.c_attn", "blocks.N.attention.query, key, value", "one matrix there, three here"),
    ("h.N.attn.c_proj", "blocks.N.attention.out", "heads back into the stream"),
    ("h.N.ln_2", "blocks.N.mlp_norm", "the norm before the MLP"),
    ("h.N.mlp.c_fc", "blocks.N.mlp.up", "C → 4C"),
    ("h.N.mlp.c_proj", "blocks.N.mlp.down", "4C → C"),
    ("transformer.ln_f", "norm", "the last norm"),
    ("lm_head", "head", "logits, tied to the embedding"),
    ("block_size, n_layer, n_head, n_embd", "context, layers, heads, width", "the shape"),
    ("train.py", "train/loop.py, recipes/session.py", "the loop; what happens around it"),
    ("get_batch", "text/batches.py, Windows", "random starts there, each window once an epoch here"),
    ("estimate_loss", "train/evaluate.py, evaluate", "200 random batches there, the whole split here"),
    ("generate", "generate/engine.py, Engine", "no cache there"),
)


def explain(lesson: Lesson) -> Iterator[Part]:
    """A table of names; and that the `gpt2` family has GPT-2's number of parameters."""
    yield Table("The same thing", ["nanoGPT", "here", "what it is"], NAMES)
    with on_meta():
        whole = GPT(family("gpt2", vocabulary=50257)).parameters_count
        model = GPT(family("gpt2", vocabulary=65, layers=1, width=64, heads=4, context=32))
    yield Table(
        "A small `gpt2`, parameter by parameter", ["name", "shape", "numbers"],
        [(name, "×".join(map(str, p.shape)), p.numel()) for name, p in model.named_parameters()],
    )  # fmt: skip
    yield Say(f"`GPT(family('gpt2', vocabulary=50257))` has {whole:,} parameters, as GPT-2 has.")
    yield Say(
        "Heads are an axis of one product in both: (B, T, C) is seen as (B, T, H, K) and turned to (B, H, T, K), and "
        "all heads of all rows are multiplied at once. `quoth explain heads` times that against a list."
    )
