"""Settings: what goes before what, and files that say what they were made from."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quoth.recipes.presets import PRESETS
from quoth.recipes.recipe import (
    HOME,
    SECTIONS,
    Setting,
    boolean,
    make,
    origins,
    read_recipe,
    settings,
    to_toml,
    toml_value,
)
from quoth.system.errors import InputError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_go_before_the_file_and_the_file_before_the_preset(tmp_path: Path) -> None:
    file = written(tmp_path / "my.toml", "[model]\nlayers = 3\nwidth = 96\n[run]\nbatch = 5\n")
    known = settings("lecture", file, {"width": 64})
    assert known["heads"] == Setting(6, "preset lecture")
    assert known["layers"] == Setting(3, str(file))
    assert known["batch"] == Setting(5, str(file))
    assert known["width"] == Setting(64, "flag")
    assert "seed" not in known


def test_a_file_needs_no_sections(tmp_path: Path) -> None:
    assert settings("laptop", written(tmp_path / "flat.toml", "layers = 3\n"))["layers"].value == 3


@pytest.mark.parametrize(
    ("preset", "file", "flags", "expected"),
    [
        ("laptop", "", {}, (3.0, None)),
        ("laptop", "", {"steps": 10}, (None, 10)),
        ("lecture", "", {"minutes": 2.0}, (2.0, None)),
        ("lecture", "minutes = 2", {}, (2.0, None)),
        ("lecture", "minutes = 2", {"steps": 10}, (None, 10)),
        ("laptop", "steps = 10", {"minutes": 4.0}, (4.0, None)),
        # As saved: the one that does not decide is 0.
        ("laptop", "minutes = 0.0\nsteps = 10", {}, (None, 10)),
        ("laptop", "steps = 10\nminutes = 0.0", {}, (0.0, 10)),
        ("lecture", "minutes = 2.0\nsteps = 0", {}, (2.0, 0)),
    ],
)
def test_minutes_and_steps_displace_each_other(
    preset: str, file: str, flags: dict[str, Any], expected: tuple[float | None, int | None], tmp_path: Path
) -> None:
    known = settings(preset, written(tmp_path / "x.toml", file), flags)
    got = tuple(known[name].value if name in known else None for name in ("minutes", "steps"))
    assert got == expected
    run = make(known, 65).run
    assert (run.minutes, run.steps) == (expected[0] or 0.0, expected[1] or 0)


def test_both_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"minutes or steps, not both \(flag\)"):
        settings("laptop", None, {"minutes": 1.0, "steps": 1})
    with pytest.raises(InputError, match="minutes or steps, not both"):
        settings("laptop", written(tmp_path / "x.toml", "minutes = 1\nsteps = 1"))


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_saved_is_read_back_the_same(preset: str, tmp_path: Path) -> None:
    known = settings(preset, None, {"data": 'a "book"\\.txt', "batch": 7})
    recipe = make(known, 65)
    text = to_toml(origins(recipe, known))
    written(tmp_path / "config.toml", text)
    assert read_recipe(tmp_path) == recipe
    assert make(settings("laptop", tmp_path / "config.toml"), 65) == recipe
    assert all(" # " in line for line in text.splitlines() if line and line[0] != "[")


@given(data=st.text(), separator=st.text(), tokenizer=st.text())
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, data: str, separator: str, tokenizer: str) -> None:
    known = settings("laptop", None, {"data": data, "separator": separator, "tokenizer": tokenizer})
    recipe = make(known, 2)
    folder = tmp_path_factory.mktemp("run")
    written(folder / "config.toml", to_toml(origins(recipe, known)))
    assert read_recipe(folder) == recipe


@given(
    st.one_of(st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False), st.text())
)
def test_a_value_in_toml(value: Any) -> None:
    read = tomllib.loads(f"x = {toml_value(value)} # a comment")["x"]
    assert read == value
    assert type(read) is type(value)


def test_every_value_has_an_origin() -> None:
    known = settings("lecture", None, {"seed": 3})
    complete = origins(make(known, 65), known)
    assert list(complete) == [name for name, section in HOME.items() if section != "tune"]
    assert complete["seed"] == Setting(3, "flag")
    assert complete["layers"].origin == "preset lecture"
    assert complete["vocabulary"] == Setting(65, "the tokenizer")
    assert complete["mlp"] == Setting("relu", "family lecture")
    assert complete["momentum"].origin == "default"


def test_a_setting_has_one_home() -> None:
    names = [f.name for section in SECTIONS.values() for f in dataclasses.fields(section)]
    assert len(names) == len(set(names))


def test_the_vocabulary_is_the_tokenizers_to_say(tmp_path: Path) -> None:
    known = settings("laptop", written(tmp_path / "x.toml", "[model]\nvocabulary = 99\n"))
    assert "vocabulary" not in known
    assert make(known, 65).model.vocabulary == 65


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\nwidht = 3", "no setting 'widht' .did you mean 'width'"),
        ("learning_rat = 3", "did you mean 'learning_rate'"),
        ("[modle]\nwidth = 3", r"section \[modle\] .did you mean 'model'"),
        ("[model]\nbatch = 3", r"batch belongs in \[run\], not in \[model\]"),
        ("[model]\nlayers = 3.0", "layers must be a whole number, not 3.0"),
        ("[model]\nlayers = true", "layers must be a whole number, not True"),
        ('[model]\ntied = "yes"', "tied must be true or false, not 'yes'"),
        ("[data]\ndata = 3", "data must be text, not 3"),
        ("[data]\ndata = ['a']", "data must be text"),
        ("[optimizer]\nlearning_rate = '1'", "learning_rate must be a number, not '1'"),
        ("[optimizer]\nlearning_rate = nan", "learning_rate must be a finite number, not nan"),
        ("[run]\nminutes = inf", "minutes must be a finite number, not inf"),
        ("[run]\ndtype = 'float16'", "dtype must be one of auto, bfloat16, float32, not 'float16'"),
        ("[model]\nheads = 0", "heads must be at least 1, not 0"),
        ("[model\n", "not TOML"),
    ],
)
def test_what_a_file_may_not_say(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        settings("laptop", written(tmp_path / "x.toml", text))


@pytest.mark.parametrize("damage", ["", "[model]\nvocabulary = 65\n", None])
def test_a_saved_config_that_is_not_whole(damage: str | None, tmp_path: Path) -> None:
    known = settings("laptop")
    whole = to_toml(origins(make(known, 65), known))
    for cut in [damage] if damage is not None else (whole[: len(whole) * n // 7] for n in range(1, 7)):
        written(tmp_path / "config.toml", cut)
        with pytest.raises(InputError, match=r"config\.toml"):
            read_recipe(tmp_path)
    written(tmp_path / "config.toml", whole + "unheard_of = 3\n")
    with pytest.raises(InputError, match="unheard_of"):
        read_recipe(tmp_path)
    written(tmp_path / "config.toml", whole.replace("vocabulary = 65", 'vocabulary = "x"'))
    with pytest.raises(InputError, match="vocabulary"):
        read_recipe(tmp_path)


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minutes": 0.0}, "--minutes or --steps"),
        ({"heads": 3, "width": 32}, "heads must divide width"),
        ({"seed": -1}, "seed must be 0 or more"),
    ],
)
def test_what_does_not_fit_together(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(settings("laptop", None, change), 65)


def test_booleans() -> None:
    assert boolean("qk_norm", "True") is True
    assert boolean("qk_norm", "false") is False
    with pytest.raises(InputError, match="--qk-norm must be true or false, not 'yes'"):
        boolean("qk_norm", "yes")
