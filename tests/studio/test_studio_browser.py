"""The studio in a real browser: the time machine, a text, its heads, by pointer and by keyboard; and for everyone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from serve.browsing import IN_A_BROWSER, NARROW, WIDE
from studio.opening import Opened, studio, trained

from quoth.system.lock import hold
from quoth.train.run import Metrics

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = IN_A_BROWSER
VIEWS = [(WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark")]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    threads = torch.get_num_threads()
    folder = trained(tmp_path_factory.mktemp("studio"))
    with studio(folder) as one:
        yield one
    torch.set_num_threads(threads)


@pytest.fixture(params=[VIEWS[0]], ids=["wide-light"])
def page(browser: playwright.Browser, opened: Opened, request: pytest.FixtureRequest) -> Iterator[playwright.Page]:
    size, colours = request.param
    context = browser.new_context(viewport=size, color_scheme=colours, reduced_motion="reduce")
    one, problems, foreign = context.new_page(), [], []
    one.on("pageerror", lambda error: problems.append(str(error)))
    one.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    one.on("request", lambda asked: None if asked.url.startswith((opened.url, "data:")) else foreign.append(asked.url))
    one.goto(f"{opened.url}/?code={opened.codes[-1]}")
    one.wait_for_selector(".tokens")
    one.wait_for_function("() => !document.querySelector('.written').textContent.includes('…')")
    yield one
    context.close()
    assert not foreign
    assert not [problem for problem in problems if "status of 4" not in problem]


def step(page: playwright.Page) -> str:
    return page.get_by_label("Moment of the training").get_attribute("aria-valuetext") or ""


def test_it_opens_on_the_run_with_something_to_see(page: playwright.Page, opened: Opened) -> None:
    assert "code" not in page.url
    assert page.inner_text("h1") == "run"
    assert step(page) == "step 100"
    assert len(page.inner_text(".written")) > 100
    assert page.locator(".head canvas").count() == 4
    page.wait_for_selector(".mlp .switch span:text-matches('[+−]0')")
    assert page.locator(".token[aria-pressed=true]").count() == 1
    corner = "c => c.getContext('2d').getImageData(0, 0, 1, 1).data[3]"
    painted = f"[...document.querySelectorAll('.heads canvas')].every({corner})"
    assert page.evaluate(painted)


def test_the_slider_goes_over_the_moments(page: playwright.Page) -> None:
    slider = page.get_by_label("Moment of the training")
    before = page.inner_text(".written"), page.inner_text(".lens")
    slider.focus()
    page.keyboard.press("Home")
    assert step(page) == "step 0"
    page.wait_for_function("before => document.querySelector('.written').innerText !== before", arg=before[0])
    page.wait_for_function("before => document.querySelector('.lens').innerText !== before", arg=before[1])
    assert "What it writes at step 0" in page.inner_text("main")
    page.keyboard.press("End")
    page.wait_for_function("before => document.querySelector('.written').innerText === before", arg=before[0])
    page.wait_for_function("before => document.querySelector('.lens').innerText === before", arg=before[1])


def test_the_film_plays_to_the_end(page: playwright.Page) -> None:
    page.get_by_label("Play the film").click()
    page.wait_for_function("() => document.querySelector('input[type=range]').value === '0'")
    page.wait_for_selector("[aria-label='Play the film']", timeout=20_000)
    assert step(page) == "step 100"


def test_a_token_is_chosen_by_pointer_and_by_keys(page: playwright.Page) -> None:
    tokens = page.locator(".token")
    tokens.nth(5).click()
    assert tokens.nth(5).get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowRight")
    assert tokens.nth(6).get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    for key, at in (("Home", 1), ("ArrowLeft", 1), ("End", tokens.count() - 1)):
        page.keyboard.press(key)
        assert tokens.nth(at).get_attribute("aria-pressed") == "true"
    assert page.locator(".token[tabindex='0']").count() == 1


def test_a_head_is_enlarged_and_read_by_keys(page: playwright.Page) -> None:
    page.locator("button.head").nth(0).focus()
    page.keyboard.press("ArrowDown")
    assert "Layer 2, head 1" in page.inner_text("main")
    page.keyboard.press("ArrowRight")
    assert "Layer 2, head 2" in page.inner_text("main")
    assert page.locator("button.head[tabindex='0']").count() == 1
    assert page.get_by_label("what layer 2, head 2 attends to").is_checked()
    page.locator(".matrix").focus()
    page.keyboard.press("ArrowLeft")
    assert "back" in page.inner_text(".enlarged p")
    page.locator(".matrix").hover()
    page.wait_for_selector(".spot")


def test_parts_are_switched_off_and_on(page: playwright.Page) -> None:
    before = page.inner_text(".lens"), page.inner_text(".written")
    for number in (1, 2):
        page.get_by_label(f"the MLP of layer {number} is on").click()
    page.wait_for_function("before => document.querySelector('.lens').innerText !== before", arg=before[0])
    page.wait_for_function("before => document.querySelector('.written').innerText !== before", arg=before[1])
    assert "2 off: the text costs" in page.inner_text("main")
    page.get_by_text("Switch all on again").click()
    page.wait_for_function("before => document.querySelector('.lens').innerText === before", arg=before[0])


def test_saliency_and_the_training_text(page: playwright.Page) -> None:
    page.locator(".token").nth(9).click()
    page.locator("input[value=saliency]").check()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.token')].slice(0, 9).some(t => t.style.cssText.includes('1.000'))"
    )
    assert page.locator(".near mark").count() >= 1


def test_another_text_and_one_that_cannot_be_read(page: playwright.Page) -> None:
    page.get_by_text("Look at another text").click()
    field = page.get_by_label("Text to look at")
    field.fill("queen speak")
    page.wait_for_function("() => document.querySelector('.tokens').textContent === 'queen speak'")
    field.fill("queen Жspeak")
    page.wait_for_selector("[role=alert]")
    assert "Ж" in page.inner_text("[role=alert]")
    assert field.input_value() == "queen Жspeak"
    field.fill("king")
    page.wait_for_function("() => document.querySelector('.tokens').textContent === 'king'")
    assert page.locator("[role=alert]").count() == 0


def test_a_run_that_trains_is_followed(page: playwright.Page, opened: Opened) -> None:
    folder = opened.run.folder
    lock, log = hold(folder), Metrics(folder)
    numbers = {"tokens_per_second": 31000.0, "learning_rate_share": 0.5, "gradient_norm": 0.25}
    log.add(step=110, loss=1.25, **numbers)
    page.wait_for_selector(".live :text('step 110, loss 1.250, 31.0k tokens a second')")
    log.add(step=110, note="Overfitting: it learns by heart.")
    page.wait_for_selector(".note :text('Overfitting'), .note:has-text('Overfitting')")
    shutil.copytree(folder / "snapshots" / "step-000000", folder / "snapshots" / "step-000110")
    page.wait_for_selector("h2:text('What it writes at step 110')")
    log.cut(100)
    page.wait_for_selector(".note", state="detached")
    log.add(step=120, loss=1.125, **numbers)
    page.wait_for_selector(".live :text('step 120, loss 1.125')")
    log.cut(100)
    shutil.rmtree(folder / "snapshots" / "step-000110")
    lock.release()
    page.wait_for_selector("h2:text('What it writes at step 100')")
    page.wait_for_selector(".live :text('step 1')", state="detached")


def test_a_page_without_its_code_says_what_to_do(browser: playwright.Browser, opened: Opened) -> None:
    page = browser.new_page()
    page.goto(opened.url)
    assert "Open the address" in page.inner_text("body")


@pytest.mark.parametrize("page", VIEWS, indirect=True, ids=["wide-light", "wide-dark", "narrow-light", "narrow-dark"])
def test_everyone_can_use_it(page: playwright.Page) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.locator(".token").nth(3).click()
    page.get_by_label("the MLP of layer 1 is on").click()
    page.get_by_text("Switch all on again").wait_for()
    page.get_by_text("Look at another text").click()
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if "SCREENSHOTS" in os.environ:
        size, colours = page.viewport_size, page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / f"studio-{size['width']}-{colours}.png", full_page=True)


def test_everything_is_reached_by_the_tab_key(page: playwright.Page) -> None:
    page.locator("h1").click()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        named = "e => e.className || e.getAttribute('aria-label') || e.type"
        reached.add(page.evaluate(f"({named})(document.activeElement)"))
    assert {"Play the film", "Moment of the training", "matrix", "head", "token surprise", "radio", "wide"} <= reached
