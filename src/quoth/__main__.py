"""`python -m quoth` and the `quoth` command."""

from __future__ import annotations

import sys

from quoth.cli.dispatch import dispatch


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    sys.exit(dispatch(sys.argv[1:]))


if __name__ == "__main__":
    main()
