"""`quoth sample` generates text with a run's model."""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json, warn
from quoth.system.errors import InputError

if TYPE_CHECKING:
    from quoth.generate.engine import Engine
    from quoth.generate.request import Generation, Request

# At most this many texts are generated at the same time.
SLOTS = 32
# Larger numbers would fill the memory, or are typing errors.
MOST_TEXTS, MOST_TOKENS, MOST_THREADS = 100_000, 10_000_000, 1024


@dataclass
class Arguments:
    """Generate text with a run's model.

    Attributes:
        run: a run's folder, its name, or latest; or RUN+ADAPTER, a run with the adapters of a tuned run or of PEFT.
        prompt: the text that the model continues.
        tokens: how many tokens the model writes.
        count: how many texts the model writes.
        temperature: 0 always takes the likeliest token; 1 draws from the model's own probabilities.
        top_k: draw only from the k likeliest tokens; 0 allows all.
        top_p: draw only from the likeliest tokens that together reach this probability; 1 allows all.
        min_p: draw only tokens at least this share as likely as the likeliest; 0 allows all.
        repetition_penalty: a number above 1 makes tokens that occurred before less likely; 1 changes nothing.
        seed: the seed of the random draws; the same seed gives the same text.
        stop: end before this text; may be given several times.
        checkpoint: which checkpoint to use: best or last.
        weights: float32, bfloat16 or int8; smaller types are read faster and are less exact.
        threads: the number of CPU threads; 0 tries which number is fastest.
        lookup: guess this many tokens at once from earlier text, which leaves the result the same; 0 guesses none.
        stats: show tokens per second, and the limit that reading the weights sets.
        json: print one JSON object on stdout.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[RUN]")]] = "latest"
    prompt: str = ""
    tokens: int = 500
    count: int = 1
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 1337
    stop: Annotated[tyro.conf.UseAppendAction[list[str]], tyro.conf.arg(metavar="TEXT")] = field(default_factory=list)
    checkpoint: Literal["best", "last"] = "best"
    weights: Literal["float32", "bfloat16", "int8"] = "float32"
    threads: int = 0
    lookup: int = 0
    stats: bool = False
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "sample")

    from quoth.recipes.load_engine import load_engine, sampling_of

    check_numbers(a)
    sampling_of(a)
    run = load_engine(a.run, a.checkpoint, warn, slots=min(a.count, SLOTS), weights=a.weights, threads=a.threads)
    asked = requests(a, run.engine)
    tell_window(a, run.engine, asked[0])
    began = time.perf_counter()
    texts = written(a, run.engine, asked)
    seconds = time.perf_counter() - began
    known = statistics(run.engine, sum(len(made.answer) for made in texts), seconds) if a.stats or a.json else {}
    if a.json:
        samples = [{"text": made.text} for made in texts]
        print_json({"run": run.name, "prompt": a.prompt, "samples": samples, **known})
    elif a.stats:
        tell(known)


def check_numbers(a: Arguments) -> None:
    """Refuse numbers that are out of range, before a run is loaded.

    Raises:
        InputError: a number is too small or too large; the message names the first such flag.
    """
    from quoth.generate.slots import GUESSES

    limits = ("count", 1, MOST_TEXTS), ("tokens", 1, MOST_TOKENS), ("threads", 0, MOST_THREADS), ("lookup", 0, GUESSES)
    for name, least, most in limits:
        if (given := getattr(a, name)) < least:
            raise InputError(f"--{name} must be at least {least}, not {given}.")
        if given > most:
            raise InputError(f"--{name} must be at most {most:,}, not {given}.")


def requests(a: Arguments, engine: Engine) -> list[Request]:
    """One request for each text that the flags ask for."""
    from quoth.generate.request import Request
    from quoth.recipes.load_engine import sampling_of

    sampling, ids = sampling_of(a), engine.prompt_ids(a.prompt)
    ends = frozenset(engine.tokenizer.ends)
    one = Request(
        prompt=ids, tokens=a.tokens, sampling=sampling, seed=a.seed, stop=a.stop, stop_ids=ends, lookup=a.lookup
    )
    return [dataclasses.replace(one, choice=choice) for choice in range(a.count)]


def tell_window(a: Arguments, engine: Engine, request: Request) -> None:
    """Say once if the context is too short for the prompt and the text to be written."""
    if len(request.prompt) > engine.context:
        said = f"The prompt is longer than the context of {engine.context} tokens: only its end is read."
    elif len(request.prompt) + a.tokens > engine.context and not a.json:
        said = f"The context is {engine.context} tokens; past that the window slides."
    else:
        return
    console(True).print(said, style="dim")


def written(a: Arguments, engine: Engine, asked: list[Request]) -> list[Generation]:
    """Generate and print the texts; a single text is printed token by token."""
    if a.json:
        return engine.generate(asked)
    if len(asked) > 1:
        made = engine.generate(asked)
        for number, one in enumerate(made, 1):
            console(False).rule(f"{number} of {len(asked)}", style="dim", align="left")
            sys.stdout.write(a.prompt + one.text + "\n")
            sys.stdout.flush()
        return made
    sys.stdout.write(a.prompt)
    one = engine.submit(asked[0])
    while not one.finish:
        for _, token in engine.step():
            sys.stdout.write(token.text if token else "")
            sys.stdout.flush()
    sys.stdout.write("\n")
    return [one]


def statistics(engine: Engine, tokens: int, seconds: float) -> dict[str, Any]:
    """The speed of decoding, and the speed of one text if reading the weights were the only work."""
    from quoth.system.device import read_seconds

    bound = 1 / read_seconds(engine.decoder.weight_bytes)
    return {
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds, 1),
        "bound_tokens_per_second": round(bound, 1),
        "weight_bytes": engine.decoder.weight_bytes,
        "threads": engine.decoder.threads,
        "decoder": type(engine.decoder).__name__,
    }


def tell(known: dict[str, Any]) -> None:
    """Print the statistics in a sentence."""
    from quoth.system.memory import size

    console(True).print(
        f"{known['tokens']:,} tokens in {known['seconds']:.2f} s: {known['tokens_per_second']:,.0f} a second, on "
        f"{known['threads']} thread{'s' * (known['threads'] != 1)}. Reading {size(known['weight_bytes'])} of weights "
        f"for each token would allow {known['bound_tokens_per_second']:,.0f} a second for one text.",
        style="dim",
    )
