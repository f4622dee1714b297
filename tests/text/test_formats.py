import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text.documents import pdf, prose, write_docx, write_epub, write_parquet

from quoth.text import formats
from quoth.text.formats import Reading, format_of, html_text, separated
from quoth.text.reading import UnreadableError
from quoth.text.unpacking import why


def read(path: Path, how: Reading = Reading()) -> list[str]:  # noqa: B008
    """A file's documents."""
    documents = [""]
    for part in format_of(path.name).read(path, how, lambda said: None):
        if part is None:
            documents.append("")
        else:
            documents[-1] += part
    return [document for document in documents if document]


@given(parts=st.lists(st.text(st.sampled_from("ab<>"))), separator=st.sampled_from(["<>", "a", "aba", "<<"]))
def test_a_separator_may_lie_across_parts(parts: list[str], separator: str) -> None:
    documents = [""]
    for part in separated(parts, separator):
        if part is None:
            documents.append("")
        else:
            documents[-1] += part
    assert documents == "".join(parts).split(separator)


def test_html_is_its_text() -> None:
    page = b"""<html><head><title>no</title><style>p {}</style></head><body><h1>A  title</h1>
    <p>One <b>bold</b>
    word, caf&eacute;.<br>Next</p><ul><li>a</li><li>b</li></ul><pre>  kept
    so</pre><script>no()</script><div>end</div></body></html>"""
    assert html_text(page) == "A title\n\nOne bold word, café.\nNext\n\na\nb\n\n  kept\n    so\n\nend"


def test_word_has_paragraphs_and_tables(tmp_path: Path) -> None:
    write_docx(tmp_path / "a.docx", "First.\nSecond.")
    assert read(tmp_path / "a.docx") == ["A title\n\nFirst.\n\nSecond.\n\nleft\tright\n\n"]


def test_a_pdf_has_its_lines(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(prose(1)))
    assert read(tmp_path / "a.pdf") == [prose(1) + "\n\n"]


def test_a_pdf_without_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(""))
    with pytest.raises(UnreadableError, match="holds no text: its pages may be pictures"):
        read(tmp_path / "a.pdf")


def test_an_epub_is_read_in_the_order_of_reading(tmp_path: Path) -> None:
    write_epub(tmp_path / "a.epub", "The end.", "The beginning.")
    assert read(tmp_path / "a.epub") == ["The beginning.\n\nThe end.\n\n"]


def test_tables_are_a_document_a_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["one", "two"])
    assert read(tmp_path / "a.parquet") == ["one", "two"]
    (tmp_path / "a.csv").write_text('id;story;note\n1;"one; or\ntwo";x\n2;three;y\n')
    assert read(tmp_path / "a.csv") == ["one; or\ntwo", "three"]
    assert read(tmp_path / "a.csv", Reading(column="note")) == ["x", "y"]
    (tmp_path / "a.tsv").write_text("only\none\ntwo\n")
    assert read(tmp_path / "a.tsv") == ["one", "two"]


def test_an_unclear_column_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("left,right\n1,2\n")
    with pytest.raises(UnreadableError, match="has the columns left, right; say with --column which"):
        read(tmp_path / "a.csv")
    with pytest.raises(UnreadableError, match=r"has no column 'middle' \(there is left, right\)"):
        read(tmp_path / "a.csv", Reading(column="middle"))


ROWS = [
    ({"text": "plain"}, "plain"),
    (
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
        "user: Hi\nassistant: Ho",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "in parts"}]}]}, "user: in parts"),
    ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}, "human: Hi\ngpt: Ho"),
    ({"instruction": "Add.", "input": "1 2", "output": "3"}, "user: Add.\n1 2\nassistant: 3"),
    ({"prompt": "Add.", "completion": "3"}, "user: Add.\nassistant: 3"),
    ({"text": "half \ud83d"}, "half \ud83d"),
]


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_rows_of_json(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    rows = [row for row, _ in ROWS]
    path.write_text(json.dumps(rows) if ending == "json" else "\n".join(map(json.dumps, rows)))
    assert read(path) == [text for _, text in ROWS]


def test_rows_without_text_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": \n[1]\n\n{"text": ""}\n{"body": "two"}\n')
    said: list[str] = []
    parts = list(format_of("a.jsonl").read(tmp_path / "a.jsonl", Reading(), said.append))
    assert parts == ["one", None, "two", None]
    assert said == ["has no text in 3 of its 5 rows, which were left out"]
    (tmp_path / "a.jsonl").write_text("{}\n{}\n")
    with pytest.raises(UnreadableError, match="has 2 rows, and none that holds text"):
        read(tmp_path / "a.jsonl")


def test_what_is_too_large_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "LARGEST_WHOLE", 100)
    write_docx(tmp_path / "a.docx", "text")
    write_epub(tmp_path / "a.epub", "one", "two")
    (tmp_path / "a.pdf").write_bytes(pdf(prose(1)))
    (tmp_path / "a.html").write_text(prose(1))
    for path in tmp_path.iterdir():
        with pytest.raises(UnreadableError, match="MB are allowed"):
            read(path)


@pytest.mark.parametrize(
    ("package", "name"), [("pypdf", "a.pdf"), ("docx", "a.docx"), ("bs4", "a.html"), ("pyarrow.parquet", "a.parquet")]
)
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError) as error:
        read(tmp_path / name)
    assert "pip install 'quoth[documents]'" in why(error.value)
