"""A report is one sound page whatever its run folder holds."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from quoth.studio import report
from quoth.studio.report import write_report
from quoth.system.errors import InputError

PUBLISHED = [("nanoGPT on a CPU, 3 minutes", 1.88), ("nanoGPT on an A100", 1.4697), ("Let's build GPT <2023>", 1.4873)]
SAMPLES = {
    0: "kQ;FVq$nUd&rJZ'aoy-L\n.DgTxE?mWb3  vHs!IcRtw,lNjO:puXKiz\nPfGAhBSYCeM",
    500: "ROMENT:\nI me thar the lof and, thou dise wourt\nAnd ther so hin the hing brow.\n\n"
    "KING HENRO:\nThe be & <script>alert(1)</script>",
    1000: "DUKE VINCER:\nThe matter of the crown, and be the house\nOf all the pardon that my brother speak.",
    1500: "GLOUCESTER:\nI would not have the king of such a word,\nAnd I will bear the people of the state.\n\n"
    "LADY ANNE:\nAnd so I say.",
    2900: "ROMEO:\nWhat say'st thou, nurse? The night is far too young\nTo hold the sorrow that my heart would speak;\n"
    "If she but look from out the window's light,\nI'll count the stars as candles to her eyes.\n\n"
    "Nurse:\nPeace, peace, good sir; my lady is abed,\nAnd bids me tell you, by her honest word,\n"
    "She'll meet you at the friar's cell tomorrow.\n\nROMEO:\nThen fly, slow hours, and bring the morning on!",
}
CONFIG = """\
[data]
data = "shakespeare"  # preset laptop
tokenizer = "characters"  # default

[model]
family = "modern"
layers = 4
width = 192
dropout = 0.1  # the dial
tied = false

[optimizer]
learning_rate = 0.004  # the dial
betas = [0.9, 0.95]

[run]
minutes = 3.0
seed = 1337
"""


def metrics(steps: int = 2900) -> Iterator[dict[str, object]]:
    """What a three-minute run on Shakespeare logs."""
    dice = random.Random(1)
    for step in range(0, steps + 1, 10):
        progress, seconds = step / steps, round(step * 177.5 / steps + 0.4, 3)
        fall = 1.32 + 2.86 * math.exp(-step / 90) + 0.75 * math.exp(-step / 700) - 0.0806 * progress
        yield {
            "step": step,
            "seconds": seconds,
            "tokens": step * 4096,
            "loss": fall * (1 + dice.gauss(0, 0.018)),
            "learning_rate": 0.004 * min(1.0, progress / 0.02, (1 - progress) / 0.6),
            "learning_rate_share": min(1.0, progress / 0.02, (1 - progress) / 0.6),
            "gradient_norm": 0.4 + dice.random() * 0.2,
            "tokens_per_second": 66_700 * (1 + dice.gauss(0, 0.02)),
        }
        if step % 100 == 0:
            loss = fall * 1.02 + 0.13 * progress + 0.06
            bits = loss / math.log(2)
            judged = {"validation_loss": loss, "bits_per_byte": bits, "perplexity": math.exp(loss)}
            yield {"step": step, "seconds": seconds + 0.2, "tokens": step * 4096, **judged}
        if step == 2600:
            yield {
                "step": step,
                "seconds": seconds + 0.3,
                "note": "The validation loss has not fallen since step 2,300 & <so>.",
            }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "shakespeare-lunch")


def make_run(folder: Path) -> Path:
    """A run folder as `quoth train` leaves it."""
    (folder / "samples").mkdir(parents=True)
    for step, text in SAMPLES.items():
        (folder / "samples" / f"step-{step:06d}.txt").write_text(text)
    lines = list(metrics())
    (folder / "config.toml").write_text(CONFIG)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    environment = {"device": "cpu", "dtype": "float32", "threads": 2, "cpu": "Intel(R) Xeon(R)", "torch": "2.10.0"}
    (folder / "environment.json").write_text(json.dumps(environment))
    summary = {
        "run": folder.name, "data": "shakespeare", "preset": "laptop", "steps": 2900, "seconds": 178.4,
        "tokens": 11_878_400, "parameters": 1_792_320, "tokens_per_second": 66_583.0, "validation_loss": 1.4663,
        "train_loss": 1.2391, "bits_per_byte": 2.1154, "best_step": 2900, "stopped": "finished",
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


class Page(HTMLParser):
    """Parses strictly: each element that opens must close, in order."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def written(run: Path, *published: tuple[str, float]) -> tuple[str, Page]:
    source = write_report(run, published).read_text(encoding="utf-8")
    page = Page(source)
    for drawing in re.findall(r'<svg class="(?:chart|bar)".*?</svg>(?=</div>|</th>)', source, re.DOTALL):
        assert not re.search(r'"[^"]*(nan|inf)\b', drawing)
        ElementTree.fromstring(drawing)
    return source, page


def test_says_what_happened_in_one_sentence(run: Path) -> None:
    _, page = written(run)
    sentence = (
        "A GPT of 1.8M parameters read shakespeare for 2 min 58 s on 2 threads "
        "and predicts each next character with 1.47 nats of surprise (2.12 bits per byte)."
    )
    assert sentence in page.words
    assert "missing" not in page.words


def test_is_one_file_that_loads_nothing(run: Path) -> None:
    source, page = written(run, *PUBLISHED)
    assert sorted(p.name for p in run.iterdir()) == [
        "config.toml", "environment.json", "metrics.jsonl", "report.html", "samples", "summary.json",
    ]  # fmt: skip
    assert not re.search(r"https?://|@import|url\(|\$\{?(name|items|text|chart)", source)
    assert not {"link", "script", "img", "iframe", "object", "image", "use"} & {tag for tag, _ in page.seen}
    assert not any({"src", "href", "xlink:href", "style"} & attributes.keys() for _, attributes in page.seen)


def test_escapes_everything_that_a_run_can_hold(run: Path) -> None:
    evil = "</pre><script>x</script>&\"'\x00\x1b\ud800$name"
    (run / "samples" / "step-000700.txt").write_text(evil, errors="replace")
    (run / "config.toml").write_text('["<b>"]\n"<i>" = "<u>&"\n', encoding="utf-8")
    (run / "environment.json").write_text(json.dumps({evil: evil}))
    (run / "summary.json").write_text(json.dumps({"run": evil, "data": evil, "stopped": evil}))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1, "seconds": 1, "note": evil}) + "\n")
    source, page = written(run, (evil, 1.5))
    assert not re.search(r"<(script|b|i|u)>", source)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in source
    assert "The be & <script>alert(1)</script>" in page.words
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", source)


def test_headings_descend_and_charts_are_named(run: Path) -> None:
    source, page = written(run, *PUBLISHED)
    levels = [int(tag[1]) for tag, _ in page.seen if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    charts = re.findall(r'<svg class="chart" role="img"><title>(.+?)</title><desc>(.+?)</desc>', source)
    assert [title for title, _ in charts] == [
        "Loss over time", "Learning rate, share of its peak", "Speed, tokens per second",
    ]  # fmt: skip
    assert source.count("<table") == source.count("<caption>")
    assert all("scope" in attributes for tag, attributes in page.seen if tag == "th")


def test_every_piece_may_be_missing(run: Path, tmp_path: Path) -> None:
    for piece in ("config.toml", "metrics.jsonl", "samples", "environment.json", "summary.json"):
        less = shutil.copytree(run, tmp_path / f"without-{piece}")
        shutil.rmtree(less / piece) if piece == "samples" else (less / piece).unlink()
        _, page = written(less, *PUBLISHED)
        assert f"{piece} is not there." in page.words or piece == "samples"
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    _, page = written(nothing, *PUBLISHED)
    assert "A GPT read its text. It has not finished" in page.words
    assert "Nothing was logged" in page.words
    assert "There are no samples." in page.words


def test_without_a_summary_the_last_logged_numbers_stand_in(run: Path) -> None:
    (run / "summary.json").unlink()
    _, page = written(run)
    assert "A GPT read shakespeare for 2 min 58 s" in page.words
    assert "with 1.47 nats of surprise" in page.words
    assert "It has not finished, or was cut off" in page.words


@pytest.mark.parametrize("name", ["config.toml", "metrics.jsonl", "environment.json", "summary.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b"null", b"[" * 100_000, b'{"step": {}}'])
def test_damage_is_reported(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    written(run, *PUBLISHED)


def test_a_line_that_a_crash_cut_off_costs_only_itself(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(lines + '{"step": 2910, "seconds": 17')
    source, page = written(run)
    assert "1 line of metrics.jsonl cannot be read" in page.words
    assert source.count("<polyline") == 5


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, None, "1.5", True, 10**400, {}])
def test_odd_values_are_left_out(run: Path, odd: object) -> None:
    keys = ("loss", "learning_rate_share", "tokens_per_second", "validation_loss", "seconds", "step")
    with (run / "metrics.jsonl").open("a") as file:
        for key in keys:
            file.write(json.dumps({"step": 3000, "seconds": 180.0, "loss": 1.2, key: odd}) + "\n")
    (run / "summary.json").write_text(json.dumps({"validation_loss": odd, "seconds": odd, "steps": odd}))
    _, page = written(run, *PUBLISHED)
    assert "The loss is not a finite number on 1 line" in page.words


@pytest.mark.parametrize("losses", [[2.0], [2.0, 2.0], [0.0, 1e-9], [-1.0, 3.0], [1e-12, 1e12], [math.nan, math.inf]])
def test_every_range_of_losses_can_be_drawn(run: Path, losses: list[float]) -> None:
    lines = ({"step": i, "seconds": 0.0, "loss": v, "tokens_per_second": 0.0} for i, v in enumerate(losses))
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    written(run)


def test_stands_beside_published_numbers_in_order(run: Path) -> None:
    _, page = written(run, *PUBLISHED)
    order = ["This run", "nanoGPT on an A100", "Let's build GPT <2023>", "nanoGPT on a CPU"]
    places = [page.words.index(name) for name in order]
    assert places == sorted(places)
    assert "1.88" in page.words
    assert "0.41 lower" in page.words
    assert "not comparable" not in page.words
    assert "published" not in written(run)[1].words


def test_other_tokens_are_not_compared(run: Path) -> None:
    (run / "config.toml").write_text(CONFIG.replace('"characters"', '"bpe:1024"'))
    source, page = written(run, *PUBLISHED)
    assert "not characters but bpe:1024" in page.words
    assert "0.41 lower" not in page.words
    assert source.count('<svg class="bar"') == len(PUBLISHED)
    assert "each next token" in page.words


def test_a_tokenizer_without_a_name_is_some_token(run: Path) -> None:
    (run / "config.toml").write_text(CONFIG.replace('"characters"', '["characters"]'))
    assert "each next token" in written(run, *PUBLISHED)[1].words


def test_samples_come_in_order_and_the_last_is_prominent(run: Path) -> None:
    source, page = written(run)
    assert re.findall(r"<h3>(Step [\d,]+) ", source) == ["Step 0", "Step 500", "Step 1,000", "Step 1,500", "Step 2,900"]
    assert '<article class="last">\n<h3>Step 2,900 <small>validation loss' in source
    assert "bring the morning on!" in page.words


def test_long_runs_stay_small(run: Path) -> None:
    with (run / "metrics.jsonl").open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in metrics(200_000))
    assert write_report(run).stat().st_size < 300_000


def test_writes_whole_or_not_at_all(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(report, "write_atomic", lambda path, content: calls.append(path))
    assert write_report(run) == run / "report.html"
    assert calls == [run / "report.html"]


def test_there_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no run folder"):
        write_report(tmp_path / "none")
