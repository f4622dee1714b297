"""Exercises on sizes and compute."""

from quoth.ladder.checker.exercise import Exercise


def training_flops(parameters: float, tokens: float) -> float:
    """About how many operations a training takes: two for each parameter and token forward, and twice that backward."""
    return 6 * parameters * tokens


def forward_only(parameters, tokens):
    """That is the forward pass alone; the backward pass takes twice as much again."""
    return 2 * parameters * tokens


def one_each(parameters, tokens):
    """A multiplication and an addition are two operations."""
    return 3 * parameters * tokens


def block_parameters(layers: int, width: int) -> int:
    """About how many numbers a GPT's blocks have, MLP four times as wide; matrices only, embeddings left out."""
    return 12 * layers * width**2


def no_mlp(layers, width):
    """Only attention's four matrices are counted; an MLP has eight more of that size."""
    return 4 * layers * width**2


def no_values(layers, width):
    """Attention has four matrices: queries, keys, values and the way back."""
    return 11 * layers * width**2


def optimal_tokens(parameters: float) -> float:
    """About how many tokens a model is best trained on where compute is what is short: Chinchilla's 20 a parameter."""
    return 20 * parameters


def gpt3_ratio(parameters):
    """That is about GPT-3's share, 300 billion for 175 billion; Chinchilla found twenty."""
    return 300 / 175 * parameters


def one_per_parameter(parameters):
    """One token for each parameter is far too few; Chinchilla found twenty."""
    return parameters


EXERCISES = (
    Exercise(training_flops, (forward_only, one_each), lambda rng: [(124e6, 10e9), (175e9, 300e9)]),
    Exercise(block_parameters, (no_mlp, no_values), lambda rng: [(12, 768), (96, 12288)]),
    Exercise(optimal_tokens, (gpt3_ratio, one_per_parameter), lambda rng: [(1e9,), (70e9,)]),
)
