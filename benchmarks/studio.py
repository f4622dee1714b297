"""How long `quoth studio` takes to answer, and its page to show the answer, with a model of 1.8M parameters."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.common import Report, Table, say
from quoth.train.run import read_metrics

SHAPE = {"layers": 4, "width": 192, "heads": 3, "context": 128}
TIMES = 21
STEPS = 500
# What the page does is timed from the slider's event to the frame in which the new moment is drawn.
SCRUB = """async (places) => {
  const slider = document.querySelector("input[type=range]");
  const shown = () => document.querySelector(".columns").dataset.step;
  const found = [];
  for (const place of places) {
    const before = shown();
    const began = performance.now();
    slider.value = place;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    while (shown() === before) await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    found.push(performance.now() - began);
    await new Promise((done) => setTimeout(done, 120));
  }
  return found;
}"""
# 4 × 6 heads of 128 × 128 cells, painted in each of 120 frames.
PAINT = """async () => {
  const { paint } = await import("/static/heads.js");
  const canvases = Array.from({ length: 24 }, () => document.body.appendChild(document.createElement("canvas")));
  const cells = Array.from({ length: 24 }, () => Uint8Array.from({ length: 8256 }, () => 256 * Math.random()));
  const spent = [];
  const frames = [];
  for (let frame = 0; frame < 120; frame++) {
    frames.push(await new Promise(requestAnimationFrame));
    const began = performance.now();
    canvases.forEach((canvas, n) => paint(canvas, cells[(n + frame) % 24], frame));
    spent.push(performance.now() - began);
  }
  canvases.forEach((canvas) => canvas.remove());
  return { spent, gaps: frames.slice(1).map((at, n) => at - frames[n]) };
}"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=int, default=5, help="of trainings, watched and not")
    parser.add_argument("--no-page", action="store_true", help="leave out what needs Chromium")


def trained(folder: Path) -> Path:
    """A run of that shape; its weights have learned little, which costs the same time as if they had learned much."""
    from quoth.recipes.start import start

    flags: dict[str, Any] = {**SHAPE, "steps": 200, "compile": "off", "evaluate_every": 200, "sample_tokens": 0}
    for _ in start("laptop", None, flags, str(folder / "run"), None, time.monotonic()).events():
        pass
    return folder / "run"


def milliseconds(work: Callable[[], object]) -> float:
    found = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        found.append(1e3 * (time.perf_counter() - began))
    return median(found[1:])


def answers(folder: Path) -> dict[str, float]:
    """The seconds of each answer, and the bytes of the largest, without a network."""
    from quoth.cli.studio import open_run
    from quoth.look.parts import part_from
    from quoth.look.passages import passages
    from quoth.look.trace import losses_without
    from quoth.studio.looking import each_off, example, hangs_on, look

    run = open_run(str(folder))
    steps, text = run.steps(), example(run)
    last = steps[-1]
    model, read = run.at(last), run.text(text)
    head = part_from("1.attention.1", model.config)
    turns = iter(steps * TIMES)
    train = run.corpus().train
    # A hundred copies, each begun elsewhere, so that what is searched for is as frequent as in a text of that size.
    large = np.concatenate([np.roll(train, 137 * n) for n in range(100)])
    ids = read.id_T.numpy()[:64]
    assert len(read.id_T) == SHAPE["context"]
    return {
        "trace": milliseconds(lambda: look(run, last, text, [], always)),
        "payload": len(look(run, last, text, [], always)) / 1e3,
        "another": milliseconds(lambda: look(run, next(turns), text, [], always)),
        "one_off": milliseconds(lambda: losses_without(model, read.id_T, [head])),
        "each_off": milliseconds(lambda: each_off(run, last, text, [], always)),
        "saliency": milliseconds(lambda: hangs_on(run, last, text, [], 126)),
        "passages_1": milliseconds(lambda: passages(train, ids)),
        "passages_100": milliseconds(lambda: passages(large, ids)),
    }


def always() -> bool:
    return True


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A studio that has the run open, by the address that lets a browser in."""
    from quoth.cli.studio import open_run
    from quoth.studio.app import create_studio_app
    from quoth.web.address import listen, url_of
    from quoth.web.connection import ConnectionLimits, make_server
    from quoth.web.entrance import CookieEntrance

    listener, codes = listen("127.0.0.1", 0), []
    app = create_studio_app(open_run(str(folder)), CookieEntrance(1, codes.append))
    server = make_server(app, ConnectionLimits(), log_level="error")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"{url_of(listener)}/?code={codes[0]}"
    server.should_exit = True
    thread.join(10)


def page(folder: Path) -> dict[str, float]:
    """What the page takes in Chromium, from the slider's event to the frame that shows the moment."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with served(folder) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1280, "height": 900})
        ready, first = [], []
        for visit in range(9):
            began = time.perf_counter()
            view.goto(address)
            view.wait_for_selector(".tokens")
            ready.append(time.perf_counter() - began)
            count = int(view.get_attribute("input[type=range]", "max") or 0)
            # At once, while the page asks for all else; it waits 400 ms before it fetches anything ahead.
            first += view.evaluate(SCRUB, [count - 2 * visit - 1])
        time.sleep(5)
        again = view.evaluate(SCRUB, [place % (count + 1) for place in range(3, 3 + 5 * 7, 5)])
        painted = view.evaluate(PAINT)
        live = [seen_after(view, folder, 300 + number) for number in range(9)]
        browser.close()
    frames = sorted(painted["gaps"])
    return {
        "ready": 1e3 * median(ready),
        "live": median(live),
        "scrub_first": median(first),
        "scrub_ahead": median(again),
        "paint": median(painted["spent"]),
        "frames": 1e3 / median(frames),
        "slow_frames": sum(gap > 25 for gap in frames) / len(frames),
    }


def seen_after(view: Any, folder: Path, step: int) -> float:
    """The milliseconds from a line of the log to its sight on the page."""
    from quoth.system.lock import hold
    from quoth.train.run import Metrics

    lock = hold(folder)
    log = Metrics(folder)
    numbers = {"loss": 1.5, "tokens_per_second": 3e4, "learning_rate_share": 0.5, "gradient_norm": 0.3}
    log.add(step=step, **numbers)
    view.wait_for_selector(".live strong")  # That a run trains is looked for once a second; lines ten times.
    time.sleep(1.0)
    began = time.perf_counter()
    log.add(step=step + 1000, **numbers)
    view.wait_for_function(f"() => document.querySelector('.live').innerText.includes('step {step + 1000:,}')")
    spent = 1e3 * (time.perf_counter() - began)
    log.cut(step)
    lock.release()
    time.sleep(1.2)
    return spent


def step_seconds(folder: Path, watched: bool) -> float:
    """The seconds that 250 steps of a training take; if watched, a studio has it open, and a client follows it."""
    import httpx

    flags = ["--layers", "4", "--width", "192", "--context", "128", "--batch", "4", "--steps", str(STEPS)]
    flags += ["--compile", "off", "--evaluate-every", str(STEPS), "--sample-tokens", "0", "--out", str(folder)]
    quoth = [sys.executable, "-m", "quoth"]
    training = subprocess.Popen([*quoth, "train", *flags], stdout=subprocess.DEVNULL)
    if watched:
        while not (folder / "snapshots" / "step-000000").exists():
            time.sleep(0.1)
        studio = subprocess.Popen([*quoth, "studio", str(folder), "--port", "0", "--json"], stdout=subprocess.PIPE)
        assert studio.stdout
        url = json.loads(studio.stdout.readline())["url"]
        with httpx.Client() as client:
            client.get(url)
            with client.stream("GET", f"{url.partition('?')[0]}api/live", timeout=None) as stream:
                for line in stream.iter_lines():
                    if f'"step": {STEPS}' in line or f'"step":{STEPS}' in line:
                        break
        studio.terminate()
        studio.wait()
    training.wait()
    lines = {line["step"]: line["seconds"] for line in read_metrics(folder) if "loss" in line}
    return float(lines[STEPS] - lines[STEPS - 250])


ROWS = {
    "trace": ("a text of 128 tokens looked at, ms", "≤ 25"),
    "payload": ("what is sent of it, kB", "≤ 150"),
    "another": ("the same at another moment, weights read anew, ms", ""),
    "one_off": ("loss with one head off, ms", "≤ 25"),
    "each_off": ("every head, attention and MLP off in turn, ms", "≤ 120"),
    "saliency": ("saliency, ms", ""),
    "passages_1": ("passages of 1 MB, ms", "≤ 10"),
    "passages_100": ("passages of 100 MB, ms", "≤ 400"),
    "ready": ("page: from its address to the first look, ms", ""),
    "scrub_ahead": ("page: another moment, fetched ahead, ms", "≤ 80"),
    "scrub_first": ("page: another moment, not fetched, ms", "≤ 150"),
    "live": ("page: a line of the log, from file to sight, ms", "≤ 250"),
    "paint": ("page: 24 heads of 128 × 128 painted, ms", "≤ 2"),
    "frames": ("page: frames per second while they are painted", "60"),
    "slowed": ("training slowed by a studio that watches, %", "≤ 1"),
    "slow_frames": ("page: share of frames over 25 ms", ""),
}


def run(options: argparse.Namespace) -> Report:
    values: dict[str, Any]
    with TemporaryDirectory() as name:
        say("training")
        folder = trained(Path(name))
        say("answers")
        values = answers(folder)
        if not options.no_page:
            say("the page")
            values |= page(folder)
        if options.pairs:
            say("trainings, watched and not")
            pairs = [
                [step_seconds(Path(name) / f"{number}-{watched}", watched) for watched in (False, True)]
                for number in range(options.pairs)
            ]
            values["slowed"] = 100 * (median(watched / alone for alone, watched in pairs) - 1)
            values["pairs"] = pairs
    rows = [[what, f"{values[key]:,.3g}", bar] for key, (what, bar) in ROWS.items() if key in values]
    return Report([Table("", ["", "median", "bar"], rows)], values)
