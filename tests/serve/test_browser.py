"""The page in a real browser: write, look into the chances, branch, stop, chat; and whether everyone can use it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serve.browsing import IN_A_BROWSER, NARROW, WIDE
from serve.running import ALPHABET, ChatBytes, Running, running, served
from torch import Tensor

from quoth.generate.decoder import Batch
from quoth.serve.requests import Limits, ServedModel
from quoth.text.tokenizer import Bytes, Characters

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = IN_A_BROWSER


@pytest.fixture(scope="module")
def site() -> Iterator[Running]:
    names = {"base": Characters(ALPHABET), "other": Bytes(), "chat": ChatBytes(), "chat too": ChatBytes()}
    models = [served(name, tokenizer, shape={"context": 256}) for name, tokenizer in names.items()]
    with running([*models, slow()], Limits(tokens=10**6)) as one:
        yield one


def slow() -> ServedModel:
    """A model that never ends before it is stopped."""
    model = served("slow", Characters(ALPHABET))
    step = model.engine.decoder.step

    def wait(rows: Batch) -> Tensor:
        time.sleep(0.005)
        return step(rows)

    model.engine.decoder.step = wait  # type: ignore[method-assign]
    return model


@pytest.fixture(params=[WIDE, NARROW], ids=["wide", "narrow"])
def page(browser: playwright.Browser, site: Running, request: pytest.FixtureRequest) -> Iterator[playwright.Page]:
    dark = "dark" if request.param is NARROW else "light"
    context = browser.new_context(viewport=request.param, color_scheme=dark)
    one, problems = context.new_page(), []
    one.on("pageerror", lambda error: problems.append(str(error)))
    one.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    one.goto(site.url)
    one.wait_for_selector("#models label")
    yield one
    context.close()
    assert not [problem for problem in problems if "status of 400" not in problem and "net::ERR" not in problem]


def write(page: playwright.Page, text: str, tokens: int = 12) -> None:
    page.evaluate("document.getElementById('settings').open = true")
    page.fill("#tokens", str(tokens))
    page.fill("#seed", "3")
    page.fill("#prompt", text)
    page.press("#prompt", "Control+Enter")
    page.wait_for_selector("#stop", state="hidden")


def text_of(page: playwright.Page, column: int = 0) -> str:
    return page.locator("article .text").nth(column).evaluate("e => e.textContent")  # type: ignore[no-any-return]


def test_it_writes_what_the_api_writes(page: playwright.Page, site: Running) -> None:
    write(page, "abc ")
    asked = {"prompt": "abc ", "max_tokens": 12, "seed": 3, "temperature": 0.8, "model": "base"}
    answer = site.client.post("/v1/completions", json=asked).json()["choices"][0]["text"]
    assert text_of(page) == "abc " + answer
    assert "12 tokens" in page.inner_text(".facts")
    assert "nats a token" in page.inner_text(".facts")


def test_a_token_shows_its_chances_and_another_can_be_taken(page: playwright.Page) -> None:
    write(page, "abc ")
    before = text_of(page)
    assert re.fullmatch(r". \d+(\.\d)?%", page.locator(".token").nth(6).get_attribute("title") or "")
    colours = page.eval_on_selector_all(".token", "all => all.map(e => getComputedStyle(e).backgroundColor)")
    assert len(set(colours)) > 5  # By how unsure the model was.
    assert page.locator("#key-field").is_hidden()
    page.locator(".token").nth(6).click()
    choices = page.locator("#candidates button")
    assert choices.count() == 10
    other = page.locator("#candidates button:not([aria-current])").first
    name = other.locator("code").inner_text()
    other.click()
    page.wait_for_selector("#stop", state="hidden")
    after = text_of(page)
    assert after[:6] == before[:6]
    assert after[6] == {"␣": " ", "⏎": "\n"}.get(name, name)
    assert len(after) == 7 + 12


def test_all_of_it_by_keyboard(page: playwright.Page) -> None:
    write(page, "abc ")
    page.focus("article .text")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".token.here").count() == 1
    page.keyboard.press("Enter")
    assert page.locator("#candidates").is_visible()
    assert page.evaluate("document.activeElement.closest('#candidates') !== null")
    page.keyboard.press("Escape")
    assert page.locator("#candidates").is_hidden()
    assert page.evaluate("document.activeElement.classList.contains('text')")


def test_it_can_be_stopped(page: playwright.Page, site: Running) -> None:
    page.uncheck("text=base")
    page.check("text=slow")
    page.evaluate("document.getElementById('settings').open = true")
    page.fill("#tokens", str(10**6))
    page.fill("#prompt", "abc ")
    page.press("#prompt", "Control+Enter")
    page.locator(".token:not(.prompt)").first.wait_for(state="attached")  # A line break is not visible.
    page.keyboard.press("Escape")
    page.wait_for_selector("#stop", state="hidden")
    assert "stopped" in page.inner_text(".facts")
    assert site.is_idle(30.0)


def test_several_runs_side_by_side(page: playwright.Page) -> None:
    page.check("text=other")
    write(page, "abc ")
    assert page.locator("article").count() == 2
    assert text_of(page, 0).startswith("abc ")
    assert text_of(page, 1).startswith("abc ")
    assert text_of(page, 0) != text_of(page, 1)
    page.uncheck("text=other")
    assert page.locator("article").count() == 1


def test_a_conversation(page: playwright.Page, site: Running) -> None:
    page.uncheck("text=base")
    page.locator("#models input").nth(2).check()
    write(page, "hello")
    write(page, "again")
    turns = page.locator(".turn")
    assert turns.count() == 4
    assert turns.nth(0).inner_text() == "hello"
    first = turns.nth(1).evaluate("e => e.textContent")
    second = turns.nth(3).evaluate("e => e.textContent")
    said = [{"role": "user", "content": "hello"}]
    asked = {"model": "chat", "max_tokens": 12, "seed": 3, "temperature": 0.8}
    answer = site.client.post("/v1/chat/completions", json={**asked, "messages": said}).json()
    assert first == answer["choices"][0]["message"]["content"]
    said += [{"role": "assistant", "content": first}, {"role": "user", "content": "again"}]
    answer = site.client.post("/v1/chat/completions", json={**asked, "messages": said}).json()
    assert second == answer["choices"][0]["message"]["content"]
    page.click("#again")
    page.wait_for_selector("#stop", state="hidden")
    assert page.locator(".turn").count() == 4


def sent(page: playwright.Page) -> list[dict[str, Any]]:
    """The bodies of the requests for answers from now on."""
    bodies: list[dict[str, Any]] = []
    page.on("request", lambda request: bodies.append(request.post_data_json) if request.method == "POST" else None)
    return bodies


def test_each_of_two_runs_is_sent_what_it_was_told_and_said_itself(page: playwright.Page) -> None:
    page.uncheck("text=base")
    page.locator("#models input").nth(2).check()
    bodies = sent(page)
    write(page, "one")
    page.locator("#models input").nth(3).check()
    write(page, "two")
    write(page, "three")
    page.click("#again")
    page.wait_for_selector("#stop", state="hidden")
    assert [turn.inner_text() for turn in page.locator("article").nth(1).locator(".user").all()] == ["two", "three"]
    for column, name, heard in ((0, "chat", ["one", "two", "three"]), (1, "chat too", ["two", "three"])):
        answers = page.locator("article").nth(column).locator(".assistant")
        said = [answer.evaluate("e => e.textContent") for answer in answers.all()]
        mine = [body["messages"] for body in bodies if body["model"] == name]
        before = [
            message
            for text, answer in zip(heard[:-1], said[:-1], strict=True)
            for message in ({"role": "user", "content": text}, {"role": "assistant", "content": answer})
        ]
        whole = [*before, {"role": "user", "content": heard[-1]}]
        expected = [whole[: 2 * n + 1] for n in range(len(heard))]
        assert mine == [*expected, whole]


def test_a_run_that_is_chosen_again_shows_what_it_is_sent(page: playwright.Page) -> None:
    page.uncheck("text=base")
    page.locator("#models input").nth(2).check()
    write(page, "one")
    before = page.locator(".turn").all_text_contents()
    page.locator("#models input").nth(2).uncheck()
    page.locator("#models input").nth(2).check()
    assert page.locator(".turn").all_text_contents() == before
    bodies = sent(page)
    write(page, "two")
    assert [message["content"] for message in bodies[0]["messages"]] == [*before, "two"]


def test_enter_says_and_shift_enter_breaks_the_line(page: playwright.Page) -> None:
    page.press("#prompt", "Enter")
    assert page.input_value("#prompt") == "\n"  # A text to go on from has lines.
    page.uncheck("text=base")
    page.locator("#models input").nth(2).check()
    page.fill("#prompt", "a")
    page.press("#prompt", "Shift+Enter")
    assert page.input_value("#prompt") == "a\n"
    page.press("#prompt", "Enter")
    page.wait_for_selector("#stop", state="hidden")
    assert page.locator(".turn.user").all_text_contents() == ["a\n"]


def test_what_fails_takes_no_text_away(page: playwright.Page) -> None:
    write(page, "abc ")
    before = text_of(page)
    write(page, "abZ")
    assert page.locator("#status.problem").count() == 1
    assert text_of(page) == before
    assert page.input_value("#prompt") == "abZ"
    page.uncheck("text=base")
    page.locator("#models input").nth(2).check()
    write(page, "hello")
    said = page.locator(".turn").all_text_contents()
    page.route("**/v1/chat/completions", lambda route: route.abort())
    write(page, "lost?")
    assert page.inner_text("#status") == "The server cannot be reached."
    assert page.input_value("#prompt") == "lost?"
    assert page.locator(".turn").all_text_contents() == said
    page.click("#again")
    page.wait_for_selector("#stop", state="hidden")
    assert page.locator(".turn").all_text_contents() == said


def test_a_refusal_is_told(page: playwright.Page) -> None:
    page.fill("#prompt", "abZ")
    with page.expect_response("**/v1/completions") as answer:
        page.press("#prompt", "Control+Enter")
    assert answer.value.status == 400
    page.wait_for_selector("#status.problem")
    assert "'Z' at position 2" in page.inner_text("#status")


def test_everyone_can_use_it(page: playwright.Page) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    assert axe.run(page).violations_count == 0
    write(page, "abc ")
    page.locator(".token").nth(5).click()
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_key_is_asked_for(browser: playwright.Browser) -> None:
    with running([served("base", Characters(ALPHABET))], key="secret") as other:
        page = browser.new_page(viewport=WIDE)
        page.goto(other.url)
        page.wait_for_selector("#key-field:not([hidden])")
        page.fill("#key", "secret")
        page.press("#key", "Tab")
        page.wait_for_selector("#models label")
        write(page, "abc ")
        assert text_of(page).startswith("abc ")
        page.close()


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="SCREENSHOTS names a folder to look at")
def test_screenshots(page: playwright.Page) -> None:
    folder = Path(os.environ["SCREENSHOTS"])
    name = page.viewport_size["width"]  # type: ignore[index]
    page.check("text=other")
    write(page, "abc ", 150)
    page.screenshot(path=folder / f"page-{name}.png")
    page.locator(".token").nth(20).click()
    page.screenshot(path=folder / f"branch-{name}.png")
    page.keyboard.press("Escape")
    page.uncheck("text=base")
    page.uncheck("text=other")
    page.locator("#models input").nth(2).check()
    write(page, "hello there", 40)
    page.screenshot(path=folder / f"chat-{name}.png")
