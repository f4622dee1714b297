"""The solution of an exercise as a file that runs by itself."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from quoth.ladder.checker.exercise import Exercise

# What is imported from here on is not written out.
OURS = "quoth."


def solution(exercise: Exercise) -> str:
    """The right function, with the imports and all functions of this package that it uses."""
    imports: dict[str, None] = {}
    parts: dict[str, None] = {}
    _collect(sys.modules[exercise.right.__module__], exercise.name, imports, parts, set())
    head = sorted(imports, key=lambda line: (line.startswith("from"), line))
    return "\n".join(head) + "\n\n\n" * bool(head) + "\n\n\n".join(parts) + "\n"


def _collect(
    module: ModuleType, name: str, imports: dict[str, None], parts: dict[str, None], seen: set[tuple[str, str]]
) -> None:
    """Add the statement that gives a module's name its meaning, after all that the statement needs."""
    if (module.__name__, name) in seen:
        return
    seen.add((module.__name__, name))
    source = inspect.getsource(module)
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) != name:
                    continue
                if isinstance(statement, ast.ImportFrom) and str(statement.module).startswith(OURS):
                    _collect(import_module(str(statement.module)), alias.name, imports, parts, seen)
                else:
                    imports[_import(statement, alias)] = None
        elif name in _bound(statement):
            for used in (node.id for node in ast.walk(statement) if isinstance(node, ast.Name)):
                _collect(module, used, imports, parts, seen)
            parts[ast.get_source_segment(source, statement) or ""] = None


def _import(statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    called = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
    return f"from {statement.module} import {called}" if isinstance(statement, ast.ImportFrom) else f"import {called}"


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
