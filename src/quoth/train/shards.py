"""Tensors that each rank writes its part of, and any number of ranks can read.

By torch.distributed.checkpoint, in its safetensors form: which part of a tensor a file holds is said in the file's own
header, so that there is no pickled index beside it.
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
    """Write tensors by name, each rank its part; all ranks call it, and the folder is one for all.

    Raises:
        InputError: one of them could not write, on all.
    """
    try:
        save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        reason = next(iter(error.failures.values()))[0]
        raise InputError(f"{folder} cannot be written: {reason}; what was written before is kept.") from error


def read_shards(folder: Path, into: dict[str, Tensor]) -> None:
    """Fill tensors by name, whole or sharded; each rank reads its part."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # That one process alone reads them is meant.
        alone = not dist.is_initialized()
        load(into, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=alone)


def sizes_in(folder: Path) -> dict[str, torch.Size]:
    """The names and sizes of all tensors that a folder's shards make up."""
    described = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: one.size for name, one in described.items()}  # type: ignore[union-attr]
