"""The dial chooses all settings not given, from the time or the steps, the machine's speed and the text's size.

It consists of two laws and a search. `step_seconds` predicts how long a step of a shape takes on a machine whose matrix
products and elementwise passes were timed; `expected_loss` predicts the loss that a shape reaches with a number of
tokens of a text of some length. The dial takes the shape with the lowest predicted loss. Both laws were fitted to runs
that `python -m benchmarks dial` can repeat, and whose loss was measured on a slice of the training split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import expm1, log2, sqrt
from typing import Any

import torch
import torch.nn.functional as F

from quoth.model.config import GPTConfig, family
from quoth.recipes.recipe import Setting, Settings
from quoth.system.device import Hardware, fastest
from quoth.text.corpus import Corpus
from quoth.train.compile import WHOLE_LAYERS, last_compile

# Shapes to choose from, (layers, width); each is larger than the one before by a fifth or more.
SHAPES = (
    (2, 64), (2, 128), (3, 128), (4, 128), (3, 192), (4, 192), (5, 192), (4, 256), (5, 256), (6, 256), (8, 256),
    (7, 320), (8, 384), (10, 448), (12, 512), (12, 640), (12, 768), (16, 1024),
)  # fmt: skip
CONTEXTS = (32, 64, 128, 256, 512, 1024)
# Seconds that the first step, samples and saving take, and that compiling takes for a model and for each layer.
# EVALUATIONS is how often the validation split is read, each time in about a third of the time of training on it.
OVERHEAD_SECONDS, COMPILE_SECONDS, COMPILE_LAYER_SECONDS = 4.0, 8.0, 2.3
EVALUATIONS = 3
# An evaluation takes at most this share of the time. If the whole validation split would take more, only its beginning
# is used, but no fewer tokens than FEWEST_JUDGED.
LONGEST_EVALUATION, FEWEST_JUDGED = 0.15, 4096
# The laws make no predictions beyond thirty years.
MOST_SECONDS = 1e9
# A short run of a large model has at least this many steps, each of a single window if need be.
FEWEST_STEPS = 20
# Before the first step a compiled model is compared with the uncompiled one, which takes as long as this many steps.
REHEARSAL_STEPS = 7
# Writing a sample takes at most this share of the time. It reads all weights for each token, at SAMPLE_BYTES a second.
SAMPLE_SHARE, SAMPLE_BYTES, SAMPLE_TOKENS = 0.05, 1e10, 150
# If steps are given, evaluations take this share of the time, and there are at most this many.
EVALUATION_SHARE, MOST_EVALUATIONS = 0.03, 100


@dataclass(frozen=True)
class Machine:
    """A machine's measured speed: FLOP/s of a large matrix product and elements/s of an elementwise pass.

    `compiled` says whether steps may be compiled, which takes `compile_ratio` times the usual time.
    """

    flops: float
    elements: float
    compiled: bool = True
    compile_ratio: float = 1.0


# If steps are given, the dial assumes this machine, a laptop of 2024, so that no choice depends on the actual one.
REFERENCE = Machine(flops=4e11, elements=3e9)


def probe(hardware: Hardware) -> Machine:
    """Time an elementwise pass, which takes a tenth of a second; `hardware` has timed a matrix product already."""
    x = torch.randn(2**20, device=hardware.device)
    elements = x.numel() / fastest(lambda: F.silu(x), hardware.device)
    ratio, last = 1.0, last_compile()
    if last:
        ratio = min(8.0, max(0.5, last["seconds"] / compile_seconds(int(last["layers"]))))
    return Machine(hardware.flops, elements, hardware.compile, ratio)


def step_seconds(c: GPTConfig, batch: int, machine: Machine) -> float:
    """How many seconds a step of `batch` windows takes.

    It is the sum of matrix products, at the share of the probe's rate that a model's smaller products reach;
    elementwise passes over each layer's activations; Muon's products; and a constant for each layer. The law was fitted
    to eight shapes of 0.4 to 7 million parameters, from which it differs by at most 7%.
    """
    tokens, matrices = batch * c.context, matrix_parameters(c)
    products = 6 * matrices * tokens / (MATMUL_SHARE * machine.flops)
    held = c.layers * (16 * c.width + 3 * c.hidden + 3 * c.heads * c.context) + 4 * c.vocabulary
    passes = PASSES * tokens * held / machine.elements
    muon = 15 * 2 * matrices * c.width / (MATMUL_SHARE * machine.flops)
    return (products + passes + muon + LAYER_SECONDS * c.layers) * (1.0 if machine.compiled else EAGER)


def matrix_parameters(c: GPTConfig) -> int:
    """The number of parameters in matrices that every token is multiplied with."""
    attention = c.width * c.head_size * (2 * c.heads + 2 * c.kv_heads)
    return c.layers * (attention + (3 if c.mlp == "swiglu" else 2) * c.width * c.hidden) + c.width * c.vocabulary


def effective_parameters(c: GPTConfig) -> float:
    """The parameters that the law of loss counts: all of them from four layers on, and a share of them below.

    In the same minute two layers of width 128 did worse than three, and in three minutes three layers of width 192 did
    worse than four, by 0.01 to 0.03 nats.
    """
    return matrix_parameters(c) * min(1.0, (c.layers + 1) / 5)


def expected_loss(parameters: float, tokens: float, unique: float) -> float:
    """The loss of a model with `parameters`, up to a constant, after training on `tokens`, `unique` of them distinct.

    The law has the form of Hoffmann et al. 2022 (arXiv:2203.15556). As in Muennighoff et al. 2023 (arXiv:2305.16264),
    repeated tokens count less and less, and so do parameters beyond what the text can fill.
    """
    size = _saturating(parameters, PARAMETERS_PER_TOKEN * unique)
    seen = _saturating(tokens, EPOCHS * unique)
    return float(A / size**ALPHA + B / seen**BETA)


def _saturating(amount: float, limit: float) -> float:
    return limit * -expm1(-amount / limit)


MATMUL_SHARE = 0.8
PASSES = 2.5
LAYER_SECONDS = 0.0021
EAGER = 1.8
A, ALPHA = 17.6, 0.35
B, BETA = 3e5, 1.0
PARAMETERS_PER_TOKEN = 20.0
EPOCHS = 30.0
TOKENS_A_STEP, FEWEST_TOKENS = 4096, 2048
LONG_SECONDS = 400
DROPOUT, FREE_EPOCHS, LEAST_DROPOUT = 0.05, 6.0, 0.02


@dataclass(frozen=True)
class Choice:
    """A shape that was considered, and the loss that it is expected to reach."""

    config: GPTConfig
    batch: int
    compiled: bool
    tokens: float
    loss: float

    @property
    def steps(self) -> float:
        """The number of steps in which the tokens are trained on."""
        return self.tokens / (self.batch * self.config.context)


def weigh(
    seconds: float,
    vocabulary: int,
    unique: int,
    machine: Machine,
    model: dict[str, Any],
    batch: int,
    judged: int = 0,
    *,
    always_compiled: bool = False,
) -> list[Choice]:
    """The shapes that agree with the given `model` settings, best first. With a `batch` of 0 the dial chooses it.

    The `seconds` are for compiling (if it pays), training, and evaluating on `judged` tokens.
    """
    model = dict(model)
    name = model.pop("family", "modern")
    shapes = [(layers, width) for layers, width in SHAPES if width % model.get("heads", 1) == 0]
    if model.get("layers") == 0:  # This is a table of token pairs: channels beyond the vocabulary's size add nothing.
        shapes = [(layers, width) for layers, width in shapes if width <= max(vocabulary, SHAPES[0][1])]
    choices = []
    for layers, width in shapes or SHAPES[:1]:
        config = family(name, vocabulary=vocabulary, **{"layers": layers, "width": width, **model})
        ways = (True,) if always_compiled else (True, False) if machine.compiled else (False,)
        reached = [(*_reached(config, seconds, machine, batch, judged, compiled=way), way) for way in ways]
        windows, tokens, compiled = max(reached, key=lambda one: one[1])
        loss = expected_loss(effective_parameters(config), tokens, unique)
        choices.append(Choice(config, windows, compiled, tokens, loss))
    return sorted(choices, key=lambda choice: choice.loss)


def _reached(
    config: GPTConfig, seconds: float, machine: Machine, batch: int, judged: int, *, compiled: bool
) -> tuple[int, float]:
    """The windows in a step, and the tokens that are trained on in `seconds`."""
    machine = replace(machine, compiled=compiled)
    windows = batch or batch_windows(config, seconds, machine)
    takes = 0.0
    if compiled:
        takes = compile_seconds(config.layers) * machine.compile_ratio
        takes += REHEARSAL_STEPS * step_seconds(config, windows, machine)
    left = max(0.01 * seconds, seconds - takes)
    token_seconds = step_seconds(config, windows, machine) / (windows * config.context)
    # Even if there is hardly time to evaluate, the fastest shape must come first.
    tokens = max(0.1 * left / token_seconds, left / token_seconds - EVALUATIONS * judged / 3)
    return windows, tokens


def compile_seconds(layers: int) -> float:
    """How many seconds compiling takes with a cold cache; the blocks of a deep model share one compiled block."""
    return COMPILE_SECONDS + COMPILE_LAYER_SECONDS * (layers if layers <= WHOLE_LAYERS else 1)


def seconds_for(steps: int, weighed: Callable[[float], Choice]) -> float:
    """How many seconds `steps` steps take with the shape that `weighed` finds best for that time.

    It bisects the logarithm of the time: more time never gives fewer steps, except where the best shape changes.
    """
    low, high = 1e-3, 1e9
    while high / low > 1.001:
        middle = sqrt(low * high)
        low, high = (low, middle) if weighed(middle).steps >= steps else (middle, high)
    return high


def context_for(seconds: float, shortest_split: int) -> int:
    """The context: longer for longer runs, but never longer than a quarter of the validation split."""
    wanted = 128 if seconds < LONG_SECONDS else 256
    return max((c for c in CONTEXTS if c <= min(wanted, shortest_split // 4)), default=CONTEXTS[0])


def batch_windows(c: GPTConfig, seconds: float, machine: Machine) -> int:
    """The windows in a step; its tokens grow with the fourth root of the number of tokens that there is time for.

    On training text, 4,096 tokens a step were better than 2,048 by 0.02 nats in one minute (2M tokens) and by 0.008 in
    three (6M), since Muon's part of a step does not grow with the batch. Ten minutes take 4,096 tokens a step too.
    """
    token_seconds = step_seconds(c, 16, machine) / (16 * c.context)
    wanted = TOKENS_A_STEP * (seconds / token_seconds / 6e6) ** 0.25
    windows = max(1, FEWEST_TOKENS // c.context, int(2 ** round(log2(wanted / c.context))))
    return max(1, min(windows, int(seconds / (FEWEST_STEPS * token_seconds * c.context))))


def dropout_for(parameters: float, tokens: float, unique: int) -> float:
    """The dropout: 0 for text that is seen a few times, and more for more epochs, up to what a small model can bear."""
    rate = round(min(0.2, DROPOUT * log2(max(tokens / unique, 1e-9) / FREE_EPOCHS)), 2)
    return rate if rate >= LEAST_DROPOUT else 0.0


def learning_rate_for(steps: float) -> float:
    """Muon's learning rate: 0.016 for a run of 2,000 steps or more, and higher for a shorter run.

    On training text, 0.014 and 0.02 were alike after 2,700 steps and better than 0.03; after 2,300 steps 0.014 was
    better than 0.02; after 250 steps 0.04 to 0.1 were alike and better by 0.06 nats than 0.02.
    """
    return round(0.016 * min(4.0, max(1.0, sqrt(2000 / max(steps, 1.0)))), 3)


def complete(known: Settings, corpus: Corpus, hardware: Hardware, elapsed: float = 0.0) -> Settings:
    """Add to the known settings a value, with its reason, for each one that the time decides.

    `elapsed` seconds of the time are used already. If steps are given instead of minutes, the time is what those steps
    take on `REFERENCE`.
    """
    value = {key: setting.value for key, setting in known.items()}
    steps, minutes = value.get("steps", 0), value.get("minutes") or 3.0
    unique, judged = len(corpus.train), len(corpus.validation)
    machine = replace(REFERENCE, compiled=hardware.compile) if steps else probe(hardware)
    if value.get("compile", "auto") == "auto" and value.get("device") == "cuda":
        machine = replace(machine, compile_ratio=0.0)
    shape = {key: value[key] for key in MODEL_KEYS if key in value}

    def weighed(seconds: float) -> list[Choice]:
        context = shape.get("context", context_for(seconds, min(unique, judged)))
        judges = 0 if steps else judged
        given = {**shape, "context": context}
        asked = value.get("compile") == "on"
        size, batch = corpus.tokenizer.vocabulary, value.get("batch", 0)
        return weigh(seconds, size, unique, machine, given, batch, judges, always_compiled=asked)

    seconds = min(MOST_SECONDS, max(2.0, 60 * minutes - OVERHEAD_SECONDS - elapsed))
    if steps:
        seconds = seconds_for(steps, lambda time: weighed(time)[0])
    task = Task(steps, minutes, seconds, unique, judged, machine)
    return {**_settings(task, weighed(seconds), value.get("optimizer", "muon")), **known}


@dataclass(frozen=True)
class Task:
    """What the dial chooses for: steps, or else minutes; the seconds they take; the splits' tokens; and the machine."""

    steps: int
    minutes: float
    seconds: float
    unique: int
    judged: int
    machine: Machine


def _settings(task: Task, choices: list[Choice], optimizer: str) -> Settings:
    """The settings of the best choice, each value with its reason."""
    best, steps, minutes, seconds = choices[0], task.steps, task.minutes, task.seconds
    unique, judged, machine = task.unique, task.judged, task.machine
    tokens = steps * best.batch * best.config.context if steps else best.tokens
    token_seconds = step_seconds(best.config, best.batch, replace(machine, compiled=best.compiled))
    token_seconds /= best.batch * best.config.context
    long = f"{steps:,} steps" if steps else f"{minutes:g} min at about {1e-3 / token_seconds:,.0f}k tokens/s"
    why = f"dial: the best of {len(choices)} shapes for {long}"
    fits = f"dial: for about {tokens / 1e6:,.1f}M tokens in {steps or best.steps:,.0f} steps"
    chosen: dict[str, tuple[Any, str]] = {
        "layers": (best.config.layers, why),
        "width": (best.config.width, why),
        "context": (best.config.context, f"dial: for {long}, and a quarter of the validation split or less"),
        "batch": (best.batch, fits),
        "dropout": (dropout_for(matrix_parameters(best.config), tokens, unique), f"dial: {tokens / unique:.1f} epochs"),
    }
    if machine.compiled:
        pays = "pays" if best.compiled else "takes longer than it saves"
        chosen["compile"] = ("on" if best.compiled else "off", f"dial: in {long} compiling {pays}")
    rates = RATES[optimizer]
    chosen |= {key: (rate, "dial: tuned on training text") for key, rate in rates.items()}
    if "learning_rate" not in rates:
        count = steps or best.steps
        chosen["learning_rate"] = (learning_rate_for(count), f"dial: for about {count:,.0f} steps")
    if steps:
        times = int(min(MOST_EVALUATIONS, EVALUATION_SHARE * tokens / max(1.0, judged / 3)))
        chosen["evaluate_every"] = (-(-steps // max(1, times)), f"dial: {max(1, times)} times in {steps:,} steps")
    elif judged * token_seconds / 3 > LONGEST_EVALUATION * seconds:
        part = max(FEWEST_JUDGED, int(3 * LONGEST_EVALUATION * seconds / token_seconds))
        if part < judged:
            chosen["validation_tokens"] = (part, f"dial: all {judged:,} would take longer than {minutes:g} min allow")
    sampled = int(SAMPLE_SHARE * seconds * SAMPLE_BYTES / (4 * matrix_parameters(best.config)))
    if not steps and sampled < SAMPLE_TOKENS:
        chosen["sample_tokens"] = (sampled, f"dial: more would take too much of {minutes:g} min")
    return {key: Setting(*pair) for key, pair in chosen.items()}


def steps_in(c: GPTConfig, batch: int, hardware: Hardware, seconds: float, judged: int) -> float:
    """About how many steps of a shape fit into `seconds`, which include compiling and evaluations."""
    _, tokens = _reached(c, seconds, probe(hardware), batch, judged, compiled=hardware.compile)
    return tokens / (batch * c.context)


# Muon's peak rates come from trials with 4 layers of width 192 and 256, compared by their loss on the last tenth of the
# training split; AdamW's are customary.
RATES = {
    "muon": {"embedding_learning_rate": 0.05, "weight_decay": 0.3},
    "adamw": {"learning_rate": 2e-3, "embedding_learning_rate": 2e-3, "weight_decay": 0.1},
}


MODEL_KEYS = tuple(field.name for field in fields(GPTConfig) if field.name not in ("vocabulary", "dropout"))
