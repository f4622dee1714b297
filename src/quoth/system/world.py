"""The processes that train together; a process that trains alone is a world of size 1."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d as c10d

from quoth.system.errors import InputError, refused

# How many seconds processes wait for all to join, and for each other afterwards.
JOIN_WITHIN = 120
WAIT_AT_MOST = 1800
# Parts of the messages of gloo and NCCL when a process is gone.
GONE = ("onnection closed", "onnection reset", "roken pipe", "NCCL", "Timed out waiting", "gloo")


@dataclass(frozen=True)
class World:
    """This process's rank among `size` processes; on its own machine it is number `local` of `locals`.

    `store` belongs to the launcher that started the processes, and outlives them.

    >>> World().sum(3.0)
    tensor(3., dtype=torch.float64)
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    locals: int = 1
    store: c10d.Store | None = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    @property
    def launched(self) -> bool:
        """Whether a launcher started this process, even as the only one."""
        return self.store is not None

    def sum(self, value: Tensor | float) -> Tensor:
        """The sum of all processes' values, in at least their own precision; every process gets the same tensor."""
        total = value.clone() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def most(self, values: Sequence[float]) -> list[float]:
        """The greatest of each value over all processes, by which they agree on what a clock or a signal says."""
        if self.size == 1:
            return list(values)
        greatest = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(greatest, dist.ReduceOp.MAX)
        return greatest.tolist()

    def first(self, work: Callable[[], None]) -> None:
        """Let the first process do `work` while all processes wait.

        Raises:
            InputError: `work` raised it; all processes raise it too.
        """
        if problem := self.attempt(work):
            raise InputError(problem)

    def attempt(self, work: Callable[[], object]) -> str:
        """Let the first process do `work` while all wait; return the message of its InputError, or "", on all.

        No process is left waiting if `work` fails: after any other error all processes raise one.
        """
        problem, error = "", None
        if self.leads:
            try:
                work()
            except InputError as refused:
                problem = str(refused)
            except Exception as unexpected:
                error = unexpected
        if self.size > 1:
            problem, broken = self.tell(problem), bool(self.most([float(error is not None)])[0])
            if broken and error is None:
                raise RuntimeError("The first process failed while the others waited; its own message says why.")
        if error is not None:
            raise error
        return problem

    def tell(self, text: str) -> str:
        """The first process's text, on all processes."""
        if self.size == 1:
            return text
        length = int(self.most([len(text.encode()) if self.leads else 0])[0])
        said = torch.tensor(list(text.encode()) if self.leads else [0] * length, dtype=torch.uint8)
        if length:
            dist.broadcast(said, 0)
        return bytes(said.tolist()).decode()

    def remember(self, text: str) -> None:
        """Leave a text for the processes that are started if these die."""
        if self.store:
            self.store.set("remembered", text)

    def remembered(self) -> str | None:
        """The text that the processes before these left; None if there is none."""
        return self.store.get("remembered").decode() if self.store and self.store.check(["remembered"]) else None


class Gone(InputError):  # noqa: N818
    """Another process has died. The input is not at fault, so another try may succeed."""

    worth_another_try = True


@contextmanager
def joined() -> Iterator[World]:
    """The world that torchrun's environment describes, while the block lasts; without torchrun, a world of size 1.

    Tensors on CPUs are sent by gloo, and those on CUDA devices by NCCL.

    Raises:
        InputError: the other processes do not join, or the environment is not complete.
    """
    size, launched = int(os.environ.get("WORLD_SIZE", "1")), "TORCHELASTIC_RESTART_COUNT" in os.environ
    if size == 1 and not launched:
        yield World()
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set; start with torchrun or quoth launch."
        )
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available() and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    try:
        shared = _store(rank, size)
        if shared.check(["refused"]):
            raise SystemExit(refused())  # The process that was refused first has printed the reason.
        # Each start has its own keys, since keys that a dead process left would make the next one wait for it. All
        # processes are started together, so each has been started as often as the others.
        attempt = c10d.PrefixStore(f"attempt-{shared.add(f'starts-{rank}', 1)}", shared)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=attempt,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=WAIT_AT_MOST),
        )
    except (dist.DistStoreError, dist.DistNetworkError, RuntimeError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise Gone(
            f"Not all of {size} processes reached {where} within {JOIN_WITHIN} s; is it reachable from every machine, "
            f"and was the same command started on each? ({str(error).splitlines()[0]})"
        ) from error
    try:
        yield World(rank, size, local, int(os.environ.get("LOCAL_WORLD_SIZE", size)), shared)
    except Gone:
        raise
    except InputError:
        shared.set("refused", "")
        raise
    except RuntimeError as error:
        if not any(word in str(error) for word in GONE):
            raise
        if shared.check(["refused"]):
            raise SystemExit(refused()) from None
        said = str(error).splitlines()[0][:200]
        raise Gone(
            f"Another process is gone or out of reach, so this one ends; checkpoints are kept ({said})."
        ) from error
    finally:
        dist.destroy_process_group()


def _store(rank: int, size: int) -> c10d.Store:
    """The store where processes find each other: the launcher's store, if there is one."""
    within = timedelta(seconds=JOIN_WITHIN)
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(host, port, size, is_master=rank == 0 and not agent, timeout=within)  # type: ignore[attr-defined]
