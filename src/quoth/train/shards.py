"""Write tensors of which each rank has a part, and read them with any number of ranks.

They use torch.distributed.checkpoint in its safetensors form: a file's own header says which part of a tensor the file
holds, so that no pickled index is needed.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from quoth.system.errors import InputError


def write_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors by name; all ranks call this with the same folder, and each writes its part.

    Raises:
        InputError: a rank could not write; all ranks raise it.
    """
    try:
        save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        reason = next(iter(error.failures.values()))[0]
        raise InputError(f"{folder} cannot be written: {reason}; what was written before is kept.") from error


def read_shards(folder: Path, into: dict[str, Tensor]) -> None:
    """Read saved values into the given tensors, whole or sharded, by name; each rank reads its part."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns if a single process reads shards, as it may here.
        alone = not dist.is_initialized()
        load(into, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=alone)


def sizes_in(folder: Path) -> dict[str, torch.Size]:
    """The sizes of all tensors that a folder's shards hold, by name."""
    described = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: one.size for name, one in described.items()}  # type: ignore[union-attr]
