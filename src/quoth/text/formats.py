"""Each format's reader, and the table of them by a file name's ending.

A reader yields a file's text in parts, and None where a document ends. It raises UnreadableError, OSError or what its
library raises; whoever calls it gives up that file alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from quoth.text.chats import is_whatsapp, whatsapp
from quoth.text.reading import UnreadableError, decoded, encoding_of
from quoth.text.rows import csv_rows, json_rows, jsonl_rows, parquet_rows

# Formats that are held in memory as a whole; what they unpack to is bounded too.
LARGEST_WHOLE = 512 * 2**20


@dataclass(frozen=True)
class Reading:
    r"""How documents are read and what stands between them.

    Attributes:
        separator: what stands between documents where the tokenizer has no end token, and where plain text is split.
        column: the column, or key of a row, that holds the text.
        keep_newlines: whether \r\n stays as it is.
    """

    separator: str = ""
    column: str = ""
    keep_newlines: bool = False


Note = Callable[[str], None]
Parts = Iterator[str | None]


class Format(NamedTuple):
    """A format's name, its reader, and the packages of quoth[documents] that decide what it reads."""

    name: str
    read: Callable[[Path, Reading, Note], Parts]
    packages: tuple[str, ...] = ()


def format_of(path: str) -> Format:
    """The format that a file's name tells; plain text for all others."""
    return FORMATS.get(Path(path).suffix.lower(), TEXT)


def read_text(path: Path, how: Reading, note: Note) -> Parts:
    """Plain text: one document, or several with the separator between; an export of WhatsApp as its turns."""
    texts = _decoded(path, how, note)
    if how.separator:
        yield from separated(texts, how.separator)
        return
    first = next(texts, "")
    texts = chain([first], texts)
    yield from whatsapp(texts) if is_whatsapp(first) else texts


def separated(texts: Iterable[str], separator: str) -> Parts:
    """A text in parts as documents; a separator may lie across two parts."""
    held = ""
    for text in texts:
        *ended, last = (held + text).split(separator)
        for part in ended:
            yield part
            yield None
        end = max(0, len(last) - len(separator) + 1)
        yield last[:end]
        held = last[end:]
    yield held


def _decoded(path: Path, how: Reading, note: Note) -> Iterator[str]:
    encoding = encoding_of(path)
    if encoding.remark:
        note(encoding.remark)
    yield from decoded(path, encoding, keep_newlines=how.keep_newlines)


def _read_rows(rows: Callable[[Iterator[str], str, Note], Parts]) -> Callable[[Path, Reading, Note], Parts]:
    return lambda path, how, note: rows(_decoded(path, how, note), how.column, note)


def _read_json(path: Path, how: Reading, note: Note) -> Parts:
    check_size(path.stat().st_size)
    yield from json_rows("".join(_decoded(path, how, note)), how.column, note)


def _read_parquet(path: Path, how: Reading, note: Note) -> Parts:
    yield from parquet_rows(path, how.column, note)


def _read_html(path: Path, how: Reading, note: Note) -> Parts:
    check_size(path.stat().st_size)
    yield html_text(path.read_bytes())


# What stands in for the edge of a block and of a paragraph until it is known which edges meet.
EDGE, PARAGRAPH = "\x1e", "\x1f"
PARAGRAPHS = ["p", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "ul", "ol", "table", "article", "section"]
BLOCKS = ["div", "li", "tr", "dt", "dd", "figcaption", "header", "footer", "main", "nav", "aside", "hr"]


def html_text(content: bytes) -> str:
    """The text of a page: a line for each block, a blank line between paragraphs; neither scripts nor styles."""
    from bs4 import BeautifulSoup

    page = BeautifulSoup(content, "lxml")
    for tag in page(["script", "style", "template", "noscript", "head"]):
        tag.decompose()
    for string in list(page.strings):
        if not any(parent.name == "pre" for parent in string.parents):
            # White space of the source means one space.
            string.replace_with(re.sub(r"\s+", " ", string))
    for tag in page("br"):
        tag.replace_with("\n")
    for tag in page([*PARAGRAPHS, *BLOCKS]):
        edge = PARAGRAPH if tag.name in PARAGRAPHS else EDGE
        tag.insert_before(edge)
        tag.insert_after(edge)
    text = re.sub(
        rf" *[{EDGE}{PARAGRAPH}](?: *[{EDGE}{PARAGRAPH}])*",
        lambda edges: "\n\n" if PARAGRAPH in edges[0] else "\n",
        page.get_text(),
    )
    lines = re.sub(r"\n{3,}", "\n\n", text).split("\n")
    return "\n".join(line.rstrip() if line[:2] == "  " else line.strip() for line in lines).strip("\n")


def _read_docx(path: Path, how: Reading, note: Note) -> Parts:
    import docx
    from docx.table import Table

    check_size(unpacked_size(path))
    for block in docx.Document(str(path)).iter_inner_content():
        if isinstance(block, Table):
            for row in block.rows:
                yield "\t".join(cell.text for cell in row.cells) + "\n"
            yield "\n"
        else:
            yield block.text + "\n\n"


def _read_pdf(path: Path, how: Reading, note: Note) -> Parts:
    from pypdf import PdfReader

    check_size(path.stat().st_size)
    # What it warns of does not stop it, and what stops it is raised.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    reader = PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableError("is encrypted with a password")
    found = False
    for page in reader.pages:
        text = page.extract_text()
        found |= bool(text.strip())
        yield text.replace("\r\n", "\n").strip("\n") + "\n\n"
    if not found:
        raise UnreadableError("holds no text: its pages may be pictures")


def _read_epub(path: Path, how: Reading, note: Note) -> Parts:
    """The chapters in the order of reading, as one document."""
    from posixpath import dirname, join, normpath
    from urllib.parse import unquote
    from zipfile import ZipFile

    from bs4 import BeautifulSoup

    check_size(unpacked_size(path))
    with ZipFile(path) as book:
        container = BeautifulSoup(book.read("META-INF/container.xml"), "lxml-xml")
        root = _attribute(container.find("rootfile"), "full-path")
        package = BeautifulSoup(book.read(root), "lxml-xml")
        items = {_attribute(item, "id"): _attribute(item, "href") for item in package("item")}
        for entry in package("itemref"):
            name = normpath(join(dirname(root), unquote(items[_attribute(entry, "idref")])))
            if text := html_text(book.read(name)):
                yield text + "\n\n"


def _attribute(tag: Any, name: str) -> str:
    if tag is None or name not in tag.attrs:
        raise UnreadableError(f"is no whole EPUB: the {name} of something is missing")
    return str(tag[name])


def unpacked_size(path: Path) -> int:
    """What a zip archive says that its members are in all, in bytes; more than it says is never unpacked."""
    from zipfile import ZipFile

    with ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def check_size(size: int) -> None:
    """Refuse what is too large to be held in memory.

    Raises:
        UnreadableError: it is.
    """
    if size > LARGEST_WHOLE:
        mb, allowed = size / 2**20, LARGEST_WHOLE / 2**20
        raise UnreadableError(f"has {mb:,.0f} MB when unpacked, and {allowed:,.0f} MB are allowed")


TEXT = Format("text", read_text, ("charset-normalizer",))
HTML = Format("html", _read_html, ("beautifulsoup4", "lxml"))
FORMATS = {
    ".md": TEXT._replace(name="markdown"),
    ".markdown": TEXT._replace(name="markdown"),
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".jsonl": Format("jsonl", _read_rows(jsonl_rows), TEXT.packages),
    ".ndjson": Format("jsonl", _read_rows(jsonl_rows), TEXT.packages),
    ".json": Format("json", _read_json, TEXT.packages),
    ".csv": Format("csv", _read_rows(csv_rows), TEXT.packages),
    ".tsv": Format("tsv", _read_rows(csv_rows), TEXT.packages),
    ".parquet": Format("parquet", _read_parquet, ("pyarrow",)),
    ".docx": Format("docx", _read_docx, ("python-docx", "lxml")),
    ".pdf": Format("pdf", _read_pdf, ("pypdf",)),
    ".epub": Format("epub", _read_epub, HTML.packages),
}
