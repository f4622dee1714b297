"""Training on several devices with torch's own engines: whole copies of a model (DDP), or shards of it (FSDP2)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn

from quoth.model.gpt import GPT
from quoth.model.lora import is_adapted
from quoth.system.errors import InputError
from quoth.system.world import World

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

# Ranks sum gradients and do not average them, since a loss is already divided by the count of all ranks' targets.


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether each rank has a part of a tensor. A method tells, since the class takes a third of a second to import."""
    return hasattr(tensor, "full_tensor")


def is_sharding(module: nn.Module) -> TypeGuard[FSDPModule]:
    """Whether a module is sharded, so that it gathers its weights while it computes."""
    return hasattr(module, "set_requires_gradient_sync")


def replicated(model: nn.Module, world: World) -> nn.Module:
    """A view of the model whose backward pass sums the gradients of all ranks; for a single process, the model itself.

    A sharded model sums them already, so it is returned as it is.
    """
    if world.size == 1 or any(map(is_sharding, model.modules())):
        return model
    from torch.nn.parallel import DistributedDataParallel

    with warnings.catch_warnings():
        # Later versions of torch rename the argument; the oldest version that quoth supports lacks the new name.
        warnings.simplefilter("ignore", FutureWarning)
        view = DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
    view.register_comm_hook(None, lambda state, bucket: _summed(bucket))
    return view


def shard(model: GPT, world: World, device: str, dtype: torch.dtype = torch.float32) -> None:
    """Spread a model's parameters over all ranks; each block is gathered while it computes.

    On a GPU, blocks are gathered and compute in `dtype`; gradients are summed in float32, and shards stay in float32.

    Raises:
        InputError: the model has adapters.
    """
    if is_adapted(model):
        raise InputError("A model with adapters cannot be sharded; train it without --shard.")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device, (world.size,))
    lower = device == "cuda" and dtype != torch.float32
    policy = MixedPrecisionPolicy(dtype, torch.float32) if lower else MixedPrecisionPolicy()
    for module in (*model.blocks, model):
        made: Any = fully_shard(module, mesh=mesh, mp_policy=policy)
        made.set_gradient_divide_factor(1.0)
        made.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum.


def synchronize(model: nn.Module, on: bool) -> None:
    """Set whether the next backward pass sums the ranks' gradients; only a step's last pass needs to."""
    if hasattr(model, "require_backward_grad_sync"):
        model.require_backward_grad_sync = on  # type: ignore[assignment]
    for module in model.modules():
        if is_sharding(module):
            module.set_requires_gradient_sync(on, recurse=False)


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, on every rank; any other tensor as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def own(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, which shares its memory; any other tensor as it is."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def gathered(part: Tensor, like: Tensor) -> Tensor:
    """The whole tensor, of which each rank has a `part`, cut as `like` is."""
    if not is_sharded(like):
        return part
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    ).full_tensor()


def spread(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor that every rank has in full, made into one that is sharded as `like` is."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def _summed(bucket: Any) -> torch.futures.Future[Tensor]:
    future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda done: done.value()[0])  # type: ignore[no-any-return]
