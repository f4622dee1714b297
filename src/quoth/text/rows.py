"""Rows as documents: JSON Lines, JSON, CSV and Parquet, and what a row's text is."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from quoth.text.chats import is_telegram, telegram
from quoth.text.reading import UnreadableError, lines

TEXT_COLUMNS = ("text", "content", "body", "document", "story")
QUESTIONS = ("instruction", "prompt", "question")
ANSWERS = ("output", "response", "completion", "answer")
LARGEST_CELL = 64 * 2**20


def jsonl_rows(texts: Iterable[str], column: str, note: Callable[[str], None]) -> Iterator[str | None]:
    """The documents of JSON Lines, a row each; rows without text are counted in a note.

    Raises:
        UnreadableError: no row has any.
    """

    yield from _documents((row for _, row in json_lines(texts)), column, note)


def json_lines(texts: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Each line of JSON Lines that is not blank: its number, from 1 on, and its content, or the error of reading it."""
    for number, line in enumerate(lines(texts), 1):
        if line.strip():
            try:
                yield number, json.loads(line.rstrip())
            except ValueError as error:
                yield number, error


def json_rows(text: str, column: str, note: Callable[[str], None]) -> Iterator[str | None]:
    """The documents of a JSON file: an export of Telegram, a list of rows, or a single row.

    Raises:
        UnreadableError: it is none of these.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UnreadableError(f"is not JSON: {error}") from error
    if is_telegram(content):
        yield from telegram(content)
    else:
        yield from _documents(iter(content if isinstance(content, list) else [content]), column, note)


def csv_rows(texts: Iterable[str], column: str, note: Callable[[str], None]) -> Iterator[str | None]:
    """The documents of a table with a line of column names: one column, a row each.

    Raises:
        UnreadableError: it is not clear which column, or there is no such column.
    """
    rows = csv_table(texts)
    chosen = choose_column(list(rows.fieldnames or ()), column)
    yield from _documents((row.get(chosen) for row in rows), "", note)


def csv_table(texts: Iterable[str]) -> csv.DictReader[str]:
    """The rows of a table with a line of column names; what stands between columns is taken from that line."""
    csv.field_size_limit(LARGEST_CELL)
    source = lines(texts)
    head = next(source, "")
    return csv.DictReader(chain([head], source), delimiter=max("\t,;|", key=head.count))


def parquet_rows(path: Path, column: str, note: Callable[[str], None]) -> Iterator[str | None]:
    """The documents of a Parquet file, a row each: one column, or conversations.

    Raises:
        UnreadableError: it is not clear which column, or there is no such column.
    """
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as table:
        names = table.schema_arrow.names
        turns = not column and ("messages" in names or "conversations" in names or has_turns(names))
        columns = None if turns else [choose_column(names, column)]

        rows = (row if columns is None else row[columns[0]] for row in parquet_table(table, columns))
        yield from _documents(rows, "", note)


def parquet_table(table: Any, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of an open Parquet file, with these columns or all."""
    for batch in table.iter_batches(batch_size=256, columns=columns):
        yield from batch.to_pylist()


def choose_column(names: list[str], column: str) -> str:
    """The column that was asked for, else the only one, else one that is called as texts are.

    Raises:
        UnreadableError: there is none.
    """
    known = ", ".join(map(str, names[:10]))
    if column:
        if column not in names:
            raise UnreadableError(f"has no column {column!r} (there is {known})")
        return column
    if len(names) == 1:
        return names[0]
    lower = {name.lower(): name for name in names}
    if (usual := next((lower[name] for name in TEXT_COLUMNS if name in lower), None)) is None:
        raise UnreadableError(f"has the columns {known}; say with --column which one holds the text")
    return usual


def row_text(row: Any, column: str = "") -> str:
    r"""The text of a row; of a conversation its turns, each on a line of its own after who speaks.

    >>> row_text({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]})
    'user: Hi\nassistant: Hello!'
    """
    if isinstance(row, str):
        return row
    if not isinstance(row, dict):
        return ""
    if column:
        return row_text(row.get(column))
    if isinstance(row.get("text"), str):
        return str(row["text"])
    for key, who, what in (("messages", "role", "content"), ("conversations", "from", "value")):
        if isinstance(turns := row.get(key), list):
            return "\n".join(_turn(turn, who, what) for turn in turns if isinstance(turn, dict))
    if has_turns(row):
        question = [row[key] for key in (*QUESTIONS, "input") if row.get(key) and isinstance(row[key], str)]
        answer = next(row[key] for key in ANSWERS if key in row)
        asked = "\n".join(question)
        return f"user: {asked}\nassistant: {answer}"
    return next((str(row[key]) for key in TEXT_COLUMNS if isinstance(row.get(key), str)), "")


def has_turns(names: Iterable[str]) -> bool:
    """Whether a row with these keys holds a question and its answer."""
    known = set(names)
    return bool(known.intersection(QUESTIONS) and known.intersection(ANSWERS))


def _documents(rows: Iterator[Any], column: str, note: Callable[[str], None]) -> Iterator[str | None]:
    number = without = 0
    for row in rows:
        number += 1
        if (text := row_text(row, column)).strip():
            yield text
            yield None
        else:
            without += 1
    if without == number:
        wanted = f"the key {column!r}" if column else "text, messages or the like"
        raise UnreadableError(f"has {number:,} rows, and none that holds {wanted}")
    if without:
        note(f"has no text in {without:,} of its {number:,} rows, which were left out")


def _turn(turn: dict[str, Any], who: str, what: str) -> str:
    content = turn.get(what)
    if isinstance(content, list):
        content = "".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return f"{turn.get(who) or turn.get('role') or 'user'}: {content or ''}"
