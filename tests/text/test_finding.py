from pathlib import Path

import pytest

from quoth.system.errors import InputError
from quoth.text.finding import changes, find, split_data


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_a_folder_is_its_files_in_order(tmp_path: Path) -> None:
    write(tmp_path, "b.txt", "a/z.txt", "a/b.txt", ".hidden", "a/.hidden", ".git/config", "__MACOSX/._b.txt")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\0")
    found = find(str(tmp_path))
    assert list(found.files) == ["a/b.txt", "a/z.txt", "b.txt"]
    assert (found.hidden, found.binary) == (4, 1)
    assert list(find(str(tmp_path / "b.txt")).files) == ["b.txt"]
    assert list(find(str(tmp_path / ".hidden")).files) == [".hidden"]
    # A folder may itself lie in a hidden one.
    assert list(find(str(tmp_path / ".git")).files) == ["config"]


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no files\."):
        find(str(tmp_path))
    (tmp_path / ".hidden").touch()
    with pytest.raises(InputError, match="holds no files that can be read: 1 are hidden or binary"):
        find(str(tmp_path))
    with pytest.raises(InputError, match="neither a file or folder nor a named corpus"):
        find(str(tmp_path / "nothing"))


def test_several_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.txt", "one, two.txt", "one", "c/a.txt", "c/b.txt.gz")
    assert split_data("one, two.txt,a.txt, c") == ["one, two.txt", "a.txt", "c"]
    assert split_data("one,a.txt") == ["one", "a.txt"]
    found = find("a.txt,c,one, two.txt,c/a.txt")
    assert list(found.files) == ["a.txt", "c/a.txt", "c/b.txt.gz", "one, two.txt"]
    assert found.name == "a-and-3-more"
    assert find("c/b.txt.gz").name == "b"
    with pytest.raises(InputError, match=r"'d\.txt' is neither"):
        find("a.txt,d.txt")


def test_a_named_corpus_may_be_one_of_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.txt")
    assert [Path(name).name for name in find("shakespeare,a.txt", tmp_path / "cache").files] == [
        "shakespeare.txt",
        "a.txt",
    ]


def test_changes_are_named() -> None:
    assert changes({"a": "1", "b": "2"}, {"c": "1", "d": "2"}) == ""
    assert changes({"a": "1", "b": "2"}, {"a": "2", "b": "1"}) == "a is another, b is another"
    assert changes({"a": "1"}, {}) == "a is gone"
    assert changes({}, {f"{i}": "" for i in range(9)}).endswith("4 was added, 4 more")
    assert changes({"a": "1", "b": "2"}, {"b": "2", "a": "1"}) == "the files come in another order"
