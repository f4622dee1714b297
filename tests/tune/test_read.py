"""Files, folders and archives of every format as what models are tuned on, and every fault by its place."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from quoth.system.errors import InputError
from quoth.tune.read import is_rows, read_conversations, read_preferences, read_prompts, read_rated

TALK = [{"role": "user", "content": 'Who?\n, "you"'}, {"role": "assistant", "content": "I — é"}]
ROWS = [{"messages": TALK}, {"messages": [{"role": "system", "content": "s"}, *TALK]}]


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def written(kind: str, path: Path, rows: list[dict[str, Any]]) -> str:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    match kind:
        case "jsonl" | "ndjson":
            path.write_text("\n" + text, encoding="utf-8")
        case "json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        case "jsonl.gz":
            path.write_bytes(gzip.compress(b"\n" + text.encode()))
        case "parquet":
            write_table(pa.Table.from_pylist(rows), path)
        case "csv" | "tsv":
            with path.open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, sorted({*rows[0]}), delimiter="\t" if kind == "tsv" else ",")
                table.writeheader()
                table.writerows({k: json.dumps(v) if isinstance(v, list) else v for k, v in r.items()} for r in rows)
    return str(path)


# Where the first row stands.
KINDS = dict.fromkeys(("json", "parquet", "csv", "tsv"), ("row", 1))
KINDS |= dict.fromkeys(("jsonl", "ndjson", "jsonl.gz"), ("line", 2))


@pytest.mark.parametrize("kind", KINDS)
def test_every_format(kind: str, tmp_path: Path) -> None:
    made = read_conversations(written(kind, tmp_path / f"a.{kind}", ROWS))
    assert [list(one.messages) for one in made] == [row["messages"] for row in ROWS]
    place, first = KINDS[kind]
    assert [one.where for one in made] == [f"a.{kind}, {place} {first + i}" for i in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_preferences_and_ratings_of_every_format(kind: str, tmp_path: Path) -> None:
    pairs = [{"prompt": f"q{i}", "chosen": "[yes]", "rejected": "no"} for i in range(2)]
    made = read_preferences(written(kind, tmp_path / f"a.{kind}", pairs))
    assert [(p.prompt[0]["content"], p.chosen[0]["content"], p.rejected[0]["content"]) for p in made] == [
        (f"q{i}", "[yes]", "no") for i in range(2)
    ]
    rows = [{"prompt": f"q{i}", "completion": "yes", "label": bool(i)} for i in range(2)]
    data = written(kind, tmp_path / f"b.{kind}", rows)
    assert [r.label for r in read_rated(data)] == [False, True]
    assert [p.prompt[0]["content"] for p in read_prompts(data)] == ["q0", "q1"]
    assert [r.label for r in read_rated(str(tmp_path / f"a.{kind}"))] == [True, False] * 2


def test_folders_and_archives_whose_other_files_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    jsonl(folder / "b.jsonl", ROWS[:1])
    jsonl(folder / "more" / "a.jsonl", ROWS[1:])
    (folder / "README.md").write_text("What this is.")
    with ZipFile(folder / "c.zip", "w") as archive:
        archive.write(folder / "b.jsonl", "x.jsonl")
        archive.write(folder / "README.md", "README.md")
    assert [one.where for one in read_conversations(str(folder))] == [
        "b.jsonl, line 1", "c.zip/x.jsonl, line 1", "more/a.jsonl, line 1",
    ]  # fmt: skip
    two = f"{folder / 'b.jsonl'},{folder / 'more' / 'a.jsonl'}"
    assert [one.where for one in read_conversations(two)] == ["b.jsonl, line 1", "more/a.jsonl, line 1"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"messages": []}\n', r"a\.jsonl, line 1: messages must be a list"),
        (
            "a.jsonl",
            b'{"prompt": "q", "completion": "a"}\n{"prompt": \n',
            r"a\.jsonl, line 2: This is not JSON: Expecting",
        ),
        ("a.jsonl", b"", r".* holds nothing to tune on"),
        ("a.json", b"[", r"a\.json is not JSON"),
        ("a.json", b"[]", r".* holds nothing to tune on"),
        ("a.json", b"[1]", r"a\.json, row 1: A row must be an object"),
        ("a.csv", b"question,text\nq,a\n", r"a\.csv, row 1: A conversation has messages"),
        ("a.parquet", b"PAR1", r"a\.parquet is damaged"),
        ("a.zip", b"PK", r"a\.zip is damaged"),
        ("a.md", b"hello", r"a\.md must end in one of \.jsonl"),
        ("a.jsonl", b"\x00\x01", r"a\.jsonl looks like a binary file"),
    ],
)
def test_what_cannot_be_read(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^{said}") as caught:
        read_conversations(str(tmp_path / name))
    assert str(caught.value).endswith(".")


def test_no_data() -> None:
    with pytest.raises(InputError, match="neither a file or folder nor a named corpus"):
        read_rated("nowhere.jsonl")


WHATSAPP = """\
12.03.24, 14:05 - Messages are encrypted from end to end.
12.03.24, 14:05 - Anna: I am here.
12.03.24, 14:06 - Bob: Where?
12.03.24, 14:07 - Carl: Yes, where?
12.03.24, 14:08 - Anna: At the sea.
12.03.24, 14:09 - Anna: It is cold.
12.03.24, 14:10 - Bob: Oh.
13.03.24, 09:00 - Bob: And now?
13.03.24, 09:01 - Anna: At home.
"""


def test_whatsapp(tmp_path: Path) -> None:
    (tmp_path / "chat.txt").write_text(WHATSAPP)
    (tmp_path / "notes.txt").write_text("Nothing was said.\n")
    one, other = read_conversations(str(tmp_path), me="Anna")
    assert [(m["role"], m["content"]) for m in one.messages] == [
        ("user", "Where?\nYes, where?"), ("assistant", "At the sea.\nIt is cold."),
    ]  # fmt: skip
    assert [(m["role"], m["content"]) for m in other.messages] == [("user", "And now?"), ("assistant", "At home.")]
    assert (one.where, other.where) == ("chat.txt, message 1", "chat.txt, message 7")
    with pytest.raises(InputError, match=r"Nobody in .* is called 'Ana' \(did you mean 'Anna'\?\)"):
        read_conversations(str(tmp_path), me="Ana")


def test_telegram(tmp_path: Path) -> None:
    said = [("Bob", "Hi", 0), ("Anna", "Hello", 60), ("Bob", "Bye", 120), ("Anna", "Bye", 130), ("Bob", "?", 99999)]
    messages = [{"type": "message", "from": f, "text": t, "date_unixtime": str(s)} for f, t, s in said]
    chat = {"id": 1, "type": "personal_chat", "messages": messages}
    (tmp_path / "result.json").write_text(json.dumps({"chats": {"list": [chat, chat]}}))
    made = read_conversations(str(tmp_path / "result.json"), me="Anna")
    assert [[m["content"] for m in one.messages] for one in made] == [["Hi", "Hello", "Bye", "Bye"]] * 2
    for message in messages:
        del message["date_unixtime"]
    (tmp_path / "result.json").write_text(json.dumps(chat))
    assert len(read_conversations(str(tmp_path / "result.json"), me="Anna")) == 1
    (tmp_path / "result.json").write_text(json.dumps({**chat, "messages": messages[1:2]}))
    with pytest.raises(InputError, match="'Anna' never answers anybody"):
        read_conversations(str(tmp_path / "result.json"), me="Anna")
    (tmp_path / "result.json").write_text(json.dumps(ROWS))
    with pytest.raises(InputError, match="holds no chat"):
        read_conversations(str(tmp_path / "result.json"), me="Anna")


def test_rows_are_told_from_texts() -> None:
    assert is_rows("a.JSONL.gz") and is_rows("a.parquet, b.json")
    assert not is_rows("a.txt") and not is_rows("a.csv,texts") and not is_rows("shakespeare")
