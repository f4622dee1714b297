"""`python -m benchmarks NAME`: a static table of benchmarks, each a module with `arguments` and `run`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.common import QUIET, machine, quiet_load, text_of
from quoth.system.errors import InputError, suggestion

BENCHMARKS = {
    "nanogpt": "speed and time to a loss, against a checkout of nanoGPT",
    "laptop": "`quoth train` as a whole: time, loss, speed and memory, with cold and warm caches",
    "dial": "the shapes that the dial chooses, against grids of other shapes",
    "help": "how long `quoth --help` takes",
    "data": "tokenizing and training from a large file: speed and memory",
    "install": "from a clone to the first sample",
    "attention": "written-out against fused attention",
    "threads": "tokens per second by the number of threads",
    "beside": "two trainings at once, against one alone",
    "generation": "one stream of tokens, against nanoGPT, transformers and llama.cpp",
    "weights": "what weights as bfloat16 and int8 cost a run's loss, and gain in speed",
    "server": "`quoth serve`: many streams against one, and clients that are slow or vanish",
    "plan": "what `quoth plan` says, against what training takes",
    "checkpoints": "what saving costs the training beside it, and how long loading takes",
    "rollouts": "how fast answers are written to learn from, and what part of PPO that takes",
    "voice": "how well a finetuned model takes on the voice in an export of a chat",
    "studio": "how long `quoth studio` takes to answer, and its page to show it",
    "gpu": "for a CUDA device: time to a loss, tokens per second, FLOP utilization",
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m benchmarks NAME [OPTIONS] [--json FILE]\n")
        print("\n".join(f"  {name:<12} {what}" for name, what in BENCHMARKS.items()))
        print("\n`python -m benchmarks NAME --help` lists a benchmark's options.")
        return 0
    name, *rest = arguments
    try:
        if name not in BENCHMARKS:
            raise InputError(f"There is no benchmark {name!r}{suggestion(name, BENCHMARKS)}.")
        module = import_module(f"benchmarks.{name}")
        parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=module.__doc__)
        module.arguments(parser)
        parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file too")
        parser.add_argument(
            "--wait",
            type=float,
            default=0.0,
            metavar="SECONDS",
            help=f"wait at most this long for a load under {QUIET}",
        )
        options = parser.parse_args(rest)
        load = quiet_load(options.wait)
        report = module.run(options)
    except InputError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    facts = {**machine(), "load_before": round(load, 2)}
    print(text_of(report, arguments, facts))
    if options.json:
        values = {"benchmark": name, "arguments": rest, "machine": facts, **report.values}
        options.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    # As after Ctrl-C, the process that is under way is to end too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
