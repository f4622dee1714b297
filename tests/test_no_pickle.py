"""Nothing that is read can run code: the package has no pickle, by any name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [path for top in ("src", "tools") for path in sorted((ROOT / top).rglob("*.py"))]
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# These pickle what they are given, or read what was pickled.
CALLS = {
    ("torch", "load"),
    ("torch", "save"),
    ("np", "load"),
    ("np", "save"),
    ("numpy", "load"),
    ("numpy", "save"),
}
NAMES = {"broadcast_object_list", "all_gather_object", "gather_object", "scatter_object_list"} | {
    *("send_object_list", "recv_object_list"),
    "FileSystemWriter",
    "FileSystemReader",
    "read_pickle",
    "allow_pickle",
}


def pickling(source: str) -> Iterator[str]:
    """What in a module's source pickles."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (a.name for a in names if a.name.partition(".")[0] in MODULES | NAMES)
            case ast.ImportFrom(module=module, names=names):
                if (module or "").partition(".")[0] in MODULES | NAMES:
                    yield str(module)
                yield from (a.name for a in names if a.name in NAMES or (module, a.name) in CALLS)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)) if (owner, name) in CALLS:
                yield f"{owner}.{name}"
            case ast.Attribute(attr=name) | ast.keyword(arg=name) if name in NAMES:
                yield str(name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_pickled(path: Path) -> None:
    assert list(pickling(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "import torch.distributed as dist\ndist.broadcast_object_list([1])",
        "from torch.distributed.checkpoint import FileSystemWriter",
    ],
)
def test_what_pickles_is_found(source: str) -> None:
    assert list(pickling(source))
