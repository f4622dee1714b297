"""`quoth explain`: one idea of the lecture, run on a text of yours, with its tensors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.cells import cell_len
from rich.text import Text

from quoth.cli.arguments import parse
from quoth.cli.output import columns, console, is_live, plain, print_json, warn, width, wrapped
from quoth.cli.settings import words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from torch import Tensor

    from quoth.ladder.parts import Part
    from quoth.text.corpus import Corpus

# Seconds between two lines on what is being done, where they cannot be drawn over.
LINE_EVERY = 3.0
TEXT = "First Citizen:\nBefore we proceed any further, hear me speak."


@dataclass
class Arguments:
    """Explain one idea of the lecture by running it. Without a topic, list them.

    Attributes:
        topic: the idea to explain, such as batches, averaging, attention, scaling or residual.
        text: the text that the idea is shown on; a line of Shakespeare or the first line of the data when left out.
        data: the text that small models learn from, whose characters alone TEXT may have: a named corpus (shakespeare,
            plays), a file or a folder.
        seed: the number that decides every random draw; the same seed gives the same numbers again.
        out: the folder to write drawings (.svg, .dot) and numbers (.json) to.
        json: print one JSON object on stdout.
    """

    topic: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[TOPIC]", help_behavior_hint="")]] = None
    text: words("TEXT") = None  # type: ignore[valid-type]
    data: str = "shakespeare"
    seed: int = 1337
    out: words("FOLDER") = None  # type: ignore[valid-type]
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "explain")

    from quoth.ladder.topics import TOPICS, WITHOUT_TEXT, topic

    if a.topic is None:
        if a.json:
            print_json({"topics": TOPICS})
        else:
            print("\n".join(columns([[name, what] for name, what in TOPICS.items()])))
        return
    explain = topic(a.topic)

    import torch

    from quoth.ladder.lesson import Lesson
    from quoth.system.errors import InputError
    from quoth.text.corpus import corpus

    torch.set_num_threads(1)  # The models are small.
    if not 0 <= a.seed < 2**63:
        raise InputError(f"seed must lie in [0, 2⁶³), not {a.seed}.")
    torch.manual_seed(a.seed)
    known = corpus(a.data)
    text = a.text if a.text is not None else TEXT if a.data == "shakespeare" else first_line(known)
    working = Working(console(as_json=True))
    lesson = Lesson(text, known, a.seed, progress=working)
    if a.text is not None and a.topic in WITHOUT_TEXT:
        warn(f"{a.topic} is not about a text: it shows the same for every one.")
    parts = []
    try:
        for part in explain(lesson):
            working.stop()
            parts.append(part)
            if not a.json:
                print("\n".join([*lines(part), ""]), flush=True)
    finally:
        working.stop()
    record = {"topic": a.topic, "text": text, "parts": [as_json(part) for part in parts]}
    if a.out:
        written = list(write(Path(a.out).expanduser(), a.topic, parts, record))
        if not a.json:
            print(f"{len(written)} files are in {a.out}")
    if a.json:
        print_json(record)


class Working:
    """Tells on stderr what a topic works at: one living line on a terminal, elsewhere a line every few seconds."""

    def __init__(self, screen: Console) -> None:
        self.screen = screen
        self.live: Status | None = None
        self.next_line = time.monotonic()

    def __call__(self, about: str, done: int, total: int) -> None:
        said = Text(f"{about}: {done:,} of {total:,} steps" if total > 1 else about)
        if self.live:
            self.live.update(said)
        elif is_live(self.screen):
            self.live = self.screen.status(said, spinner="line")
            self.live.start()
        elif (now := time.monotonic()) >= self.next_line:
            self.next_line = now + LINE_EVERY
            self.screen.print(said)

    def stop(self) -> None:
        """Remove the living line, so that something else may be printed."""
        if self.live:
            self.live.stop()
            self.live = None


def first_line(known: Corpus) -> str:
    """The first line of a corpus that is long enough to be shown something on."""
    from quoth.text.tokenizer import decode

    begins = decode(known.tokenizer, known.train[:2000].tolist())
    return next((line for line in begins.splitlines() if len(line) > 10), begins)[:60]


def lines(part: Part) -> Iterator[str]:
    """A part for a person."""
    from quoth.ladder.parts import Curves, Graph, Say, Show, Table

    match part:
        case Say(text):
            yield from (wrapped(line) for line in text.split("\n"))
        case Show(name, tensor, rows, names):
            yield f"{name}   {_shape(tensor)}"
            yield from (f"  {line}" for line in matrix(tensor, rows, names))
        case Table(name, heads, rows):
            yield name
            shown = [list(heads), *([_cell(value) for value in row] for row in rows)]
            numbers = {i for i in range(len(heads)) if all(re.match(r"[-+−]?[\d.]", row[i]) for row in shown[1:])}
            yield from (f"  {line}" for line in columns(shown, numbers))
        case Curves(name, x_name, y_name, x, by_name):
            yield f"{name}, {y_name}"
            shown = [
                [x_name, *by_name],
                *([f"{a:g}", *(f"{line[i]:.3g}" for line in by_name.values())] for i, a in enumerate(x)),
            ]
            yield from (f"  {line}" for line in columns(shown, set(range(len(by_name) + 1))))
        case Graph(name, labels, weight_TS):
            yield name
            yield from (f"  {line}" for line in arrows(labels, weight_TS))


def matrix(tensor: Tensor, rows: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """A tensor's numbers, the last two axes as rows and columns; in blocks of columns where a terminal is narrower."""
    flat = tensor.detach()[None] if tensor.dim() == 1 else tensor.detach().reshape(-1, tensor.shape[-1])
    whole = not tensor.is_floating_point()
    cells = [[_number(value, whole=whole) for value in row] for row in flat.tolist()]
    labels = [rows[number % len(rows)] for number in range(len(cells))] if rows else []
    room = (width() or 10**6) - 2 - max(map(cell_len, labels), default=-2) - 2
    each = max(1, room // (2 + max(cell_len(cell) for line in [names, *cells] for cell in line)))
    if tensor.dim() == 1 and not names:  # A vector alone is shown in rows of sixteen.
        each = min(16, each)
        cells = [cells[0][i : i + each] for i in range(0, len(cells[0]), each)]
        cells[-1] += [""] * (len(cells[0]) - len(cells[-1]))
    for begin in range(0, len(cells[0]), each):
        block = [row[begin : begin + each] for row in [*([list(names)] if names else []), *cells]]
        if labels:
            block = [[label, *row] for label, row in zip([*([""] if names else []), *labels], block, strict=True)]
        yield from ([""] if begin else [])
        yield from columns(block, set(range(1 if labels else 0, len(block[0]))))


def arrows(labels: Sequence[str], weight_TS: Tensor) -> Iterator[str]:
    """Each node's row of shades, from the nodes that it hears from."""
    shades = " .:-=+*#%@"
    wide = max(map(len, labels))
    for t, label in enumerate(labels):
        row = "".join(shades[min(9, round(9 * w))] * 2 for w in weight_TS[t].tolist())
        yield f"{label:<{wide}} |{row}|"


def as_json(part: Part) -> dict[str, Any]:
    """A part for a program, with its kind."""
    import torch

    fields = {
        key: {"shape": list(value.shape), "values": value.tolist()} if isinstance(value, torch.Tensor) else value
        for key, value in vars(part).items()
    }
    return {"kind": type(part).__name__.lower(), **fields}


def write(folder: Path, name: str, parts: Sequence[Part], record: dict[str, Any]) -> Iterator[Path]:
    """The numbers, and a drawing for each part that can be drawn."""
    import json

    from quoth.ladder.communication import edges
    from quoth.ladder.parts import Curves, Graph, Show
    from quoth.studio.drawings import curves_svg, graph_dot, graph_svg, matrix_svg
    from quoth.system.files import write_atomic, writing

    files = {f"{name}.json": json.dumps(plain(record), indent=2)}
    for part in parts:
        match part:
            case Show(title, tensor, rows, names) if tensor.dim() == 2 and tensor.is_floating_point():
                files[f"{_slug(title)}.svg"] = matrix_svg(title, tensor.tolist(), rows, names)
            case Curves(title, x_name, y_name, x, by_name, log):
                files[f"{_slug(title)}.svg"] = curves_svg(title, x_name, y_name, x, by_name, log=log)
            case Graph(title, labels, weight_TS):
                files[f"{_slug(title)}.svg"] = graph_svg(title, labels, edges(weight_TS, least=0.02))
                files[f"{_slug(title)}.dot"] = graph_dot(title, labels, edges(weight_TS, least=0.02))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        write_atomic(folder / file, content)
        yield folder / file


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60].strip("-")


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _number(value: float, *, whole: bool) -> str:
    return f"{value:d}" if whole else "-inf" if value == float("-inf") else f"{value:.2f}"


def _cell(value: str | int | float) -> str:
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
