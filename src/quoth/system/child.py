"""What a child process does in which a user's own Python runs: it bounds itself, and says in words what went wrong.

It loads little, since each such process loads it.
"""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from quoth.system.errors import is_out_of_memory, one_line


def failure(error: BaseException, file: str) -> dict[str, Any]:
    """An error's kind, the first line of what it says, the line of the file that it came from, and what ran out."""
    ran_out = "memory" if is_out_of_memory(error) else "depth" if isinstance(error, RecursionError) else None
    try:
        if isinstance(error, SyntaxError):
            said, lines = error.msg, [error.lineno]
        else:
            said = str(error).strip().partition("\n")[0]
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        said = "".join(c for c in one_line(ValueError(said)) if c.isprintable()) if said else ""
    except Exception:  # Its class may be the user's own.
        said, lines = "", []
    return {"kind": type(error).__name__, "said": said, "line": lines[-1] if lines else None, "ran_out": ran_out}


def in_words(failed: dict[str, Any], memory: str) -> str:
    """What `failure` returned, without a full stop; `memory` is how much the process may take, in words.

    >>> in_words({"kind": "ValueError", "said": "no", "line": 3, "ran_out": None}, "2 GB")
    'ValueError (line 3): no'
    """
    where = f" (line {failed['line']})" if failed["line"] else ""
    if failed["ran_out"] == "memory":
        return f"{failed['kind']}{where}: it took more than {memory} of memory"
    if failed["ran_out"] == "depth":
        return f"{failed['kind']}{where}: the function calls itself too often"
    return f"{failed['kind']}{where}" + (f": {failed['said']}" if failed["said"] else "")


def bound_memory(more: int) -> None:
    """Let this process take so many bytes more than it has taken, and leave no core, where the system has limits."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)
