from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quoth.recipes import dial
from quoth.recipes.dial import Machine, batch_windows, complete, context_for, expected_loss, step_seconds, weigh
from quoth.recipes.recipe import make, settings
from quoth.system.device import Hardware
from quoth.text.corpus import Corpus, corpus

SLOW, FAST = Machine(1e11, 5e8), Machine(2.5e12, 5e9)
HARDWARE = Hardware("cpu", "float32", 1, False, 1e12, {})


def best(minutes: float, machine: Machine = FAST, unique: int = 1_000_000) -> dial.Choice:
    seconds = 60 * minutes
    return weigh(seconds, 65, unique, machine, {"context": context_for(seconds, unique // 10)}, 0)[0]


@pytest.fixture
def text(tmp_path: Path) -> Corpus:
    path = tmp_path / "book.txt"
    path.write_text("To be, or not to be, that is the question.\n" * 300)
    return corpus(str(path), cache=tmp_path / "cache")


def test_more_time_a_faster_machine_and_more_text_never_give_a_smaller_model() -> None:
    size = dial.matrix_parameters
    by_time = [size(best(minutes).config) for minutes in (0.5, 1, 3, 10, 30, 100)]
    assert by_time == sorted(by_time)
    assert by_time[0] < by_time[-1]
    assert size(best(3, SLOW).config) <= size(best(3, FAST).config)
    assert size(best(60, unique=10**6).config) <= size(best(60, unique=10**9).config)


def test_the_laws_are_monotone() -> None:
    assert expected_loss(1e6, 1e7, 1e6) > expected_loss(1e6, 2e7, 1e6)
    assert expected_loss(1e6, 1e7, 1e6) > expected_loss(1e6, 1e7, 1e8)
    small, large = best(1).config, best(30).config
    assert step_seconds(small, 8, FAST) < step_seconds(small, 16, FAST) < step_seconds(small, 16, SLOW)
    assert step_seconds(small, 8, FAST) < step_seconds(large, 8, FAST)
    assert step_seconds(small, 8, FAST) < step_seconds(small, 8, replace(FAST, compiled=False))
    assert batch_windows(small, 60, FAST) <= batch_windows(small, 6000, FAST)


def test_a_shorter_run_takes_larger_steps() -> None:
    rates = [dial.learning_rate_for(steps) for steps in (0, 100, 250, 1000, 2000, 10**6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 0.064 and rates[-2:] == [0.016, 0.016]


def test_shallow_models_count_for_less() -> None:
    two, four, six = (best(3).config.replace(layers=n) for n in (2, 4, 6))
    assert dial.effective_parameters(two) < dial.matrix_parameters(two)
    assert all(dial.effective_parameters(c) == dial.matrix_parameters(c) for c in (four, six))


def test_what_is_judged_and_what_is_gone_leave_less_to_train_on(text: Corpus) -> None:
    whole, judged = (weigh(60, 65, 10**6, FAST, {"context": 128}, 16, n) for n in (0, 500_000))
    tokens = {choice.config: choice.tokens for choice in judged}
    assert all(c.tokens - tokens[c.config] == pytest.approx(min(500_000, 0.9 * c.tokens)) for c in whole)
    compiled = replace(HARDWARE, compile=True)
    quick, late = (complete(settings("laptop"), text, compiled, elapsed)["width"].value for elapsed in (0, 170))
    assert late < quick


@pytest.mark.parametrize("judged", [33, 100, 600, 10**6])
def test_a_window_fits_the_validation_split(judged: int) -> None:
    assert context_for(600, judged) <= max(32, judged // 4)


def test_what_is_given_stays_and_the_rest_has_a_reason(text: Corpus) -> None:
    known = complete(settings("laptop", flags={"width": 96, "heads": 3, "minutes": 0.5}), text, HARDWARE)
    recipe = make(known, text.tokenizer.vocabulary)
    assert (recipe.model.width, recipe.model.heads, recipe.run.minutes) == (96, 3, 0.5)
    assert known["width"].origin == "flag"
    for key in ("layers", "context", "batch", "dropout", "learning_rate"):
        assert known[key].origin.startswith("dial: "), key


@pytest.mark.parametrize("preset", ["laptop", "gpu", "gpt2", "lecture", "nanogpt-cpu"])
def test_every_preset_is_completed(preset: str, text: Corpus) -> None:
    make(complete(settings(preset), text, HARDWARE), 50257 if preset == "gpt2" else text.tokenizer.vocabulary)


@pytest.mark.parametrize("steps", [0, 50])
@pytest.mark.parametrize("context", [1, 2**13, 100_000, 2**31])
def test_any_context_gives_a_step_of_some_windows(context: int, steps: int, text: Corpus) -> None:
    flags = {"context": context, **({"steps": steps} if steps else {})}
    assert complete(settings("laptop", flags=flags), text, HARDWARE)["batch"].value >= 1


@pytest.mark.parametrize("flags", [{"minutes": 0.5}, {"steps": 300}])
def test_without_layers_no_more_channels_are_taken_than_there_are_tokens(flags: dict[str, float], text: Corpus) -> None:
    known = complete(settings("laptop", flags={"layers": 0, **flags}), text, HARDWARE)
    assert known["width"].value <= 64


@pytest.mark.parametrize("seconds", [20.0, 3600.0])
def test_it_compiles_where_that_pays(seconds: float) -> None:
    best = weigh(seconds, 65, 10**6, FAST, {"context": 128}, 0)[0]
    assert best.compiled == (seconds > 60)
    slow = replace(FAST, compile_ratio=100.0)
    assert not weigh(min(seconds, 600.0), 65, 10**6, slow, {"context": 128}, 0)[0].compiled


def test_a_large_model_in_little_time_is_judged_by_less_of_the_text_and_takes_some_steps(text: Corpus) -> None:
    large = {"layers": 30, "width": 576, "context": 32, "minutes": 0.2}
    known = complete(settings("laptop", flags=large), replace(text, validation=np.zeros(10**6, np.uint8)), HARDWARE)
    assert dial.FEWEST_JUDGED <= known["validation_tokens"].value < 10**5
    assert "would take longer than 0.2 min allow" in known["validation_tokens"].origin
    assert "validation_tokens" not in complete(settings("laptop"), text, HARDWARE)


@pytest.mark.parametrize("given", [{"heads": 5}, {"layers": 0}, {"head_size": 32}, {"family": "gpt2", "heads": 2}])
def test_any_model_setting_can_be_given_alone(given: dict[str, object], text: Corpus) -> None:
    recipe = make(complete(settings("laptop", flags=given), text, HARDWARE), text.tokenizer.vocabulary)
    assert all(getattr(recipe.model, key) == value for key, value in given.items())
