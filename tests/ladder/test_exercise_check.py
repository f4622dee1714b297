"""What learners write may do anything; each gets a sentence, and nothing of it stays."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quoth.ladder.checker import check
from quoth.ladder.checker.check import Verdict, check_all, files_in
from quoth.system.errors import InputError

CALL = "scale(16) "
ENDED = f"{CALL}was stopped: "
# What stands in the function; what is said.
INSIDE = {
    "deep": ("return scale(head_size)", f"{CALL}raised RecursionError (line 3): the function calls itself too often."),
    "exits": ("import sys; sys.exit(3)", f"{CALL}raised SystemExit (line 3): 3."),
    "leaves_well": ("import os; os._exit(0)", f"{ENDED}it ended its process with exit code 0."),
    "crashes": ("import ctypes; ctypes.string_at(0)", f"{ENDED}its process was ended by SIGSEGV."),
    "grows": ("return bytes(2**40)", f"{CALL}raised MemoryError (line 3): it took more than 268 MB of memory."),
    "prints": ("while True: print('and again')", f"{ENDED}it printed more than 1,000,000 bytes."),
    "writes": ("open('big', 'wb').write(bytes(2**25))", f"{CALL}raised OSError (line 3): [Errno 27] File too large."),
    "leaves_children": (
        "import subprocess; open('child', 'w').write(str(subprocess.Popen(['sleep', '600']).pid))\n"
        "    return head_size**-0.5",
        None,
    ),
    "leaves_sessions": (
        "import subprocess\n    child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "    print(child.pid, file=open('sessions', 'a'))\n    return head_size**-0.5",
        None,
    ),
    "leaves_orphans": (
        "import os, time\n    if not os.fork():\n        os.setsid()\n        if os.fork(): os._exit(0)\n"
        "        print(os.getpid(), file=open('orphans', 'a'), flush=True)\n        time.sleep(600)\n"
        "    os.wait()\n    while not os.path.exists('orphans'): pass\n    return head_size**-0.5",
        None,
    ),
    "reads": ("return input()", f"{CALL}raised EOFError (line 3): EOF when reading a line."),
}
# What stands beside the function; what is said after the file's name. Only who asks for it gets the file random.py.
OUTSIDE = {
    "random": ("raise SystemExit(3)", " does not run: SystemExit (line 2): 3."),
    "leaves_at_once": ("import os; os._exit(4)", " was stopped: it ended its process with exit code 4."),
    "lacks_all": ("print('hello')", " has no function scale."),
    "syntax": ("def scale(:", " does not run: SyntaxError (line 2): invalid syntax."),
    "unnamed": ("x = 1", " should begin with `# exercise: NAME`; `quoth exercise` lists the names."),
}
ENDLESS = {
    "endless_inside": "def scale(head_size):\n    while True: pass\n",
    "endless_outside": "while True: pass\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("class")
    for name, (code, _) in INSIDE.items():
        (folder / f"{name}.py").write_text(f"# exercise: scaling-1\ndef scale(head_size):\n    {code}\n")
    for name, (code, _) in OUTSIDE.items():
        (folder / f"{name}.py").write_text(f"{'' if name == 'unnamed' else '# exercise: scaling-1'}\n{code}\n")
    (folder / ".hidden.py").write_text("raise SystemExit\n")
    return folder


@pytest.fixture(scope="module")
def verdicts(folder: Path) -> Iterator[dict[str, Verdict]]:
    """Of all files, checked once, with a limit of memory that is soon reached."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "MEMORY", 2**28)
        patch.chdir(folder)
        yield {verdict.file.stem: verdict for verdict in check_all(files_in(folder))}


@pytest.mark.parametrize("name", INSIDE)
def test_what_a_function_does_gets_a_sentence(verdicts: dict[str, Verdict], name: str) -> None:
    assert (verdicts[name].mistake, verdicts[name].ran) == (INSIDE[name][1], True)
    assert verdicts[name].right == (INSIDE[name][1] is None) and verdicts[name].exercise == "scaling-1"


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_that_does_not_run_gets_a_sentence(verdicts: dict[str, Verdict], folder: Path, name: str) -> None:
    assert (verdicts[name].mistake, verdicts[name].ran) == (f"{folder / name}.py{OUTSIDE[name][1]}", False)


def test_every_file_has_a_verdict_but_hidden_ones(verdicts: dict[str, Verdict]) -> None:
    assert list(verdicts) == sorted([*INSIDE, *OUTSIDE])


def test_what_is_printed_is_kept_apart_and_bounded(verdicts: dict[str, Verdict]) -> None:
    assert verdicts["lacks_all"].printed == "hello\n"
    assert 1_000_000 < len(verdicts["prints"].printed) < 1_200_000


def test_what_a_file_has_started_is_ended_with_it(verdicts: dict[str, Verdict], folder: Path) -> None:
    assert verdicts["leaves_children"].right and gone(int((folder / "child").read_text()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a process may leave its group")
@pytest.mark.parametrize("name", ["sessions", "orphans"])
def test_so_is_what_has_left_its_session(verdicts: dict[str, Verdict], folder: Path, name: str) -> None:
    assert verdicts[f"leaves_{name}"].right
    left = (folder / name).read_text().split()
    assert left and all(gone(int(pid)) for pid in left)


def test_an_endless_loop_is_ended(
    verdicts: dict[str, Verdict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is what a file takes on this machine now, and as much again."""
    seconds = 1 + 2 * max(verdict.seconds for verdict in verdicts.values())
    monkeypatch.setattr(check, "SECONDS", seconds)
    for name, code in ENDLESS.items():
        (tmp_path / f"{name}.py").write_text(f"# exercise: scaling-1\n{code}")
    inside, outside = check_all(files_in(tmp_path))
    why = f"was stopped: it took longer than {seconds:g} s, the import of torch included."
    assert (inside.ran, inside.mistake) == (True, f"scale(16) {why}")
    assert (outside.ran, outside.mistake) == (False, f"{tmp_path / 'endless_outside.py'} {why}")
    assert max(inside.seconds, outside.seconds) < 2 * seconds


def test_a_caller_that_stops_ends_what_runs(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("no exercise")
    code = f"import os, time\nopen({os.fspath(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}\\n')\ntime.sleep(600)"
    (tmp_path / "b.py").write_text(f"# exercise: scaling-1\n{code}\n")
    pid, verdicts = tmp_path / "pid", check_all(files_in(tmp_path))
    assert not next(verdicts).ran
    while not (pid.exists() and pid.read_text().endswith("\n")):
        time.sleep(0.05)
    started = time.monotonic()
    verdicts.close()
    assert time.monotonic() - started < check.SECONDS / 4 and gone(int(pid.read_text()))


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no \.py file to check"):
        files_in(tmp_path)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that was killed may wait to be collected."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return True
