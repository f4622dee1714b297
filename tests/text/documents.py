"""Files of every format, written by the libraries that know them or by hand."""

import gzip
import json
import random
import zipfile
from pathlib import Path

WORDS = ["the", "king", "and", "queen", "of", "sea", "love", "night", "day", "hath", "speak", "thou", "art", "sweet"]
CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
    '<rootfiles><rootfile full-path="OEBPS/content.opf"/></rootfiles></container>'
)
PACKAGE = (
    '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf"><manifest>'
    '<item id="one" href="one.xhtml"/><item id="two" href="part%20two.xhtml"/></manifest>'
    '<spine><itemref idref="two"/><itemref idref="one"/></spine></package>'
)


def prose(seed: int, lines: int = 20) -> str:
    rng = random.Random(seed)
    return "\n".join(" ".join(rng.choices(WORDS, k=9)).capitalize() + "." for _ in range(lines))


def pdf(text: str) -> bytes:
    """A PDF of one page, by hand."""
    content = "BT /F1 12 Tf 50 700 Td 14 TL " + " ".join(f"({line}) Tj T*" for line in text.split("\n")) + " ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    out += f"xref\n0 6\n0000000000 65535 f \n{table}trailer << /Size 6 /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out.encode()


def write_docx(path: Path, text: str) -> None:
    import docx

    document = docx.Document()
    document.add_heading("A title")
    for line in text.split("\n"):
        document.add_paragraph(line)
    cells = document.add_table(1, 2).rows[0].cells
    cells[0].text, cells[1].text = "left", "right"
    document.save(str(path))


def write_epub(path: Path, one: str, two: str) -> None:
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("META-INF/container.xml", CONTAINER)
        book.writestr("OEBPS/content.opf", PACKAGE)
        book.writestr("OEBPS/one.xhtml", f"<html><body><p>{one}</p></body></html>")
        book.writestr("OEBPS/part two.xhtml", f"<html><body><p>{two}</p></body></html>")


def write_parquet(path: Path, texts: list[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"id": range(len(texts)), "text": texts}), path)


def write_ten_formats(folder: Path) -> None:
    """A folder as a writer has it: ten formats, two broken files, a picture, a hidden file and a copy."""
    import zstandard

    folder.mkdir()
    (folder / "a.txt").write_text(prose(1))
    (folder / "b.md").write_text("# A title\n\n" + prose(2))
    (folder / "c.html").write_text("<title>no</title><h1>Yes</h1><p>" + prose(3) + "</p><script>no()</script>")
    (folder / "d.jsonl").write_text("".join(json.dumps({"text": prose(i, 2)}) + "\n" for i in range(10, 20)))
    (folder / "e.csv").write_text('id,text\n1,"Hello, king"\n2,"two\nlines"\n')
    write_parquet(folder / "f.parquet", [prose(20, 3), prose(21, 3)])
    write_docx(folder / "g.docx", prose(22))
    (folder / "h.pdf").write_bytes(pdf(prose(23)))
    write_epub(folder / "i.epub", prose(24), prose(25))
    (folder / "j.txt.gz").write_bytes(gzip.compress(prose(26).encode()))
    (folder / "k.txt.zst").write_bytes(zstandard.compress(prose(27).encode()))
    (folder / "old.txt").write_bytes(("Die Größe der Straße ist schön.\r\n" * 9).encode("cp1252"))
    (folder / "broken.pdf").write_bytes(pdf(prose(28))[:200])
    (folder / "broken.docx").write_bytes(b"PK\3\4 nothing of the kind")
    (folder / "copy.txt").write_text(prose(1) + "\n")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\0\0" * 50)
    (folder / ".hidden").write_text("hidden")
