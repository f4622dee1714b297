"""How threads that wait for others wait, which is decided before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# GNU's library spins 300,000 times before it sleeps, some ten milliseconds: between two parts of a step nothing waits
# so long, but beside another program whose turn it is, whole turns are spent spinning.
SPINS = 10_000


def sleep_soon(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have OpenMP's waiting threads sleep soon, so that two trainings at once do not hold each other up.

    What the user has set in the environment stays. It has no effect once torch is loaded.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = str(SPINS)  # GNU's library, which torch has on Linux.
        environment["KMP_BLOCKTIME"] = "1"  # LLVM's, in milliseconds.
