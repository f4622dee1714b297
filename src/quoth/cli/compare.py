"""`quoth tune compare`: a page on which a person compares a run's answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json, warn
from quoth.cli.serve import needing_server
from quoth.system.errors import InputError
from quoth.web.address import listen, url_of

if TYPE_CHECKING:
    from quoth.recipes.load_engine import LoadedEngine
    from quoth.tune.comparison_rows import Record
    from quoth.tune.conversation import Messages

# Larger numbers would fill the memory, or are typing errors.
MOST_PAIRS, MOST_TOKENS = 1_000_000, 1_000_000


@dataclass
class Arguments:
    """Compare two answers of a run on a page, and keep each decision as a pair to learn from.

    With --against, one answer is the run's and one is another run's, and nobody sees which: at the end the page shows
    how often each was preferred. A command that is given again goes on where it was left.

    Attributes:
        run: a run's folder, its name, or latest; or RUN+ADAPTER, a run with the adapters of a tuned run or of PEFT.
        prompts: a file of prompts; the held-out ones of the run's own data when left out, else you type them.
        against: the other run of a blind comparison.
        out: the file of pairs; RUN-pairs.jsonl or RUN-against-OTHER.jsonl when left out.
        pairs: how many pairs to compare; about a tenth of them are shown again, to tell how sure you are.
        tokens: how many tokens an answer has at most.
        temperature: 0 always takes the likeliest token; 1 draws from the model's own probabilities.
        seed: the seed of answers, of their sides and of what is shown again.
        port: 0 takes a free one.
        checkpoint: best or last.
        weights: float32, bfloat16 or int8; smaller ones are read faster and are less exact.
        threads: 0 tries out how many are fastest.
        json: one JSON object on stdout once the page can be opened.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[RUN]")]] = "latest"
    prompts: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    against: Annotated[str | None, tyro.conf.arg(metavar="OTHER", help_behavior_hint="")] = None
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    pairs: int = 100
    tokens: int = 200
    temperature: float = 1.0
    seed: int = 1337
    port: int = 8000
    checkpoint: Literal["best", "last"] = "best"
    weights: Literal["float32", "bfloat16", "int8"] = "float32"
    threads: int = 0
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "tune compare")
    check(a)
    listener = listen("127.0.0.1", a.port)
    with needing_server("quoth tune compare"):
        from quoth.serve.compare import create_compare_app
        from quoth.serve.requests import Limits
        from quoth.web.connection import make_server

    from quoth.recipes.comparing import Comparing, Options

    # A run that is trained from the page becomes the latest one, but this one is compared.
    run = settled(a.run)
    runs = load(a, [run, *([settled(a.against)] if a.against is not None else [])])
    prompts = prompts_of(a, run, runs)
    record = open_record(a, runs)
    session = Comparing(runs, record, prompts, Options(a.pairs, a.tokens, a.temperature, run))
    tell(a, url_of(listener), record, prompts)
    make_server(create_compare_app(session), Limits()).run(sockets=[listener])


def check(a: Arguments) -> None:
    """Refuse numbers that mean nothing, before anything is loaded.

    Raises:
        InputError: one does.
    """
    from quoth.recipes.load_engine import sampling_of

    if not 0 <= a.port < 65536:
        raise InputError(f"--port must lie in 0 to 65535, not {a.port}.")
    for name, least, most in (("pairs", 1, MOST_PAIRS), ("tokens", 1, MOST_TOKENS), ("threads", 0, 1024)):
        if not least <= (given := getattr(a, name)) <= most:
            raise InputError(f"--{name} must lie in {least} to {most:,}, not {given}.")
    sampling_of(a)


def settled(name: str) -> str:
    """A name that means the same run later, when there may be a newer one than the latest."""
    from quoth.train.run import find_run

    return str(find_run(name)) if name == "latest" else name


def load(a: Arguments, names: list[str]) -> list[LoadedEngine]:
    """Load the run, and the one that it is compared with.

    Raises:
        InputError: there is no such run, or both are the same.
    """
    from quoth.recipes.load_engine import load_engine

    slots = 2 // len(names)
    runs = [load_engine(name, a.checkpoint, warn, slots=slots, weights=a.weights, threads=a.threads) for name in names]
    if len({run.name for run in runs}) < len(runs):
        raise InputError(f"--against must name another run than {runs[0].name}; runs are told apart by their names.")
    return runs


def prompts_of(a: Arguments, run: str, runs: list[LoadedEngine]) -> list[Messages]:
    """The prompts of a file, or those that were held out when the run was tuned; none if a person is to type them.

    Raises:
        InputError: the file cannot be read, or a run cannot read a prompt.
    """
    from quoth.recipes.compared_prompts import fitting, held_out_prompts, tuned_run
    from quoth.tune.read import read_prompts

    if a.prompts is not None:
        return fitting(read_prompts(a.prompts), runs, warn)
    if (folder := tuned_run(run)) is None:
        return []
    try:
        return fitting(held_out_prompts(folder), runs, warn)
    except InputError as error:
        warn(f"The prompts that were held out when {run} was tuned cannot be taken, so you type them: {error}")
        return []


def open_record(a: Arguments, runs: list[LoadedEngine]) -> Record:
    """The decisions so far, in the file that was asked for.

    Raises:
        InputError: the file cannot be written, or holds something else.
    """
    from quoth.train.run import file_name
    from quoth.tune.comparison_rows import About, Record

    names = [run.name for run in runs]
    about = About(names[0], "".join(names[1:]), a.seed, plain=runs[0].template is None)
    usual = f"{names[0]}-against-{names[1]}" if about.against else f"{names[0]}-pairs"
    return Record(Path(a.out).expanduser() if a.out is not None else Path(f"{file_name(usual)}.jsonl"), about)


def tell(a: Arguments, url: str, record: Record, prompts: list[Messages]) -> None:
    """Print where the page is, and where decisions go."""
    about, decided = record.about, len(record.decisions)
    if a.json:
        facts = {"url": url, "run": about.run, "against": about.against or None, "file": str(record.path)}
        print_json({**facts, "prompts": len(prompts), "decided": decided})
        return
    who = f"{about.run} and {about.against}, blind" if about.against else about.run
    asked = f"{len(prompts):,} prompt{'s' * (len(prompts) != 1)}" if prompts else "prompts that you type"
    screen = console(False)
    screen.print(f"Answers of [bold]{who}[/] to {asked} are compared at {url}; Ctrl-C ends it.")
    screen.print(f"Each decision is written to {record.path} at once{f', after {decided:,} so far' * bool(decided)}.")
