"""The prompts to which runs write answers that a person compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from quoth.recipes.load_engine import LoadedEngine
from quoth.recipes.load_run import parse_name
from quoth.recipes.recipe import Recipe, read_recipe
from quoth.recipes.tuning import needs_chat
from quoth.recipes.tuning_data import naming
from quoth.system.errors import InputError
from quoth.text.chat import LongConversationError, TemplateError
from quoth.train.run import find_run
from quoth.tune.conversation import Messages, Prompt, split
from quoth.tune.read import read_conversations, read_preferences, read_prompts, read_rated

# How the data of a stage is read, where it is more than prompts.
READERS: dict[str, Callable[[Recipe], Sequence[Any]]] = {
    "sft": lambda recipe: read_conversations(recipe.data.data, recipe.tune.me if recipe.tune else ""),
    "reward": lambda recipe: read_preferences(recipe.data.data),
    "dpo": lambda recipe: read_preferences(recipe.data.data),
    "kto": lambda recipe: read_rated(recipe.data.data),
    "distill": lambda recipe: _distilled(recipe),
}


class TooLongError(InputError):
    """A prompt fills a run's context."""

    def __init__(self, context: int) -> None:
        super().__init__(f"The prompt leaves no room for an answer in a context of {context:,} tokens.")


def prompt_ids(run: LoadedEngine, messages: Messages) -> list[int]:
    """The ids of a prompt, up to where a run's answer begins; a run without a chat template goes on from the texts.

    Raises:
        InputError: a character is unknown, the template refuses the prompt, or it leaves no room for an answer.
    """
    context, tokenizer = run.engine.context, run.engine.tokenizer
    try:
        if run.template:
            ids = run.template.ids(messages, tokenizer, most=context)
        else:
            ids = run.engine.prompt_ids("\n\n".join(message["content"] for message in messages))
    except TemplateError as error:
        raise InputError(str(error)) from error
    except LongConversationError as error:
        raise TooLongError(context) from error
    if len(ids) >= context:
        raise TooLongError(context)
    return ids


def tuned_run(name: str) -> Path | None:
    """The folder of the run that was tuned: of RUN, its own, and of RUN+ADAPTER, the adapter's, if that is a run.

    Raises:
        InputError: there is no such run.
    """
    run, adapter = parse_name(name)
    try:
        return find_run(adapter or run)
    except InputError:
        if adapter:  # A folder of PEFT's, which was not tuned here.
            return None
        raise


def held_out_prompts(run: Path) -> list[Prompt]:
    """The prompts that were held out when a run was tuned, each once; none if it was tuned on a text, or not at all.

    Raises:
        InputError: its data cannot be read any more.
    """
    recipe = read_recipe(run)
    if recipe.tune is None:
        return []
    read = READERS.get(recipe.tune.stage)
    found = read(recipe) if read else read_prompts(recipe.data.data)
    _, held = split(found, held_out=recipe.tune.held_out, seed=recipe.run.seed)
    return [Prompt(one.prompt, one.where) for one in held]


def _distilled(recipe: Recipe) -> Sequence[Any]:
    """The conversations of a distillation; a text has no prompts."""
    assert recipe.tune
    if not needs_chat(recipe.tune, recipe.data.data):
        return []
    return read_conversations(recipe.data.data, recipe.tune.me)


def fitting(prompts: Sequence[Prompt], runs: Sequence[LoadedEngine], say: Callable[[str], None]) -> list[Messages]:
    """The messages of the prompts, each once, that leave room for an answer; `say` tells how many do not.

    Raises:
        InputError: a run cannot read a prompt, or none is left.
    """
    made: dict[str, Messages] = {}
    lost = 0
    for one in prompts:
        try:
            for run in runs:
                with naming(one.where):
                    prompt_ids(run, one.prompt)
        except InputError as error:
            if not isinstance(error.__cause__, TooLongError):
                raise
            lost += 1
        else:
            made.setdefault(repr(one.prompt), one.prompt)
    if lost and not made:
        raise InputError("All prompts are too long: none leaves room for an answer in the context.")
    if lost:
        say(f"{lost:,} of {len(prompts):,} prompts are left out, since they leave no room for an answer.")
    return list(made.values())
