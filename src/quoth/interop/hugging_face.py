"""Models as Hugging Face's transformers keep them: a folder of JSON and safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from quoth.system.errors import InputError, one_line, short
from quoth.system.files import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object.

    Raises:
        InputError: it is missing, damaged, or holds no object.
    """
    try:
        content = read_json(path)
    except RecursionError as error:
        raise InputError(f"{path} cannot be read: it is nested too deeply.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no object.")
    return content


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's `config.json`.

    Raises:
        InputError: the folder is no such model, or the file is damaged.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no model of Hugging Face's: it has no config.json.")
    if (folder / "adapter_config.json").is_file():
        raise InputError(f"{folder} holds an adapter, which quoth does not know; merge it into its model first.")
    return read_object(folder / "config.json")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """A folder's weights by their names; nothing in the folder is run.

    Raises:
        InputError: files are missing, are damaged, or are pickles.
    """
    weights: dict[str, Tensor] = {}
    for file, names in _files(folder).items():
        weights |= _read(folder / file, names)
    return weights


def _files(folder: Path) -> dict[str, set[str] | None]:
    """The files that hold the weights, each with the names that an index gives it."""
    if (folder / WEIGHTS).is_file():
        return {WEIGHTS: None}
    found = sorted(file.name for file in folder.glob("*.safetensors"))
    if (folder / INDEX).is_file():
        places = read_object(folder / INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
            raise InputError(f"{folder / INDEX} has no weight_map of names and files.")
        if missing := set(places.values()) - set(found):
            raise InputError(f"{folder} lacks {short(min(missing))}, which its index names.")
        return {file: {name for name in places if places[name] == file} for file in sorted(set(places.values()))}
    if len(found) == 1:
        return {found[0]: None}
    if found:
        raise InputError(f"{folder} has {len(found)} files of safetensors but no {INDEX} that says what is in which.")
    pickles = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
    why = f"only {pickles[0].name}, a pickle, which can run code and is never read" if pickles else "none"
    raise InputError(f"{folder} has no weights in safetensors: there is {why}.")


def _read(path: Path, names: set[str] | None) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {one_line(error)}.") from error
    if names is not None and (wrong := names ^ weights.keys()):
        raise InputError(f"{path} and its index do not agree on {short(min(wrong))}.")
    return weights
