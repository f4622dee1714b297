"""The stages after pretraining: what each reads, and what is chosen for it from the size of the data and the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from quoth.model.lora import is_adapted
from quoth.recipes.base import SMALL_MODEL, Base, open_base
from quoth.recipes.dial import EAGER, REFERENCE, REHEARSAL_STEPS, compile_seconds, step_seconds
from quoth.recipes.distill import DistillData, distill_data, distill_judging, distill_stage
from quoth.recipes.judging import Judging
from quoth.recipes.preferences import dpo_judging, dpo_stage, kto_judging, kto_stage, reward_judging, reward_stage
from quoth.recipes.recipe import Recipe, Setting, Settings, values_of
from quoth.recipes.reinforcement import reinforcement
from quoth.recipes.sft import row_length, sft, sft_judging
from quoth.recipes.stage import Stage
from quoth.recipes.tune_config import TuneConfig
from quoth.recipes.tuning_data import Split, conversations, pairs, prompts, ratings
from quoth.system.device import Hardware
from quoth.system.errors import InputError
from quoth.system.files import read_json
from quoth.system.world import World
from quoth.text.packing import Example
from quoth.train.reached import reaching_all
from quoth.tune.answers import Prompt
from quoth.tune.ratings import Rating
from quoth.tune.read import is_rows

# How many tokens a step of finetuning has. What is to be learned is little, and many small steps learn it soonest.
STEP_TOKENS = 1024
END_WEIGHT, NOISE = 5.0, 0.02  # Of an answer of a line or two.
# How many tokens a step of distillation has: of texts there is more, as in pretraining.
DISTILLED_TOKENS = 4096
# How many pairs or rated answers a step has, and how often a model writes answers to learn from, if nothing else is
# asked for.
PAIRS, ITERATIONS = 16, {"ppo": 29, "grpo": 42, "rloo": 42}
# The stages that learn from answers which the model itself writes.
POLICIES = ("ppo", "grpo", "rloo")


@dataclass(frozen=True)
class Kind:
    """A stage of tuning: how its data is read, what is chosen from the data's size, and how the stage is made.

    `judging` makes what evaluates a model, without what only training needs.
    """

    read: Callable[[Base, Mapping[str, Any]], Split[Any]]
    choose: Callable[[Base, Any, Settings], Settings]
    make: Callable[[Recipe, Base, Any, Hardware, World], Stage]
    judging: Callable[[Recipe, Base, Any, Hardware, World], Judging]


def check_processes(tune: TuneConfig, world: World, *, sharded: bool) -> None:
    """Refuse what several processes cannot do together.

    Raises:
        InputError: shards of adapters, or of a model that writes answers; or fewer prompts or answers than processes.
    """
    if sharded and tune.lora:
        raise InputError("--shard true spreads all weights, and --lora trains few; leave out one of the two.")
    if tune.stage not in POLICIES:
        return
    if sharded:
        raise InputError(
            f"In `quoth tune {tune.stage}` each process writes answers with the whole model; leave out --shard."
        )
    group = 1 if tune.stage == "ppo" else tune.group
    if tune.answers // group // world.size * group < tune.minibatches:
        raise InputError(
            f"{world.size} processes cannot share {tune.answers} answers in groups of {group} so that each has "
            f"{tune.minibatches} minibatches; give more --answers, or start fewer processes."
        )


def stage_of(kind: Kind, recipe: Recipe, base: Base, data: Any, hardware: Hardware, world: World) -> Stage:
    """A stage that refuses to leave parameters untrained which it should train."""
    stage = kind.make(recipe, base, data, hardware, world)
    assert stage.model
    return replace(stage, objective=reaching_all(stage.objective, stage.model))


def tuning(recipe: Recipe, hardware: Hardware, world: World) -> Stage:
    """The stage of a tuning recipe, to begin it or to go on with it.

    Raises:
        InputError: the base run or the data cannot be read any more.
    """
    assert recipe.tune
    kind, base = KINDS[recipe.tune.stage], base_of(recipe)
    check_processes(recipe.tune, world, sharded=recipe.run.shard)
    data = kind.read(base, values_of(recipe))
    return stage_of(kind, recipe, base, data, hardware, world)


def changed(recipe: Recipe, run: Path, facts: Mapping[str, Any]) -> str:
    """What a tuned run began with and is not the same any more, of what `facts` identify; "" if nothing is."""
    assert recipe.tune
    path = run / "environment.json"
    began_with = read_json(path) if path.exists() else {}
    names = {
        "base_sha256": recipe.run.init,
        "data_sha256": recipe.data.data,
        "reward_sha256": recipe.tune.reward,
        "teacher_sha256": recipe.tune.teacher,
    }
    differ = (name in facts and began_with.get(name, facts[name]) != facts[name] for name in names)
    return next((what for what, differs in zip(names.values(), differ, strict=True) if differs), "")


def base_of(recipe: Recipe) -> Base:
    """The base of a tuning recipe.

    Raises:
        InputError: it cannot be read any more.
    """
    assert recipe.tune
    return open_base(recipe.run.init, recipe.tune, chat=needs_chat(recipe.tune, recipe.data.data))


def needs_chat(tune: TuneConfig, data: str) -> bool:
    """Whether a stage reads conversations, for which a model needs a chat template."""
    return tune.stage != "distill" or is_rows(data) or bool(tune.me)


def _rates(base: Base, small: dict[str, Any], large: float) -> Settings:
    """An optimizer and its learning rates: `small` for a small model, else AdamW with the rate `large`.

    Adapters take ten times the rate of a whole model, or a little more (Schulman et al. 2025, "LoRA Without Regret").
    """
    if is_adapted(base.model):
        rates = {**_adamw(min(1e-3, 20 * large)), "weight_decay": 0.0}
        return {name: Setting(value, "tune: for adapters") for name, value in rates.items()}
    is_small = base.model.parameters_count <= SMALL_MODEL
    size = f"{'up to' if is_small else 'more than'} {SMALL_MODEL // 10**6}M parameters"
    chosen = small if is_small else {**_adamw(large), "weight_decay": 0.0}
    return {name: Setting(value, f"tune: for a model of {size}") for name, value in chosen.items()}


def _adamw(rate: float) -> dict[str, Any]:
    return {"optimizer": "adamw", "learning_rate": rate, "embedding_learning_rate": rate}


def _length(known: Settings, per_epoch: float, batch: int, why: str) -> Settings:
    """A batch, and the steps that read the data as often as `epochs` says if neither steps nor minutes are given."""
    return {"batch": Setting(batch, why), **_steps(known, known["epochs"].value * per_epoch, "epochs")}


def _steps(known: Settings, steps: float, why: str) -> Settings:
    if any(known[name].value for name in ("steps", "minutes") if name in known):
        return {}
    return {"steps": Setting(max(1, ceil(steps)), f"tune: {known[why].value:g} {why}" if why in known else why)}


def _choose_sft(base: Base, data: Split[Example], known: Settings) -> Settings:
    row = row_length([*data.training, *data.held_out], base.model.config.context)
    tokens = sum(min(one.places, row) for one in data.training)
    replay = known["replay"].value
    # In steps as small as these, Muon would take as long as the model, and it is no better.
    rates = {**_adamw(1e-3), "weight_decay": 0.0}
    chosen = _choose_rows(tokens, row, STEP_TOKENS, known, learned=1 - replay)
    if base.model.parameters_count <= SMALL_MODEL:
        chosen["end_weight"] = Setting(END_WEIGHT, "tune: a small model has to learn where to stop")
        chosen["noise"] = Setting(NOISE, "tune: a small model has to go on after its own mistakes")
    return {**chosen, **_rates(base, rates, 5e-5), **_compile(base, row, {**chosen, **known})}


def _choose_distill(base: Base, data: DistillData, known: Settings) -> Settings:
    rates = {"learning_rate": 0.005, "embedding_learning_rate": 0.003, "weight_decay": 0.05}
    return {**_choose_rows(data.tokens, data.row, DISTILLED_TOKENS, known), **_rates(base, rates, 5e-5)}


def _choose_rows(tokens: int, row: int, wanted: int, known: Settings, learned: float = 1.0) -> Settings:
    """A batch of rows of about the wanted number of tokens, and the steps in which a share of its rows holds all."""
    batch = known["batch"].value if "batch" in known else max(1, min(wanted // row, ceil(tokens / row)))
    return _length(known, tokens / row / (batch * learned), batch, f"tune: about {wanted:,} tokens a step")


def _compile(base: Base, row: int, known: Settings) -> Settings:
    """Whether to compile, from what it saves on the machine that the dial assumes where steps are given."""
    config = base.model.config.replace(context=row)
    step = step_seconds(config, known["batch"].value, REFERENCE)
    steps = known["steps"].value if "steps" in known else 60 * known["minutes"].value / step
    saves = (EAGER - 1) * step * steps > compile_seconds(config.layers) + REHEARSAL_STEPS * step
    why = "compiling pays" if saves else "compiling takes longer than it saves"
    return {"compile": Setting("on" if saves else "off", f"tune: in {steps:,.0f} steps {why}")}


def _choose_pairs(rates: dict[str, Any], large: float) -> Callable[[Base, Split[Any], Settings], Settings]:
    def choose(base: Base, data: Split[Any], known: Settings) -> Settings:
        batch = known["batch"].value if "batch" in known else max(1, min(PAIRS, len(data.training) // 8))
        return {
            **_length(known, len(data.training) / batch, batch, "tune: an eighth of the data or less"),
            **_rates(base, rates, large),
        }

    return choose


def _choose_ratings(base: Base, data: Split[Rating], known: Settings) -> Settings:
    """As for pairs; and the kind of answers of which there are fewer weighs as much, together, as the other."""
    good = sum(one.good for one in data.training)
    bad = len(data.training) - good
    why = f"tune: {good:,} good and {bad:,} bad answers"
    most = max(good, bad)
    weights = {"desirable_weight": most / good if good else 1.0, "undesirable_weight": most / bad if bad else 1.0}
    chosen = {name: Setting(weight, why) for name, weight in weights.items()}
    rates = {**_adamw(1e-4), "weight_decay": 0.05}
    return {**_choose_pairs(rates, 5e-6)(base, data, known), **chosen}


def _choose_policy(base: Base, data: Split[Any], known: Settings) -> Settings:
    period = known["passes"].value * known["minibatches"].value
    stage = known["stage"].value
    times = ITERATIONS[stage]
    why = f"tune: {times} times answers, {period} steps for each"
    return {
        **_steps(known, times * period, why),
        "evaluate_every": Setting(20 * period, "tune: after each 20 writings of answers"),
        **_rates(base, _POLICY_RATES if stage == "ppo" else _GROUP_RATES, 1e-5),
    }


def _policy_judging(recipe: Recipe, base: Base, data: Split[Prompt], hardware: Hardware, world: World) -> Judging:
    some = data if data.training else replace(data, training=data.held_out)
    stage = reinforcement(recipe, base, some, hardware, world)
    return Judging(stage.judge, stage.loss_is)


# Muon gets further than AdamW for each nat of KL.
_POLICY_RATES = {"optimizer": "muon", "learning_rate": 0.002, "embedding_learning_rate": 4e-4, "weight_decay": 0.0}
_GROUP_RATES = {**_POLICY_RATES, "learning_rate": 0.004}
_REWARD_RATES = {"optimizer": "muon", "learning_rate": 0.003, "embedding_learning_rate": 1e-3, "weight_decay": 0.05}
_PAIR_RATES = {"optimizer": "adamw", "learning_rate": 2e-4, "embedding_learning_rate": 2e-4, "weight_decay": 0.05}
KINDS = {
    "sft": Kind(conversations, _choose_sft, sft, sft_judging),
    "reward": Kind(pairs, _choose_pairs(_REWARD_RATES, 2e-5), reward_stage, reward_judging),
    "dpo": Kind(pairs, _choose_pairs(_PAIR_RATES, 5e-6), dpo_stage, dpo_judging),
    "kto": Kind(ratings, _choose_ratings, kto_stage, kto_judging),
    "distill": Kind(distill_data, _choose_distill, distill_stage, distill_judging),
    "ppo": Kind(prompts, _choose_policy, reinforcement, _policy_judging),
    "grpo": Kind(prompts, _choose_policy, reinforcement, _policy_judging),
    "rloo": Kind(prompts, _choose_policy, reinforcement, _policy_judging),
}
_DATA: dict[str, Any] = {"clip": 1.0, "warmup": 0.05, "cooldown": 0.3, "seed": 1337, "held_out": 0.1}
_POLICY = {**_DATA, "cooldown": 0.2, "batch": 1, "compile": "off", "passes": 1}
_GROUPS = {**_POLICY, "cooldown": 0.9, "answers": 64, "minibatches": 4}
# What each stage fixes; `Kind.choose` decides the rest.
PRESETS: dict[str, dict[str, Any]] = {
    "sft": {**_DATA, "epochs": 3.5, "cooldown": 0.8, "replay": 0.25, "replay_weight": 5.0},
    "reward": {**_DATA, "epochs": 2.0, "cooldown": 0.8, "compile": "off"},
    "dpo": {**_DATA, "epochs": 2.0, "cooldown": 0.8, "beta": 0.05, "chosen_weight": 0.5, "compile": "off"},
    "kto": {**_DATA, "epochs": 2.0, "beta": 0.1, "compile": "off"},
    "distill": {**_DATA, "epochs": 2.0, "compile": "off", "alpha": 0.1},
    "ppo": {**_POLICY, "answers": 128, "minibatches": 2, "beta": 0.2},
    "grpo": {**_GROUPS, "beta": 0.02},
    "rloo": {**_GROUPS, "beta": 0.01},
}
