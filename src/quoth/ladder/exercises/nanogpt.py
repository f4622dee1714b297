"""Exercises on nanoGPT's shape."""

from quoth.ladder.checker.exercise import Exercise


def gpt2_parameters(V: int, T: int, L: int, C: int) -> int:
    """How many numbers a GPT-2 has: tied embedding, positions, L blocks with all biases, layer norms of two vectors."""
    block = (3 * C * C + 3 * C) + (C * C + C) + (4 * C * C + 4 * C) + (4 * C * C + C) + 4 * C
    return V * C + T * C + L * block + 2 * C


def untied(V, T, L, C, *, of=gpt2_parameters):
    """The head is counted beside the embedding; they are one table."""
    return of(V, T, L, C) + V * C


def no_positions(V, T, L, C, *, of=gpt2_parameters):
    """The T vectors of places are missing."""
    return of(V, T, L, C) - T * C


def only_matrices(V, T, L, C):
    """Biases and norms are missing."""
    return V * C + T * C + L * 12 * C * C


def no_last_norm(V, T, L, C, *, of=gpt2_parameters):
    """The norm before the head is missing."""
    return of(V, T, L, C) - 2 * C


def our_name(name: str) -> str:
    """nanoGPT's name of a part, such as transformer.h.3.mlp.c_fc, as this project calls it: blocks.3.mlp.up."""
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


NAMES = {
    "transformer.wte": "embed", "transformer.wpe": "positions.table", "transformer.ln_f": "norm", "lm_head": "head",
    "transformer.h.": "blocks.", ".attn.c_proj": ".attention.out", ".mlp.c_fc": ".mlp.up", ".mlp.c_proj": ".mlp.down",
    ".ln_1": ".attention_norm", ".ln_2": ".mlp_norm",
}  # fmt: skip


def one_projection(name, *, of=our_name):
    """Both c_proj have one name; the one of attention is `out`, the one of the MLP `down`."""
    return of(name).replace(".mlp.down", ".mlp.out")


def norms_exchanged(name, *, of=our_name):
    """ln_1 is the norm before attention, ln_2 the one before the MLP."""
    return of(name.replace("ln_1", "ln_x").replace("ln_2", "ln_1").replace("ln_x", "ln_2"))


PARTS = ("transformer.wte", "transformer.h.3.mlp.c_fc", "transformer.h.0.attn.c_proj", "transformer.h.11.mlp.c_proj",
         "transformer.h.2.ln_1", "transformer.h.2.ln_2", "transformer.ln_f", "lm_head", "transformer.wpe")  # fmt: skip

EXERCISES = (
    Exercise(
        gpt2_parameters,
        (untied, no_positions, only_matrices, no_last_norm),
        lambda rng: [(50257, 1024, 12, 768), (65, 64, 4, 128)],
    ),
    Exercise(our_name, (one_projection, norms_exchanged), lambda rng: [(name,) for name in PARTS]),
)
