"""The Compare tab in a browser: a second run beside the first, cancelled, of another question, and out of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, OpenPage
from tests.browser.steps import BUSY_MS, answered, ask, save
from tests.fakes import FakeEngine

# Gradio's queue uses an option of pandas that pandas has deprecated.
pytestmark = pytest.mark.filterwarnings("default")


def choose(page: Page, what: str) -> None:
    page.click("#compare-what input")
    page.get_by_role("option", name=what, exact=True).click()


def compared(page: Page) -> None:
    page.locator("#compare-text .scroller").wait_for(timeout=BUSY_MS)
    page.locator("#compare-map .js-plotly-plot .heatmaplayer image").first.wait_for(state="attached")


def overflow(page: Page) -> list[int]:
    size: list[int] = page.evaluate(
        "() => { const root = document.scrollingElement;"
        " return [root.scrollWidth - innerWidth, root.scrollHeight - innerHeight]; }"
    )
    return size


def test_a_second_run_stands_beside_the_first(fake: FakeEngine, open_stage: OpenPage, tmp_path: Path) -> None:
    page = open_stage()
    ask(page, "Is it safe?")
    answered(page)
    page.get_by_role("tab", name="Compare").click()
    fake.play(answer=[" It", " rarely", " <img src=x onerror=alert(1)>", "."])
    page.click("#compare-run")
    compared(page)
    assert "edit" in fake.settings
    assert page.locator("#compare-text .scroller ins").all_inner_texts() == [" rarely <img src=x onerror=alert(1)>"]
    assert page.locator("#compare-text .scroller del").all_inner_texts() == [" depends"]
    expect(page.locator("#compare-title")).to_contain_text("Second: all experts off")
    expect(page.locator("#log")).to_contain_text("It depends.")  # the conversation is as it was
    assert overflow(page) == [0, 0]
    page.get_by_role("tab", name="Map").click()
    page.get_by_role("tab", name="Compare").click()
    compared(page)

    choose(page, "another question")
    page.get_by_label("Question", exact=True).fill("Is it not?")
    page.get_by_label("Question", exact=True).press("Enter")
    expect(page.locator("#compare-title")).to_contain_text("Second: another question")
    assert fake.asked[-1] == [{"role": "user", "content": "Is it not?"}]

    file = tmp_path / "run.npz"
    save(page, "npz").save_as(file)
    page.set_input_files("#second-file", file)
    expect(page.locator("#compare-title")).to_contain_text("Second: file run.npz")
    expect(page.locator("#compare-title")).to_contain_text("0 only in the first, 0 only in the second")


def test_a_second_run_can_be_cancelled_and_is_refused_before_a_first(fake: FakeEngine, open_stage: OpenPage) -> None:
    page = open_stage()
    page.get_by_role("tab", name="Compare").click()
    page.click("#compare-run")
    expect(page.locator("#notice")).to_contain_text("Ask something first")
    page.get_by_role("tab", name="Map").click()
    ask(page, "Is it safe?")
    answered(page)
    page.get_by_role("tab", name="Compare").click()
    fake.play(answer=[" word"] * 400, seconds_a_token=0.05)
    choose(page, "expert 7 alone")
    page.click("#compare-run")
    expect(page.locator("#compare-title")).to_contain_text("tokens of the answer")
    page.click("#compare-cancel")
    page.locator("#compare-run").wait_for()
    for _ in range(100):
        if fake.closed:
            break
        page.wait_for_timeout(50)
    assert fake.closed == 1
    expect(page.locator("#compare-map")).to_contain_text("press Run")


def test_on_a_phone_everything_stands_below_each_other(fake: FakeEngine, open_stage: OpenPage) -> None:
    page = open_stage(viewport=PHONE)
    ask(page, "Is it safe?")
    answered(page)
    page.get_by_role("tab", name="Compare").click()
    choose(page, "uniform gates")
    page.click("#compare-run")
    compared(page)
    expect(page.locator("#compare-text")).to_contain_text("Both answers say the same.")
    assert overflow(page)[0] == 0


def test_the_demo_without_its_experts(demo_url: str, open_page: OpenPage) -> None:
    page = open_page(demo_url)
    ask(page, "What is asthma?")
    answered(page)
    page.get_by_role("tab", name="Compare").click()
    page.click("#compare-run")
    compared(page)
    expect(page.locator("#compare-title .mark")).to_have_text("edited: without all experts")
    expect(page.locator("#compare-title")).to_contain_text("100% of picks differ")
