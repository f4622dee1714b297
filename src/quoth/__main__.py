"""`python -m quoth` and the `quoth` command."""

from __future__ import annotations

import sys

from quoth.cli.dispatch import dispatch


def main() -> None:
    sys.exit(dispatch(sys.argv[1:]))


if __name__ == "__main__":
    main()
