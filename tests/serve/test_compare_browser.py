"""The page of comparisons in a real browser: keys, what is gone on from, the end; and whether everyone can use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve.browsing import IN_A_BROWSER, NARROW, WIDE
from serve.comparing import PROMPTS, Page, comparing, loaded

from quoth.recipes.comparing import LEAST_PAIRS, Comparing, Written
from quoth.tune.conversation import Messages

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [*IN_A_BROWSER, pytest.mark.usefixtures("one_thread")]
LONG: Messages = (
    {"role": "system", "content": "Answer in one line of verse."},
    {"role": "user", "content": "Speak of heaven, and of what a man may hope for there when all his battles are done."},
)
LINES = (
    "O, that this heaven were but a little nearer,\nThat I might hear thee speak, and answer thee.",
    "What is the love of heaven, my lord?",
    "The heavens themselves are not so high as he.",
    "Ay, ay, my lord, the king, the king, the king, the king, the king of all the king",
)


class Recited(Comparing):
    """Comparisons whose answers are lines that a person can read."""

    async def _write(self, pair: int, prompt: Messages) -> Written | None:
        made = await super()._write(pair, prompt)
        assert made
        one, other = (f"{LINES[(pair + n) % len(LINES)]}" for n in (0, 1))
        return Written(LONG if pair % 2 else prompt, (one, other), (True, not other.endswith("king")))


@pytest.fixture(params=[(WIDE, "light"), (NARROW, "dark")], ids=["wide-light", "narrow-dark"])
def view(browser: playwright.Browser, request: pytest.FixtureRequest) -> Iterator[playwright.Page]:
    size, colours = request.param
    context = browser.new_context(viewport=size, color_scheme=colours)
    one, problems = context.new_page(), []
    one.on("pageerror", lambda error: problems.append(str(error)))
    one.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    yield one
    context.close()
    assert not [problem for problem in problems if "status of 4" not in problem and "net::ERR" not in problem]


def settled(view: playwright.Page) -> None:
    """Wait until the page has shown what it was told last."""
    view.wait_for_selector("body:not(.busy)")


def press(view: playwright.Page, key: str) -> None:
    with view.expect_response("**/api/*"):
        view.keyboard.press(key)
    settled(view)


def opened(view: playwright.Page, page: Page) -> None:
    view.goto(page.url)
    view.wait_for_selector("#comparison:not([hidden]), #ask:not([hidden]), #end:not([hidden])")
    settled(view)


def shown(view: playwright.Page) -> list[str]:
    return [view.inner_text("#prompt"), *view.locator("#answers .text").all_inner_texts()]


def test_all_of_it_by_keyboard_and_a_reload_goes_on(view: playwright.Page, tmp_path: Path) -> None:
    with comparing(tmp_path / "pairs.jsonl", [loaded("chat")], kind=Recited) as page:
        decisions = page.session.record.decisions
        opened(view, page)
        first = shown(view)
        for key, choice in (("ArrowLeft", "left"), ("2", "right"), ("=", "tie"), ("s", "skip"), ("1", "left")):
            press(view, key)
            assert decisions[-1].choice == choice
        for key, choice in (("ArrowRight", "right"), ("0", "tie")):
            press(view, key)
            assert decisions[-1].choice == choice
        assert all(0 <= one.seconds < 60 for one in decisions)
        before = shown(view)
        opened(view, page)
        assert shown(view) == before and before != first
        assert len(decisions) == 7
        for _ in range(7):
            press(view, "u")
        assert shown(view) == first and not decisions
        assert view.locator("#undo").is_disabled()
        view.keyboard.press("Control+1")  # The browser's own, as is a key that is held down.
        view.evaluate("dispatchEvent(new KeyboardEvent('keydown', {key: '1', repeat: true, bubbles: true}))")
        settled(view)
        assert not decisions


def test_buttons_choose_what_stands_beside_them(view: playwright.Page, tmp_path: Path) -> None:
    with comparing(tmp_path / "pairs.jsonl", [loaded("chat")], kind=Recited) as page:
        opened(view, page)
        for choice, place in (("left", 1), ("right", 2)):
            text = shown(view)[place]
            with view.expect_response("**/api/decision"):
                view.click(f"[data-choice={choice}]")
            settled(view)
            decision = page.session.record.decisions[-1]
            assert decision.comparison.answers[decision.preferred or 0] == text
        view.click("#count-panel summary")
        assert "2 of 30" in view.inner_text("#counts")


def test_the_result_of_two_runs_is_shown_at_the_end_and_when_it_is_opened_again(
    view: playwright.Page, tmp_path: Path
) -> None:
    runs = [loaded("before", slots=1), loaded("after", slots=1)]
    with comparing(tmp_path / "pairs.jsonl", runs, wanted=4, kind=Recited) as page:
        opened(view, page)
        assert view.locator("#score").is_hidden()
        for _ in range(4):
            mine = page.session.shown()
            assert mine
            press(view, "1" if mine.first_on == "left" else "2")
        for _ in range(2):
            assert "before wins 4, ties 0 and loses 0 against after: a win rate of 100%, with a 95% interval" in (
                view.inner_text("#score")
            )
            assert view.locator("#comparison").is_hidden() and "--pairs 8" in view.inner_text("#end")
            opened(view, page)
        press(view, "u")
        assert view.locator("#comparison").is_visible()


def test_a_prompt_is_typed_and_the_keys_are_letters_there(view: playwright.Page, tmp_path: Path) -> None:
    with comparing(tmp_path / "pairs.jsonl", [loaded("chat")], []) as page:
        opened(view, page)
        view.locator("#question").press_sequentially("tus 1")
        assert not page.session.record.decisions
        with view.expect_response("**/api/prompt"):
            view.keyboard.press("Enter")
        view.wait_for_selector("#comparison:not([hidden])")
        settled(view)
        assert view.inner_text("#prompt") == "tus 1"
        view.evaluate("document.activeElement.blur()")
        press(view, "1")
        view.wait_for_selector("#ask:not([hidden])")
        assert len(page.session.record.decisions) == 1


def test_what_another_window_decided_is_told(view: playwright.Page, tmp_path: Path) -> None:
    with comparing(tmp_path / "pairs.jsonl", [loaded("chat")], kind=Recited) as page:
        opened(view, page)
        page.decide("left")
        now = page.state()["comparison"]
        press(view, "2")
        assert "decided on already" in view.inner_text("#status")
        assert shown(view)[1:] == [now["left"]["text"], now["right"]["text"]]
        assert [one.choice for one in page.session.record.decisions] == ["left"]


def test_train_now(view: playwright.Page, tmp_path: Path) -> None:
    with comparing(tmp_path / "pairs.jsonl", [loaded("chat")], wanted=80, kind=Recited) as page:
        opened(view, page)
        view.click("#train-panel summary")
        with view.expect_response("**/api/training"):
            view.click("#train button >> nth=0")
        settled(view)
        assert f"{LEAST_PAIRS} pairs with a preference are the least" in view.inner_text("#status")
        for _ in range(LEAST_PAIRS * 11 // 10 + 1):
            page.decide("left")
        opened(view, page)
        view.click("#train-panel summary")
        assert "quoth tune reward chat" in view.inner_text("#train")
        with view.expect_response("**/api/training"):
            view.click("#train button >> nth=0")
        view.wait_for_selector("#then")
        assert view.inner_text("#training-line") == "Trained: it is right about 83% of the pairs that were held out."
        assert view.inner_text("#then code") == "quoth tune ppo chat PROMPTS --reward new"


def test_everyone_can_use_it(view: playwright.Page, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with comparing(tmp_path / "pairs.jsonl", [loaded("chat")], wanted=2, kind=Recited) as page:
        opened(view, page)
        for _ in range(3):
            found = axe.run(view)
            assert found.violations_count == 0, found.generate_report()
            assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
            if view.locator("#comparison").is_visible():
                press(view, "1")
        assert view.locator("#end").is_visible()
    with comparing(tmp_path / "typed.jsonl", [loaded("chat")], []) as page:
        opened(view, page)
        found = axe.run(view)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="SCREENSHOTS names a folder to look at")
@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_screenshots(browser: playwright.Browser, tmp_path: Path, size: dict[str, int], colours: str) -> None:
    folder, name = Path(os.environ["SCREENSHOTS"]), f"{size['width']}-{colours}"
    view = browser.new_page(viewport=size, color_scheme=colours)
    with comparing(tmp_path / "pairs.jsonl", [loaded("tuned")], PROMPTS, wanted=60, kind=Recited) as page:
        opened(view, page)
        press(view, "1")
        view.screenshot(path=folder / f"compare-{name}.png")
        for n in range(60):
            page.decide(("left", "right", "tie")[n % 8 % 3])
        opened(view, page)
        for panel in ("count", "train"):
            view.click(f"#{panel}-panel summary")
        with view.expect_response("**/api/training"):
            view.click("#train button >> nth=1")
        settled(view)
        view.screenshot(path=folder / f"panels-{name}.png", full_page=True)
    with comparing(tmp_path / "typed.jsonl", [loaded("base")], []) as page:
        opened(view, page)
        view.screenshot(path=folder / f"typed-{name}.png")
    runs = [loaded("tuned", slots=1), loaded("tuned by DPO", slots=1)]
    with comparing(tmp_path / "against.jsonl", runs, wanted=20, kind=Recited) as page:
        while not page.state()["done"]:
            page.decide("left" if page.state()["comparison"]["number"] % 3 else "tie")
        opened(view, page)
        view.screenshot(path=folder / f"against-{name}.png", full_page=True)
    view.close()
