"""Set how waiting OpenMP threads wait, which must be done before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# A thread of GNU's library spins 300,000 times before it sleeps, for some ten milliseconds. Between two parts of a step
# no thread waits so long; but if another program runs too, threads spend their whole time slices spinning.
SPINS = 1000


def sleep_soon(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make OpenMP's waiting threads sleep soon, so that two trainings at once do not slow each other down.

    Variables that the user has set stay as they are. The call has no effect once torch is loaded.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = str(SPINS)  # GNU's library, which torch has on Linux.
        environment["KMP_BLOCKTIME"] = "1"  # LLVM's, in milliseconds.
