"""Several processes train as one does, and go on when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from cli.helpers import MACHINE, Quoth, start_process, write_text

from quoth.cli.dispatch import dispatch
from quoth.train.keeper import checkpoints
from quoth.train.manifest import problems
from quoth.train.run import read_metrics

SHAPE = ["--layers", "1", "--width", "32", "--context", "32", "--batch", "4", "--accumulate", "2", "--dropout", "0.1"]
RUN = [*SHAPE, *MACHINE, "--sample-tokens", "10"]


def digests(run: Path) -> dict[str, str]:
    files: dict[str, str] = json.loads((checkpoints(run)[0] / "manifest.json").read_text())["files"]
    return {name: files[name] for name in ("model.safetensors", "optimizer.safetensors")}


def test_what_would_be_started(quoth: Quoth) -> None:
    said = json.loads(quoth("launch", "--json", "--processes", "2", "train", "book.txt", "--minutes", "3").out)
    assert said["command"] == [
        *("torchrun", "--standalone", "--nproc-per-node", "2", "--max-restarts", "3"),
        *("-m", "quoth", "train", "book.txt", "--minutes", "3"),
    ]
    assert int(said["environment"]["OMP_NUM_THREADS"]) >= 1
    many = ["--machines", "4", "--address", "first:29400", "--wait", "60"]
    said = json.loads(quoth("launch", "--json", *many, "--processes", "8", "train").out)
    assert said["command"][1:7] == ["--nnodes", "4", "--rdzv-backend", "c10d", "--rdzv-endpoint", "first:29400"]
    assert "join_timeout=60,read_timeout=60" in said["command"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "Say what to launch"),
        (["--processes", "2"], "Say what to launch"),
        (["--machines", "2", "train"], "need --address HOST:PORT"),
        (["--machines", "2", "--address", "first", "train"], "need --address HOST:PORT"),
        (["--processes", "-1", "train"], "must be 0 or more"),
        (["--processes", "1000000000", "train"], "--processes must be at most"),
        (["--wait", "1000000000000000", "train"], "--wait must be at most 1,000,000,000 seconds"),
        (["--processes", "2", "train", "--layer", "3"], "There is no flag --layer (did you mean '--layers'?)"),
        (["--processes", "2", "tune", "sfd", "base", "chats.jsonl"], "no stage 'sfd' (did you mean 'sft'?)"),
        (["--processes", "2", "tune"], "There is no stage ''"),
        (["--processes", "2", "tune", "sft", "base"], "needs DATA: conversations"),
        (["--processes", "2", "tune", "sft", "base", "x.jsonl", "--group", "2"], "There is no flag --group"),
        (["--processes", "2", "train", "--width", "wide"], "--width must be a whole number, not 'wide'"),
    ],
)
def test_what_cannot_be_started(given: list[str], said: str, quoth: Quoth) -> None:
    result = quoth("launch", *given)
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1


@pytest.mark.slow
def test_what_is_refused_is_refused_once(tmp_path: Path) -> None:
    launch = ["launch", "--processes", "2", "--restarts", "1"]
    launched = start_process(*launch, "train", str(tmp_path / "none.txt"))
    _, err = launched.communicate(timeout=120)
    assert launched.returncode == 2
    assert "is neither a file or folder nor a named corpus" in err
    assert err.count("\n") == 1
    write_text(tmp_path / "text.txt")
    train = ["train", str(tmp_path / "text.txt"), *MACHINE, "--steps", "3", "--batch", "5", "--layers", "1"]
    launched = start_process(*launch, *train, "--out", str(tmp_path / "run"))
    _, err = launched.communicate(timeout=120)
    assert launched.returncode == 2
    assert "A step has 5 windows (batch times accumulate), which 2 processes cannot share evenly" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_machines_that_do_not_come_are_waited_for_in_vain() -> None:
    alone = ["--machines", "2", "--address", "localhost:29713", "--wait", "3"]
    launched = start_process("launch", *alone, "--processes", "1", "train")
    _, err = launched.communicate(timeout=120)
    assert launched.returncode == 2
    assert "Not all of 2 machines came to localhost:29713 within 3 s" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_two_processes_train_to_the_bits_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    train = ["train", "text.txt", *RUN, "--steps", "20", "--evaluate-every", "10", "--json"]
    one = start_process(*train, "--out", "one")
    out, err = one.communicate(timeout=120)
    assert one.returncode == 0, err
    two = start_process("launch", "--processes", "2", *train, "--out", "two")
    said, err = two.communicate(timeout=120)
    assert two.returncode == 0, err
    first, second = json.loads(out), json.loads(said)
    assert second["steps"] == first["steps"] == 20
    assert second["validation_loss"] == pytest.approx(first["validation_loss"], rel=1e-6)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    # A world of another size goes on, and says that its bits may differ.
    more = start_process("train", "--resume", "two", "--steps", "25")
    shown, err = more.communicate(timeout=120)
    assert more.returncode == 0, err
    assert "world 2 (now 1)" in " ".join(shown.split())


TUNINGS = {
    "sft": ["chats.jsonl"],
    "dpo": ["pairs.jsonl"],
    "distill": ["text.txt", "--teacher", "base"],
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", TUNINGS)
def test_two_processes_tune_to_the_bits_of_one(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    rows = [{"prompt": "the king", "chosen": "the sea " * n, "rejected": "a king"} for n in range(1, 3)]
    rows += [{**row, "prompt": "the sea"} for row in rows]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chats = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    assert dispatch(["train", "text.txt", *RUN, "--steps", "2", "--out", "base"]) == 0
    words = ["tune", stage, "base", *TUNINGS[stage], "--batch", "2", "--accumulate", "2", *MACHINE]
    words += ["--steps", "8", "--evaluate-every", "4", "--sample-tokens", "4"]
    assert dispatch([*words, "--out", "one"]) == 0
    two = start_process("launch", "--processes", "2", *words, "--out", "two", "--json")
    _, err = two.communicate(timeout=120)
    assert two.returncode == 0, err
    one, other = (read_metrics(Path(run)) for run in ("one", "two"))
    losses = [[line["validation_loss"] for line in lines if "validation_loss" in line] for lines in (one, other)]
    assert len(losses[0]) == 3 and losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


@pytest.mark.slow
def test_shards_train_to_what_one_process_does_and_one_goes_on_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    train = ["train", "text.txt", *RUN, "--steps", "20", "--evaluate-every", "10", "--json"]
    losses = []
    for started in (train, ["launch", "--processes", "2", *train, "--shard", "true"]):
        process = start_process(*started, "--out", f"run{len(losses)}")
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        losses.append(json.loads(out)["validation_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    newest = checkpoints(tmp_path / "run1")[0]
    assert len(list(newest.glob("shard-*.safetensors"))) == 2
    for command in (
        ["verify", "run1"],
        ["sample", "run1", "--tokens", "20"],
        ["train", "--resume", "run1", "--steps", "22"],
    ):
        process = start_process(*command)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err


@pytest.mark.slow
def test_a_terminated_launch_saves_its_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    train = ["train", "text.txt", *RUN, "--steps", "100000", "--evaluate-every", "100000", "--out", "run"]
    launched = start_process("launch", "--processes", "2", *train)
    metrics, deadline = tmp_path / "run/metrics.jsonl", time.monotonic() + 60
    while not (metrics.exists() and '"loss"' in metrics.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    began = time.monotonic()
    launched.send_signal(signal.SIGTERM)
    _, err = launched.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert launched.returncode == 143, err
    assert "Traceback" not in err
    (saved,) = checkpoints(tmp_path / "run")
    assert not list(problems(saved))
    logged = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert json.loads((saved / "state.json").read_text())["step"] >= max(logged)


@pytest.mark.slow
def test_one_process_that_is_killed_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    train = ["train", "text.txt", *RUN, "--steps", "400", "--evaluate-every", "400", "--checkpoint-every", "40"]
    launched = start_process("launch", "--processes", "1", *train, "--out", "run")
    deadline = time.monotonic() + 60
    while not checkpoints(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(worker(launched.pid), signal.SIGKILL)
    _, err = launched.communicate(timeout=120)
    assert launched.returncode == 0, err
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 400


def worker(launcher: int) -> int:
    """One of the processes that a launcher started."""
    return int(Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()[-1])
