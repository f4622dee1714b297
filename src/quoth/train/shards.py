"""Tensors that each rank writes its part of, and any number of ranks can read.

By torch.distributed.checkpoint, in its safetensors form: which part of a tensor a file holds is said in the file's own
header, so that there is no pickled index beside it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save


def write_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors by name, each rank its part; all ranks call it, and the folder is one for all."""
    save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))


def read_shards(folder: Path, into: dict[str, Tensor]) -> None:
    """Fill tensors by name, whole or sharded; each rank reads its part."""
    load(into, storage_reader=HuggingFaceStorageReader(str(folder)))


def sizes_in(folder: Path) -> dict[str, torch.Size]:
    """The names and sizes of all tensors that a folder's shards make up."""
    described = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: one.size for name, one in described.items()}  # type: ignore[union-attr]
