import errno
import hashlib
import os
from pathlib import Path

import pytest

from quoth.system.errors import InputError
from quoth.system.files import cache_folder, new_folder, read_json, refusal, sha256_of, write_atomic


def tree(folder):
    """Every file below, hidden ones too, and what it holds."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def failing(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, "née")
    assert path.read_bytes() == "née".encode()
    write_atomic(path, b"\0\xff")
    assert tree(tmp_path) == {"file": b"\0\xff"}
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch, call, there):
    if there:
        (tmp_path / "file").write_bytes(b"old")
    before = tree(tmp_path)
    monkeypatch.setattr(os, call, failing(errno.ENOSPC))
    with pytest.raises(InputError, match=r"^No space is left to write .*file; what was written before is kept\.$"):
        write_atomic(tmp_path / "file", b"new")
    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", b"new")
    assert tree(tmp_path) == before


def test_a_file_in_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none/file cannot be written: No such file or directory\."):
        write_atomic(tmp_path / "none" / "file", "")


def fill(path):
    with new_folder(path) as aside:
        assert aside.parent == path.parent
        assert aside.name.startswith(".")
        (aside / "a").write_bytes(b"new")
        (aside / "in").mkdir()
        (aside / "in" / "b").write_bytes(b"new too")
        assert not (path / "a").exists() or (path / "a").read_bytes() == b"old"


def old_folder(tmp_path):
    path = tmp_path / "parent" / "folder"
    path.mkdir(parents=True)
    (path / "a").write_bytes(b"old")
    return path


def test_a_folder_appears_whole(tmp_path):
    path = tmp_path / "parent" / "folder"
    fill(path)
    assert tree(tmp_path) == {"parent/folder/a": b"new", "parent/folder/in/b": b"new too"}
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_folder_is_replaced_whole(tmp_path):
    path = old_folder(tmp_path)
    (path / "gone").write_bytes(b"old")
    fill(path)
    assert tree(tmp_path) == {"parent/folder/a": b"new", "parent/folder/in/b": b"new too"}


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt()])
def test_a_failure_inside_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    path = old_folder(tmp_path)

    def work():
        with new_folder(path) as aside:
            (aside / "a").write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        work()
    assert tree(tmp_path) == {"parent/folder/a": b"old"}
    assert list(path.parent.iterdir()) == [path]


def fail_last(real):
    """Renames work until the one that would put the new folder in its place."""

    def replace(source, target):
        if (Path(source) / "in").exists():
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        real(source, target)

    return replace


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, monkeypatch, call):
    path = old_folder(tmp_path)
    monkeypatch.setattr(os, call, failing(errno.EACCES) if call == "fsync" else fail_last(os.replace))
    with pytest.raises(InputError, match=r"folder cannot be written: Permission denied\. Choose a folder"):
        fill(path)
    assert tree(tmp_path) == {"parent/folder/a": b"old"}
    assert list(path.parent.iterdir()) == [path]


def test_a_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="folder cannot be written"):
        fill(tmp_path / "file" / "folder")


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "No space is left to write x; what was written before is kept."),
        (errno.EDQUOT, "No space is left to write x; what was written before is kept."),
        (errno.EACCES, "x cannot be written: Permission denied. Choose a folder that you may write with --out."),
        (errno.EROFS, "x cannot be written: Read-only file system. Choose a folder that you may write with --out."),
        (errno.EIO, "x cannot be written: Input/output error."),
    ],
)
def test_refusals_are_sentences(number, sentence):
    assert refusal(Path("x"), OSError(number, os.strerror(number))) == sentence
    assert refusal(Path("x"), OSError("strange")) == "x cannot be written: strange."


def test_sha256_is_that_of_the_whole_file(tmp_path):
    data = os.urandom(300_000)
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()
    with pytest.raises(InputError, match=r"none cannot be read: No such file or directory\."):
        sha256_of(tmp_path / "none")


def test_json_that_is_missing_or_damaged_is_refused(tmp_path):
    write_atomic(tmp_path / "good", '{"né": 1}')
    assert read_json(tmp_path / "good") == {"né": 1}
    for name, data in {"cut": b'{"a": ', "binary": b"\xff\xfe"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"{name} cannot be read: "):
            read_json(tmp_path / name)
    with pytest.raises(InputError, match="none cannot be read: "):
        read_json(tmp_path / "none")


def test_the_cache_is_where_it_is_wanted(monkeypatch):
    monkeypatch.setenv("QUOTH_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cache_folder() == Path("/one")
    monkeypatch.delenv("QUOTH_CACHE")
    assert cache_folder() == Path("/two/quoth")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "quoth"
