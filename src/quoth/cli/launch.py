"""`quoth launch`: run a command in several processes by torchrun, with the settings that are easily forgotten."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from quoth.cli.arguments import parse
from quoth.cli.dispatch import arguments_of
from quoth.cli.output import print_json
from quoth.cli.tune import parsed_stage
from quoth.system.errors import REFUSED, InputError

LAUNCHED = ("train", "tune")
# More processes only hinder each other, and very many bring a machine down.
MOST_PER_CORE = 16
LONGEST_WAIT = 10**9


@dataclass
class Arguments:
    """Train in several processes: `quoth launch --processes 2 train mybook.txt`.

    Flags before `train` or `tune` are for launching, and all that follows is for `quoth train` or `quoth tune`. The
    processes share what each step learns from, so a step is the same whatever their number. When a process dies, all
    processes are started again and go on from the last checkpoint.

    Attributes:
        processes: the number of processes on this machine; 0 starts one for each GPU, or each core without a GPU.
        machines: the number of machines that take part; the same command has to be started on each of them.
        address: HOST:PORT of one of several machines; the same address has to be given on each of them.
        wait: the seconds within which all machines have to be there.
        restarts: how many times all processes are started again after one has died.
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
    # A mistaken flag is refused here, before each of the processes would refuse it.
    if command[0] == "tune":
        parsed_stage(command[1:])
    else:
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
            code = run(command, a)
            return 2 if file.exists() else code
        finally:
            del os.environ[REFUSED]


def torchrun(a: Arguments, command: list[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments of torchrun, and the environment variables that it needs.

    Raises:
        InputError: the numbers do not fit together.
    """
    if min(a.processes, a.restarts, a.wait) < 0 or a.machines < 1:
        raise InputError("--processes, --restarts and --wait must be 0 or more, and --machines 1 or more.")
    if a.machines > 1 and not a.address.rpartition(":")[2].isdecimal():
        raise InputError("Several machines need --address HOST:PORT of one of them, the same on each.")
    if a.wait > LONGEST_WAIT:
        raise InputError(f"--wait must be at most {LONGEST_WAIT:,} seconds, not {a.wait:,}.")
    from quoth.system.device import cores, gpus

    each, most = a.processes or gpus() or cores(), MOST_PER_CORE * cores()
    if each > most:
        raise InputError(f"--processes must be at most {most} on the {cores()} cores of this machine, not {each:,}.")
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
        # The last checkpoint has to be written in the seconds from SIGTERM to SIGKILL.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "110"),
    }


def run(command: list[str], a: Arguments) -> int:
    """Start the processes, wait for them, and return the exit code of one that failed, or 0.

    Raises:
        InputError: some machine did not come in time.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError, RendezvousTimeoutError
    from torch.distributed.run import main as start

    # A process that fails has said why itself.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    try:
        start(command)
    except (RendezvousTimeoutError, RendezvousConnectionError) as error:
        raise InputError(
            f"Not all of {a.machines} machines came to {a.address} within {a.wait} s; can each of them reach it, and "
            "was the same command started on each?"
        ) from error
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0
