"""Reading one token, one expert and one run, on the page of the real demo model, and on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PHONE, OpenPage, Tab, opened
from tests.browser.steps import answered, ask
from tests.fakes import FakeEngine

# Gradio's queue uses an option of pandas that pandas has deprecated.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def tab(browser: Browser, demo_url: str) -> Iterator[Tab]:
    with opened(browser, demo_url, permissions=["clipboard-read", "clipboard-write"]) as shared:
        ask(shared.page, "What are the symptoms of asthma?")
        answered(shared.page)
        yield shared


@pytest.fixture
def page(tab: Tab) -> Iterator[Page]:
    yield tab.page
    tab.check()


def choose(page: Page, row: int) -> None:
    page.locator(f'#strip button[data-t="{row}"]').click()
    expect(page.locator('#strip button[aria-pressed="true"]')).to_have_attribute("data-t", str(row))


def answer_rows(page: Page) -> list[int]:
    """Rows of the answer's tokens."""
    told = page.locator("#strip button[title*=', answer']").evaluate_all("all => all.map(one => Number(one.dataset.t))")
    return [int(row) for row in told]


def test_a_token_is_read_and_was_predicted_with_candidates(page: Page) -> None:
    page.get_by_role("tab", name="Token").click()
    row = answer_rows(page)[3]
    choose(page, row)
    read, predicted = page.locator("#token-read.block"), page.locator("#token-predicted.block")
    expect(read).to_contain_text(f"Read by row {row}")
    expect(predicted).to_contain_text(f"Predicted by row {row - 1}")
    for side in (read, predicted):
        expect(side).to_contain_text("entropy")
        expect(side).to_contain_text("margin")
        expect(side.locator(".next li")).to_have_count(5)
        shares = [float(text.rstrip("%")) for text in side.locator(".share").all_inner_texts()]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 100.5
    text = page.locator(f'#strip button[data-t="{row}"]').inner_text().strip()
    chosen = predicted.locator("li", has_text="chosen")
    if chosen.count():
        expect(chosen.locator(".text")).to_have_text(text)
    else:
        expect(predicted).to_contain_text(f"chosen instead: {text}")
    for figure in ("#token", "#token-before"):
        page.wait_for_function(f"() => document.querySelector('{figure} .js-plotly-plot')?.data?.length === 6")


def test_prompt_tokens_say_why_they_have_no_candidates(page: Page) -> None:
    page.get_by_role("tab", name="Token").click()
    choose(page, 16)
    expect(page.locator("#token-read.block")).to_contain_text("scored only where the model speaks")
    choose(page, 0)
    expect(page.locator("#token-predicted.block")).to_contain_text("no row stands before the first token")


def test_the_readings_follow_the_view(page: Page) -> None:
    page.get_by_role("tab", name="Token").click()
    choose(page, 16)
    page.locator("#projection label", has_text="up").click()
    for figure in ("#token", "#token-before"):
        page.wait_for_function(f"() => document.querySelector('{figure} .js-plotly-plot')?.data?.length === 2")
    expect(page.locator("#token-read.block")).to_contain_text(re.compile(r"smallest \S+ \(layer \d+, up\)"))
    page.locator("#projection label", has_text="all").click()
    page.wait_for_function("() => document.querySelector('#token .js-plotly-plot')?.data?.length === 6")


def test_an_expert_is_chosen_by_its_number_or_its_column_and_its_tokens_are_selected(page: Page) -> None:
    page.get_by_role("tab", name="Load").click()
    page.get_by_role("button", name="Expert 3").click()
    expect(page.locator("#expert-title.block")).to_contain_text("Expert 3")
    expect(page.locator("#expert-layers .infolayer")).to_contain_text("of the picks (even: 12.5 %)")
    tables = page.locator("#expert-tokens table")
    expect(tables).to_have_count(2)
    over = "() => ['Width', 'Height'].map(side => document.scrollingElement['scroll' + side] - window['inner' + side])"
    assert page.evaluate(over) == [0, 0]
    expect(tables.nth(1)).to_contain_text("Tokens of the answer")
    button = tables.nth(1).locator("button[data-t]").first
    row = button.get_attribute("data-t")
    button.click()
    expect(page.locator('#strip button[aria-pressed="true"]')).to_have_attribute("data-t", str(row))
    expect(page.locator(f'#expert-tokens button[data-t="{row}"]')).to_have_attribute("aria-pressed", "true")
    box = page.locator("#load .nsewdrag").last.bounding_box()
    assert box is not None
    spot = (box["x"] + box["width"] * 5.5 / 8, box["y"] + box["height"] / 2)  # the column of expert 5
    page.mouse.move(*spot)
    page.wait_for_timeout(150)  # Plotly looks for the hovered point first, and throttles that
    page.mouse.click(*spot)
    expect(page.locator("#expert-title.block")).to_contain_text("Expert 5")
    expect(page.locator('#chips button[aria-pressed="true"]')).to_have_text("5")
    page.get_by_role("button", name="Expert 5").click()
    expect(page.locator("#expert-title.block")).to_be_hidden()


def test_the_run_is_told_in_words_and_copied(page: Page) -> None:
    page.click("#run-words")
    panel = page.locator("#run-words-panel")
    for words in ("Model: demo.", "Load per expert", "Imbalance", "Mean entropy", "Most used pair", "Most torn tokens"):
        expect(panel).to_contain_text(words)
    page.click("#copy-words")
    expect(panel.get_by_role("status")).to_have_text("Copied.")
    said: str = page.evaluate("() => navigator.clipboard.readText()")
    assert said.splitlines() == panel.locator("li").all_text_contents()
    assert re.search(r"Mean entropy of the routers: 0\.\d\d of its maximum", said)
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    page.click("#copy-words")  # the old way, which pages without a certificate are left with
    expect(panel.get_by_role("status")).to_have_text("Copied.")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.locator("#run-words")).to_be_focused()


def test_hostile_tokens_stay_text_everywhere(fake: FakeEngine, open_stage: OpenPage) -> None:
    fake.play(answer=["<img src=x onerror=alert(1)>", "${alert(1)}", "</script><script>alert(1)</script>"] * 3)
    page = open_stage()
    ask(page, "<b>Why</b>?")
    answered(page)
    page.get_by_role("tab", name="Token").click()
    expect(page.locator("#token-read.block")).to_contain_text("the trace does not hold them")
    page.get_by_role("tab", name="Load").click()
    page.get_by_role("button", name="Expert 2").click()
    expect(page.locator("#expert-tokens.block")).to_contain_text("alert(1)")
    page.click("#run-words")
    expect(page.locator("#run-words-panel")).to_contain_text("Most torn tokens")
    assert page.locator("#expert-tokens img, #run-words-panel img, #expert-tokens script").count() == 0


def test_a_phone_stacks_readings_and_expert_and_shows_the_words(fake: FakeEngine, open_stage: OpenPage) -> None:
    fake.play(answer=[" word"] * 60)
    page = open_stage(viewport=PHONE, has_touch=True, is_mobile=True)
    ask(page, "On a small screen")
    answered(page)
    wide = "() => document.scrollingElement.scrollWidth - innerWidth"
    page.get_by_role("tab", name="Token").tap()
    page.wait_for_selector("#token-before .js-plotly-plot")
    assert page.evaluate(wide) == 0
    above, below = page.locator("#token.block").bounding_box(), page.locator("#token-predicted.block").bounding_box()
    assert above is not None
    assert below is not None
    assert below["y"] >= above["y"] + above["height"]
    page.get_by_role("tab", name="Load").tap()
    page.get_by_role("button", name="Expert 2").tap()
    expect(page.locator("#expert-tokens table")).to_have_count(2)
    assert page.evaluate(wide) == 0
    page.locator("#run-words").tap()
    expect(page.locator("#run-words-panel")).to_contain_text("Imbalance")
    panel = page.locator("#run-words-panel").bounding_box()
    assert panel is not None
    assert panel["x"] >= 0
    assert panel["x"] + panel["width"] <= 390
