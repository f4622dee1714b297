"""`quoth serve` under load: one stream against many, and clients that are slow or vanish."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.common import ROOT, Report, Table, ratio, say, spread

SHAPE = "6x384x256,65"
# Requests of each stream, one after another.
TURNS = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--clients", type=int, default=100, help="that are slow or vanish")
    parser.add_argument("--seconds", type=float, default=20.0, help="that those are there")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", default="float32", choices=["float32", "bfloat16", "int8"])


def run(options: argparse.Namespace) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        with served(Path(folder), options) as (port, process):
            rates = asyncio.run(streams(port, options))
            under = asyncio.run(clients(port, process, options))
    table = Table("One stream and many", ["", "tokens/s", "to the first token, p95, ms"])
    table.rows.append(["one", spread(rates["one"], 0), f"{1000 * p95(rates['one first']):.1f}"])
    table.rows.append([f"{options.streams} at once", spread(rates["many"], 0), f"{1000 * p95(rates['first']):.1f}"])
    table.rows.append(["many against one", ratio(median(rates["many"]), median(rates["one"])), ""])
    other = Table(f"{options.clients} slow or vanishing clients", ["", ""])
    other.rows += [[name, f"{value:,.1f}"] for name, value in under.items()]
    notes = [f"Answers among {options.streams} that differ from those alone: {rates['different']} of {rates['asked']}."]
    return Report([table, other], {"streams": rates, "clients": under}, notes)


def make(folder: Path) -> None:
    """A run of random weights, in a process of its own."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.generation_worker import make; "
        "from quoth.recipes.imported import import_run; f = Path(sys.argv[1]); make(f, sys.argv[2]); "
        "import_run(f / 'hf', str(f / 'run'))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder), SHAPE], cwd=ROOT, check=True, capture_output=True)


@contextmanager
def served(folder: Path, options: argparse.Namespace) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The server's port, and its process."""
    command = [sys.executable, "-m", "quoth", "serve", str(folder / "run"), "--port", "0", "--json"]
    command += ["--slots", str(options.streams), "--max-waiting", "256", "--weights", options.weights]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield int(json.loads(process.stdout.readline())["url"].rpartition(":")[2]), process
    finally:
        process.terminate()
        process.wait(20)


@dataclass
class Stream:
    """One request's answer as it came."""

    first: float = 0.0
    text: str = ""
    tokens: int = 0
    times: list[float] = field(default_factory=list)


async def ask(port: int, body: dict[str, Any], *, stop: int = 0, pause: float = 0.0) -> Stream:
    """Stream an answer; leave after `stop` events, and wait before each read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    began, got = time.perf_counter(), Stream()
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    try:
        while line := await reader.readline():
            if pause:
                await asyncio.sleep(pause)
            if not line.startswith(b"data: {"):
                if line.startswith(b"data: [DONE]"):
                    break
                continue
            got.first = got.first or time.perf_counter() - began
            event = json.loads(line[6:])
            got.text += "".join(choice["text"] for choice in event["choices"])
            got.tokens = (event.get("usage") or {}).get("completion_tokens", got.tokens)
            got.times.append(time.perf_counter())
            if stop and len(got.times) >= stop:
                break
    finally:
        writer.close()
    return got


def requests(count: int, seed: int) -> list[dict[str, Any]]:
    """Of mixed lengths."""
    rng = random.Random(seed)
    return [
        {
            "prompt": [rng.randrange(65) for _ in range(rng.randint(1, 120))],
            "max_tokens": rng.randint(60, 240),
            "seed": rng.randrange(10**6),
            "temperature": 0.8,
        }
        for _ in range(count)
    ]


async def streams(port: int, options: argparse.Namespace) -> dict[str, Any]:
    """The tokens a second of one stream and of many, in turn, and which answers differ."""
    known: dict[str, Any] = {"one": [], "one first": [], "many": [], "first": [], "different": 0, "asked": 0}
    for number in range(options.rounds):
        asked = requests(TURNS * options.streams, number)
        alone = []
        say(f"round {number + 1}: one after another")
        began = time.perf_counter()
        for body in asked:
            alone.append(await ask(port, body))
        known["one"].append(sum(one.tokens for one in alone) / (time.perf_counter() - began))
        known["one first"] += [one.first for one in alone]
        say(f"round {number + 1}: all at once")
        began = time.perf_counter()
        free = asyncio.Semaphore(options.streams)
        together = await asyncio.gather(*(once(free, port, body) for body in asked))
        known["many"].append(sum(one.tokens for one in together) / (time.perf_counter() - began))
        known["first"] += [one.first for one in together]
        known["different"] += sum(a.text != b.text for a, b in zip(alone, together, strict=True))
        known["asked"] += len(asked)
    return known


async def once(free: asyncio.Semaphore, port: int, body: dict[str, Any]) -> Stream:
    """Ask when there is a stream free: as soon as one ends, the next begins."""
    async with free:
        return await ask(port, body)


async def clients(port: int, process: subprocess.Popen[str], options: argparse.Namespace) -> dict[str, float]:
    """Health and memory while clients are slow, or go in the middle."""
    say(f"{options.clients} slow or vanishing clients for {options.seconds:.0f} s")
    before, end, rng = memory(process), time.monotonic() + options.seconds, random.Random(0)
    peak, came = before, 0

    async def client(number: int) -> None:
        nonlocal came
        while time.monotonic() < end:
            body = {"prompt": [1] * rng.randint(1, 200), "max_tokens": rng.randint(50, 1000), "logprobs": 5}
            slow = number % 2 == 0
            with suppress(TimeoutError, OSError):
                await asyncio.wait_for(
                    ask(port, body, stop=0 if slow else rng.randint(1, 30), pause=0.1 if slow else 0.0),
                    max(0.1, min(rng.uniform(0.5, 5), end - time.monotonic())),
                )
            came += 1

    tasks = [asyncio.ensure_future(client(number)) for number in range(options.clients)]
    latencies = []
    while time.monotonic() < end:
        began = time.perf_counter()
        await health(port)
        latencies.append(time.perf_counter() - began)
        peak = max(peak, memory(process))
        await asyncio.sleep(0.02)
    await asyncio.gather(*tasks)
    gone = time.perf_counter()
    while (now := await health(port))["running"] + now["waiting"]:
        await asyncio.sleep(0.02)
    return {
        "requests": came,
        "/health, median, ms": 1000 * median(latencies),
        "/health, p99, ms": 1000 * quantiles(latencies, n=100)[98],
        "all slots free after, ms": 1000 * (time.perf_counter() - gone),
        "memory before, MB": before / 1e6,
        "memory at its peak, MB": peak / 1e6,
        "memory after, MB": memory(process) / 1e6,
    }


async def health(port: int) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])  # type: ignore[no-any-return]


def memory(process: subprocess.Popen[str]) -> int:
    """Bytes that the server holds now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def p95(values: list[float]) -> float:
    return quantiles(values, n=20)[18]
