"""Judge a tuned run by what its stage measures, on the data that it held out or on other data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quoth.model.gpt import GPT
from quoth.recipes.load_run import load_run, parse_name
from quoth.recipes.recipe import Recipe, read_recipe, values_of
from quoth.recipes.stage import Judgement
from quoth.recipes.tune_config import StageName
from quoth.recipes.tuning import KINDS, base_of, changed, needs_chat
from quoth.system.device import Hardware
from quoth.system.errors import InputError
from quoth.system.world import World
from quoth.train.keeper import intact
from quoth.train.run import find_run
from quoth.tune.read import is_rows
from quoth.tune.score import load_scorer


@dataclass(frozen=True)
class HeldOut:
    """What a stage says of a run on held-out data.

    Attributes:
        run: the run's name, or RUN+ADAPTER.
        stage: the stage.
        checkpoint: the name of the checkpoint that was judged.
        data: what was held out, in words.
        items: how many conversations, pairs, answers, prompts or texts were held out.
        judgement: what the stage measured.
        loss_is: what its loss is, in words.
    """

    run: str
    stage: StageName
    checkpoint: str
    data: str
    items: int
    judgement: Judgement
    loss_is: str


def recipe_of(name: str) -> Recipe:
    """The recipe of a run; of RUN+ADAPTER, RUN's.

    Raises:
        InputError: there is no such run, or its config is broken.
    """
    return read_recipe(find_run(parse_name(name)[0]))


def has_stage_for(recipe: Recipe, data: str) -> bool:
    """Whether a stage of tuning can judge a run by DATA, or by what it held out if DATA is left out."""
    if not recipe.tune or not data:
        return recipe.tune is not None
    return is_rows(data) and needs_chat(recipe.tune, recipe.data.data)


def judge_held_out(name: str, which: str, data: str, hardware: Hardware, say: Callable[[str], None]) -> HeldOut:
    """What the stage of a tuned run measures, on its own held-out data, or on all of `data` if that is given.

    `say` is called with a sentence for each broken checkpoint that is skipped.

    Raises:
        InputError: the run, the model that it began with or the data cannot be read, or have changed since.
    """
    recipe = recipe_of(name)
    assert recipe.tune
    kind, base = KINDS[recipe.tune.stage], base_of(recipe)
    known = values_of(recipe) | ({"data": data, "held_out": 1.0, "me": ""} if data else {})
    found = kind.read(base, known)
    run = find_run(parse_name(name)[0]).resolve()
    if what := changed(recipe, run, {**base.facts, **({} if data else found.facts)}):
        raise InputError(f"{what} has changed since {run.name} began with it, so nothing can be compared with it.")
    named, model, checkpoint = _load(name, which, recipe, hardware, say)
    judging = kind.judging(recipe, base, found, hardware, World())
    judgement = judging.judge(model, lambda: True)
    where = data or f"what it held out of {recipe.data.data}"
    return HeldOut(named, recipe.tune.stage, checkpoint.name, where, len(found.held_out), judgement, judging.loss_is)


def _load(
    name: str, which: str, recipe: Recipe, hardware: Hardware, say: Callable[[str], None]
) -> tuple[str, GPT, Path]:
    """The run's name, its model, which may be a reward model, and its checkpoint's folder."""
    if recipe.tune and recipe.tune.stage == "reward":
        run = find_run(name).resolve()
        folder = intact(run, which, say)
        return run.name, load_scorer(folder, hardware.device).model, folder
    loaded = load_run(name, which, hardware.device, say)
    return loaded.name, loaded.checkpoint.model, loaded.checkpoint.folder
