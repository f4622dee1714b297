"""Data to tune on, from files, folders and archives: every row is read or refused by its place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, TypeVar

from quoth.system.errors import InputError, suggestion
from quoth.text.chats import Said, is_telegram, is_whatsapp, telegram_messages, whatsapp_messages
from quoth.text.finding import COMPRESSED, find
from quoth.text.formats import check_size
from quoth.text.reading import decoded, encoding_of
from quoth.text.rows import csv_table, json_lines, parquet_table
from quoth.text.unpacking import LeftOut, Member, members, why
from quoth.tune import shapes
from quoth.tune.conversation import Conversation, Preference, Prompt, Rated

# After so many seconds in which nobody wrote, a chat's next message begins another conversation.
PAUSE_SECONDS = 3 * 3600.0
TABLES = (".csv", ".tsv")
ENDINGS = (".jsonl", ".ndjson", ".json", *TABLES, ".parquet")
CHATS = (".txt", ".json")
# How truth is written in tables, whose cells are all text.
LABELS = {"true": True, "1": True, "false": False, "0": False}

Made = TypeVar("Made")


def is_rows(data: str) -> bool:
    """Whether DATA are files of rows, by the endings of their names, and not texts.

    >>> is_rows("chats.jsonl,more.csv.gz"), is_rows("chats.jsonl,book.txt")
    (True, False)
    """
    names = [name.strip().lower() for name in data.split(",")]
    bare = [name.removesuffix(next(filter(name.endswith, COMPRESSED), "")) for name in names]
    return all(name.endswith(ENDINGS) for name in bare)


def read_conversations(data: str, me: str = "") -> list[Conversation]:
    """The conversations of DATA: JSON Lines, JSON, CSV or Parquet in any of the shapes of `shapes.conversation`.

    With `me`, DATA are exports of WhatsApp and Telegram, in which what `me` writes is the assistant's and what all
    others write the user's. Messages on end of one side become one message. A pause of three hours begins another
    conversation where the times are known; what comes before the first message of the others, and after the last of
    `me`, is left out.

    Raises:
        InputError: a file cannot be read, a row is no conversation, there is none at all, or nobody is called `me`.
    """
    if me:
        return _chats(data, me)
    return _each(data, lambda member: _made(member, lambda row, where: [shapes.conversation(row, where)]))


def read_prompts(data: str) -> list[Prompt]:
    """The prompts in DATA, in the shapes of `shapes.prompt`; the answers beside them are not read.

    Raises:
        InputError: a file cannot be read, a row has no prompt, or there is none at all.
    """
    return _each(data, lambda member: _made(member, lambda row, where: [shapes.prompt(row, where)]))


def read_preferences(data: str) -> list[Preference]:
    """The pairs of answers in DATA, in the shapes of `shapes.preference`.

    Raises:
        InputError: a file cannot be read, a row is no preference, or there is none at all.
    """
    return _each(data, lambda member: _made(member, lambda row, where: [shapes.preference(row, where)]))


def read_rated(data: str) -> list[Rated]:
    """The rated answers in DATA, in the shapes of `shapes.rated`.

    Raises:
        InputError: a file cannot be read, a row is no rated answer, or there is none at all.
    """
    return _each(data, lambda member: _made(member, shapes.rated))


def _each(
    data: str,
    read: Callable[[Member], Iterable[Made]],
    endings: tuple[str, ...] = ENDINGS,
    lacks: str = "nothing to tune on: no rows",
) -> list[Made]:
    """What is read of each file of DATA. In folders and archives, files with other endings are left out."""
    found = find(data)
    made: list[Made] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in found.files.items():
            for member in _members(name, path, Path(folder)):
                if _ending(member) in endings or (len(found.files) == 1 and member.path == path):
                    made += _read(member, read, endings)
    if not made:
        raise InputError(f"{found.data} holds {lacks} in files that end in {', '.join(endings)}.")
    return made


def _members(name: str, path: Path, folder: Path) -> Iterator[Member]:
    try:
        for member in members(name, path, folder):
            if not isinstance(member, LeftOut):
                yield member
    except InputError:
        raise
    except Exception as error:  # The libraries raise nothing more special.
        raise InputError(f"{name} {why(error)}.") from error


def _read(member: Member, read: Callable[[Member], Iterable[Made]], endings: tuple[str, ...]) -> list[Made]:
    if member.problem:
        raise InputError(f"{member.name} {member.problem}.")
    if _ending(member) not in endings:
        raise InputError(f"{member.name} must end in one of {', '.join(endings)} to be tuned on.")
    try:
        return list(read(member))
    except InputError:
        raise
    except Exception as error:  # The libraries raise nothing more special.
        raise InputError(f"{member.name} {why(error)}.") from error


def _ending(member: Member) -> str:
    name = Path(member.name)
    return (Path(name.stem) if name.suffix.lower() in COMPRESSED else name).suffix.lower()


def _made(member: Member, make: Callable[[Any, str], list[Made]]) -> Iterator[Made]:
    for place, row in _rows(member):
        yield from make(row, f"{member.name}, {place}")


def _rows(member: Member) -> Iterator[tuple[str, Any]]:
    """The rows of a file, each with its place in words."""
    ending = _ending(member)
    if ending == ".parquet":
        from pyarrow.parquet import ParquetFile

        with ParquetFile(member.path) as table:
            yield from _numbered(parquet_table(table))
    elif ending in TABLES:
        yield from _numbered(map(_of_cells, csv_table(_text(member))))
    elif ending == ".json":
        content = _json(member)
        yield from _numbered(content if isinstance(content, list) else [content])
    else:
        yield from ((f"line {number}", row) for number, row in json_lines(_text(member)))


def _numbered(rows: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    yield from ((f"row {number}", row) for number, row in enumerate(rows, 1))


def _of_cells(row: dict[str, str]) -> dict[str, Any]:
    """A table's row: messages and labels are written as text in it, and an empty cell is none."""
    made: dict[str, Any] = {}
    for key, cell in row.items():
        if key == "label":
            made[key] = LABELS.get(str(cell).strip().lower(), cell)
        elif isinstance(cell, str) and cell.lstrip().startswith("["):
            made[key] = _list_of(cell)
        elif cell != "":
            made[key] = cell
    return made


def _list_of(cell: str) -> Any:
    """The messages that a cell holds as JSON, or the text that it is."""
    try:
        content = json.loads(cell)
    except ValueError:
        return cell
    messages = all(isinstance(one, dict) and ("role" in one or "from" in one) for one in content)
    return content if content and messages else cell


def _text(member: Member) -> Iterator[str]:
    return decoded(member.path, encoding_of(member.path))


def _json(member: Member) -> Any:
    check_size(member.path.stat().st_size)
    try:
        return json.loads("".join(_text(member)))
    except ValueError as error:
        raise InputError(f"{member.name} is not JSON: {error}.") from error


def _chats(data: str, me: str) -> list[Conversation]:
    """The conversations of exports."""
    chats = _each(
        data, lambda member: ((member.name, chat) for chat in _said(member)), CHATS, "no chat of WhatsApp or Telegram"
    )
    speakers = {said.who for _, chat in chats for said in chat}
    if me not in speakers:
        raise InputError(f"Nobody in {data} is called {me!r}{suggestion(me, speakers)}.")
    made = [conversation for name, chat in chats for conversation in _conversations(chat, me, name)]
    if not made:
        raise InputError(f"In {data}, {me!r} never answers anybody, so there is nothing to learn.")
    return made


def _said(member: Member) -> list[list[Said]]:
    """The chats of an export; of a file that is none, nothing."""
    if _ending(member) == ".json":
        content = _json(member)
        return list(telegram_messages(content)) if is_telegram(content) else []
    texts = list(_text(member))
    return [whatsapp_messages(texts)] if texts and is_whatsapp(texts[0]) else []


def _conversations(chat: list[Said], me: str, name: str) -> Iterator[Conversation]:
    """The parts of a chat between long pauses in which somebody asks and `me` answers."""
    begins = [0, *(i for i, (one, other) in enumerate(pairwise(chat), 1) if _pause(one, other)), len(chat)]
    for first, last in pairwise(begins):
        turns = [
            {"role": "assistant" if mine else "user", "content": "\n".join(said.what for said in together)}
            for mine, together in groupby(chat[first:last], key=lambda said: said.who == me)
        ]
        if turns and turns[0]["role"] == "assistant":
            turns = turns[1:]
        if turns := turns[: len(turns) // 2 * 2]:
            yield Conversation(tuple(turns), f"{name}, message {first + 1}")


def _pause(one: Said, other: Said) -> bool:
    return one.when is not None and other.when is not None and other.when - one.when > PAUSE_SECONDS
