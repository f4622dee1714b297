"""`quoth launch`: a command in several processes, by torchrun, with what is easily forgotten."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from quoth.cli.arguments import parse
from quoth.cli.dispatch import arguments_of
from quoth.cli.output import print_json
from quoth.system.errors import REFUSED, InputError

LAUNCHED = ("train",)


@dataclass
class Arguments:
    """Start a command in several processes: `quoth launch --processes 2 train mybook.txt`.

    What stands before `train` is for launching, what follows is the command. A step is the same whatever the number of
    processes; they share its windows. When one of them dies, all are started again and go on from the last checkpoint.

    Attributes:
        processes: on this machine; 0 for one a GPU, or one a core where there is none.
        machines: how many machines take part; start the same command on each.
        address: HOST:PORT of one of them, where several take part; the same on each.
        wait: seconds for all machines to be there.
        restarts: how often to start again when a process dies.
        json: print what would be started, as one JSON object, and start nothing.
    """

    processes: int = 0
    machines: int = 1
    address: str = ""
    wait: int = 300
    restarts: int = 3
    json: bool = False


def main(arguments: list[str], started: float) -> int:
    at = next((n for n, word in enumerate(arguments) if word in LAUNCHED), len(arguments))
    a = parse(Arguments, arguments[:at], "launch")
    if at == len(arguments):
        raise InputError("Say what to launch, such as: quoth launch --processes 2 train mybook.txt")
    command = arguments[at:]
    # Here, and not in each of the processes.
    parse(arguments_of(command[0]), command[1:], command[0])
    command, variables = torchrun(a, command)
    if a.json:
        print_json({"command": ["torchrun", *command], "environment": variables})
        return 0
    os.environ.update(variables)
    with tempfile.TemporaryDirectory(prefix="quoth-launch-") as folder:
        file = Path(folder, "refused")
        os.environ[REFUSED] = str(file)
        try:
            return run(command, a) or (2 if file.exists() else 0)
        finally:
            del os.environ[REFUSED]


def torchrun(a: Arguments, command: list[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments of torchrun, and the environment that it needs.

    Raises:
        InputError: the numbers do not fit together.
    """
    if min(a.processes, a.restarts, a.wait) < 0 or a.machines < 1:
        raise InputError("--processes, --restarts and --wait must be 0 or more, and --machines 1 or more.")
    if a.machines > 1 and not a.address.rpartition(":")[2].isdecimal():
        raise InputError("Several machines need --address HOST:PORT of one of them, the same on each.")
    from quoth.system.device import cores, gpus

    each = a.processes or gpus() or cores()
    where = ["--standalone"]
    if a.machines > 1:
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", a.address, "--rdzv-id", "quoth"]
        where = [
            "--nnodes",
            str(a.machines),
            *meeting,
            "--rdzv-conf",
            f"join_timeout={a.wait},read_timeout={max(1, a.wait)}",
        ]
    here = [*where, "--nproc-per-node", str(each), "--max-restarts", str(a.restarts), "-m", "quoth", *command]
    threads = max(1, cores() // each)
    return here, {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        # Seconds from SIGTERM to SIGKILL, for the last checkpoint.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "110"),
    }


def run(command: list[str], a: Arguments) -> int:
    """Start the processes, and wait for them; the exit code of one that failed.

    Raises:
        InputError: not all machines came.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError, RendezvousTimeoutError
    from torch.distributed.run import main as start

    # What failed says so itself.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    try:
        start(command)
    except (RendezvousTimeoutError, RendezvousConnectionError) as error:
        raise InputError(
            f"Not all of {a.machines} machines came to {a.address} within {a.wait} s; is it reached from each, and was "
            "the same command started there?"
        ) from error
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0
