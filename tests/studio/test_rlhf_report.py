"""The page of `quoth demo rlhf`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup

from quoth.studio.rlhf_report import write_rlhf_report

KNOWN = {"score": 0.5, "kind": 0.2, "form": 0.8, "line": 0.9, "topic": 0.3, "ended": 0.99, "distinct": 1.0}


def effect(stage: str, **more: Any) -> dict[str, Any]:
    shown = [("Ask of love.", "Is it <love>?\nNo."), ("Speak of night.", "The night & I.")]
    return {"stage": stage, "seconds": 61.0, "known": KNOWN, "held_out": KNOWN, "shown": shown, "curve": [], **more}


def test_it_shows_every_stage_its_curves_and_its_answers(tmp_path: Path) -> None:
    curve = [{"kl": 1.0 * n, "reward": 0.1 * n, "true_reward": 0.3} for n in range(5)]
    effects = [effect("pretraining"), effect("finetuning"), effect("ppo", curve=curve)]
    record = {
        "judged": 64,
        "reward_model": {"accuracy": 0.7, "accuracy_like_length": None},
        "effects": effects,
        "best_of": {"1": 0.3, "4": 0.4},
    }
    page = BeautifulSoup(write_rlhf_report(tmp_path, record).read_text(encoding="utf-8"), "html.parser")
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in page.find_all("tr")]
    named = zip(rows[1:], ("pretraining", "finetuning", "best of 4", "ppo"), strict=True)
    assert all(row[0].startswith(name) for row, name in named)
    assert len(page.find_all("polyline")) == 2
    assert page.pre and page.pre.get_text().startswith("Ask of love.       → Is it <love>? No.")
    assert "agrees with the taste about 70%" in page.get_text() and "64 answers" in page.get_text()
    assert not page.find_all("script")
