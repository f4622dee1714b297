"""`quoth runs`: list the runs so far, best first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quoth.cli.arguments import parse
from quoth.cli.output import columns, print_json, width
from quoth.system.words import count, duration

# How a run ended; among runs of the same bits per byte the lower number comes first.
RANK = {"finished": 0, "interrupted": 0, "terminated": 0, "unfinished": 1, "broken": 2}
# A terminal of fewer columns gets a table of fewer columns.
NARROW = 90


@dataclass
class Arguments:
    """List the runs in ./runs, best first.

    Losses on different texts cannot be compared, so runs are grouped by the text that they were trained on. Within a
    group they are sorted by bits per byte, which can be compared between tokenizers too.

    Attributes:
        json: print one JSON object on stdout.
    """

    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "runs")

    from quoth.train.run import RUNS

    folders = [path for path in RUNS.iterdir() if path.is_dir() and path.name[0] != "."] if RUNS.is_dir() else []
    runs = sorted((describe(folder) for folder in folders), key=_place)
    if a.json:
        print_json({"runs": runs})
    elif not runs:
        print("There are no runs in ./runs yet; `quoth train` makes the first.")
    else:
        wide = width()
        print("\n".join(lines(runs, narrow=wide is not None and wide < NARROW)))


def describe(folder: Path) -> dict[str, Any]:
    """What a run's folder tells of the run, however broken it is."""
    from quoth.studio.record import read_record

    record = read_record(folder)
    data = record.config.get("data")
    name = data.get("data") if isinstance(data, dict) else None
    counts = {key: record.number(key) for key in ("parameters", "steps")}
    state, problem = _state(str(record.facts["stopped"]), record.problems)
    return {
        "run": folder.name,
        "folder": str(folder),
        "data": str(name or record.facts["data"]),
        "tokenizer": str(record.facts["tokenizer"]),
        **{key: None if number is None else int(number) for key, number in counts.items()},
        **{key: record.number(key) for key in ("seconds", "validation_loss", "bits_per_byte")},
        "state": state,
        "problem": problem,
    }


def _state(stopped: str, problems: list[str]) -> tuple[str, str | None]:
    """The run's state, a word of RANK, and for a broken run what is wrong with it."""
    for problem in problems:
        # A run that is under way, or was killed, has no summary yet.
        if problem.startswith("config.toml") or (problem.startswith("summary.json") and "is not there" not in problem):
            return "broken", problem
    return stopped if stopped in RANK else "unfinished", None


def _place(run: dict[str, Any]) -> tuple[Any, ...]:
    """The key to sort runs by: broken ones last, then by data, then by bits per byte."""
    bits = run["bits_per_byte"]
    return (run["state"] == "broken", run["data"], bits is None, bits or 0.0, RANK[run["state"]], run["run"])


def lines(runs: list[dict[str, Any]], narrow: bool) -> list[str]:
    """The table for a person; a narrow one leaves out columns that can be looked up elsewhere."""
    good = [run for run in runs if run["state"] != "broken"]
    tokenizers = len({run["tokenizer"] for run in good}) > 1
    said = []
    for data in dict.fromkeys(run["data"] for run in good):
        group = [run for run in good if run["data"] == data]
        rows = [_row(run, tokenizers, narrow) for run in group]
        heads = list(rows[0])
        table = [heads, *([row[head] for head in heads] for row in rows)]
        right = {i for i, head in enumerate(heads) if head not in ("", "tokenizer")}
        said += [f"{data}, best first:" if len(group) > 1 else f"{data}:"]
        said += [f"  {line}" for line in columns(table, right)] + [""]
    if broken := [run for run in runs if run["state"] == "broken"]:
        said += ["Broken:", *(f"  {run['run']}  {run['problem']}" for run in broken), ""]
    return said[:-1]


def _row(run: dict[str, Any], tokenizers: bool, narrow: bool) -> dict[str, str]:
    def shown(key: str, form: Any) -> str:
        return "–" if run[key] is None else str(form(run[key]))

    unfinished = "" if run["state"] == "finished" else f" ({run['state']})"
    row = {
        "bits/byte": shown("bits_per_byte", "{:.3f}".format),
        "loss": shown("validation_loss", "{:.4f}".format),
        "tokenizer": run["tokenizer"],
        "time": shown("seconds", duration),
        "steps": shown("steps", "{:,}".format),
        "parameters": shown("parameters", count),
        # A name may be of any length, so it comes last.
        "": f"{run['run']}{unfinished}",
    }
    left_out = {"loss", "tokenizer", "steps", "parameters"} if narrow else set()
    return {head: cell for head, cell in row.items() if head not in left_out and (tokenizers or head != "tokenizer")}
