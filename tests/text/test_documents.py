import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from text.documents import pdf, prose, write_docx

from quoth.system.errors import InputError
from quoth.text import reading, unpacking
from quoth.text.documents import Documents, read_documents, split
from quoth.text.finding import find
from quoth.text.formats import Reading


def read(tmp_path: Path, data: Path, how: Reading = Reading()) -> Documents:  # noqa: B008
    (tmp_path / "aside").mkdir(exist_ok=True)
    return read_documents(find(str(data)), how, tmp_path / "aside")


def texts(documents: Documents) -> list[str]:
    return ["".join(documents.load(i)) for i in range(len(documents))]


def digests(number: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(number).astype(np.uint64)


@given(sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=60))
def test_about_a_tenth_is_held_out(sizes: list[int]) -> None:
    total = np.array(sizes, np.int64)
    cuts, whole = split(total, digests(len(sizes)))
    held = int((total - cuts).sum())
    assert ((cuts >= 0) & (cuts <= total)).all()
    if whole:
        assert set(np.flatnonzero(cuts < total)) == set(np.flatnonzero(cuts == 0))
        assert 0.05 * total.sum() <= held <= 0.11 * total.sum() + 1.1
    else:
        assert cuts.tolist() == [int(0.9 * size) for size in sizes]


@pytest.mark.parametrize("size", [10, 999_999, 10_000_000, 12_345_678])
def test_a_single_document_is_cut_as_in_the_lecture(size: int) -> None:
    cuts, whole = split(np.array([size]), digests(1))
    assert (cuts.tolist(), whole) == ([max(int(0.9 * size), size - 1_000_000)], False)


@pytest.mark.parametrize("size", [8_000, 9_000_000])
def test_what_is_held_out_of_many_large_documents_is_bounded(size: int) -> None:
    cuts, _ = split(np.full(5000, size), digests(5000))
    assert 500_000 <= (size - cuts).sum() <= 1_100_000


def test_a_document_stays_on_its_side_when_others_come(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i:02}.txt").write_text(prose(i, 5))
    before = read(tmp_path, folder)
    held = {text for text, cut in zip(texts(before), before.cuts, strict=True) if not cut}
    # Spread over the files, and not the last ones.
    assert 4 <= len(held) <= 7
    assert {prose(i, 5) for i in range(54, 60)} != held
    (folder / "000.txt").write_text(prose(100, 5))
    after = read(tmp_path, folder)
    assert len(held & {text for text, cut in zip(texts(after), after.cuts, strict=True) if not cut}) >= len(held) - 1


def test_repeated_documents_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in {"a.txt": "one two", "b.txt": "\none two\r\n", "c.md": "one two", "d.txt": "three"}.items():
        (folder / name).write_bytes(text.encode())
    made = read(tmp_path, folder)
    assert texts(made) == ["one two", "three"]
    assert (made.repeated, made.formats) == (2, {"text": 2})
    assert made.remarks[0] == "2 documents repeated another to the letter and were left out."


@pytest.mark.parametrize("size", [1, 2, 5, 2**20])
def test_documents_are_what_the_files_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(reading, "PIECE_BYTES", size)
    monkeypatch.setattr("quoth.text.documents.PIECE_BYTES", size)
    folder = tmp_path / "texts"
    folder.mkdir()
    wanted = ["größe 🙂 猫\n\nof the sea", "two", "  three\t"]
    for i, text in enumerate(["\n\n" + wanted[0] + "\n", wanted[1], " \n \n", wanted[2]]):
        (folder / f"{i}.txt").write_text(text, encoding="utf-8")
    made = read(tmp_path, folder)
    assert texts(made) == wanted
    assert made.sizes.tolist() == [len(text) for text in wanted]
    assert made.skipped == {"2.txt": "is empty: there is nothing to learn from"}
    cuts = made.cuts.tolist()
    assert "".join(made.texts("<>", "train")) == "".join(
        text[:cut] + "<>" for text, cut in zip(wanted, cuts, strict=True) if cut
    )
    assert "".join(made.texts("<>", "validation")) == "".join(
        text[cut:] + "<>" for text, cut in zip(wanted, cuts, strict=True) if cut < len(text)
    )


def test_half_a_character_does_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "half \\ud83d"}\n{"text": "whole"}\n')
    assert texts(read(tmp_path, tmp_path / "a.jsonl")) == ["half ?", "whole"]


def test_what_cannot_be_read_is_left_out_and_named_once(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("text")
    (folder / "b.pdf").write_bytes(pdf(prose(1))[:90])
    (folder / "c.docx").write_bytes(b"PK\3\4")
    (folder / "d.txt.gz").write_bytes(gzip.compress(prose(1).encode())[:-30])
    # Its first row is text, yet none of a broken file is learned from.
    (folder / "e.csv").write_bytes(b"text\nfirst\n\x81\xfe\xff" + bytes(range(128, 256)) * 3)
    made = read(tmp_path, folder)
    assert "text" in texts(made)
    assert {"b.pdf", "c.docx", "d.txt.gz"} <= made.skipped.keys()
    (said,) = (remark for remark in made.remarks if "could not be read" in remark)
    assert all(name in said for name in made.skipped)
    (folder / "a.txt").unlink()
    (folder / "e.csv").unlink()
    with pytest.raises(InputError, match=r"None of the 3 files of .* can be read: b\.pdf is damaged: .*; c\.docx is"):
        read(tmp_path, folder)
    with pytest.raises(InputError, match=r"c\.docx is damaged: File is not a zip file\."):
        read(tmp_path, folder / "c.docx")


def test_an_archive(tmp_path: Path) -> None:
    write_docx(tmp_path / "w.docx", "from Word")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in (
            "in/a.txt",
            "__MACOSX/in/._a.txt",
            ".hidden",
            "../evil.txt",
            "/evil.txt",
            "in/n.zip",
            "in/n.txt.gz",
        ):
            archive.writestr(name, f"text of {name}")
        archive.writestr("p.png", b"\0\0")
        archive.write(tmp_path / "w.docx", "w.docx")
    made = read(tmp_path, tmp_path / "all.zip")
    assert texts(made) == ["text of in/a.txt", "A title\n\nfrom Word\n\nleft\tright"]
    assert {name: why.split()[0] for name, why in made.skipped.items()} == {
        "all.zip/../evil.txt": "has",
        "all.zip//evil.txt": "has",
        "all.zip/in/n.zip": "is",
        "all.zip/in/n.txt.gz": "is",
    }
    assert "2 hidden files and 1 binary file were left out." in made.remarks
    assert not list(tmp_path.glob("**/evil.txt"))


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "ALLOWED_BYTES", 2**16)
    bomb = b"a" * 2**21
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", bomb)
        archive.writestr("good.txt", "good")
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(bomb))
    made = read(tmp_path, tmp_path / "bomb.zip")
    assert texts(made) == ["good"]
    assert "as a zip bomb does" in made.skipped["bomb.zip/bomb.txt"]
    with pytest.raises(InputError, match="as a zip bomb does"):
        read(tmp_path, tmp_path / "bomb.txt.gz")


def test_a_full_disk_is_no_fault_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacking, "copy", refuse)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"text"))
    with pytest.raises(OSError, match="No space left"):
        read(tmp_path, tmp_path / "a.txt.gz")
