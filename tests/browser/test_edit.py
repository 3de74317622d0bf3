"""Changing the routing on the page: from a click on the map to the new answer, the sweep, and undo."""

from __future__ import annotations

import re

from gradio_client import Client
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.steps import ANSWER_TOKENS, BUSY_MS, answered, ask, click_cell
from tests.fakes import FakeEngine


def bars(page: Page, name: str) -> list[float]:
    """Heights of a figure's bars as Plotly drew them."""
    heights: list[float] = page.evaluate(
        """(name) => [...document.querySelector(`#${name} .js-plotly-plot`).calcdata[0]].map(bar => bar.y)""", name
    )
    return heights


def wait_for_bars(page: Page, name: str, count: int) -> None:
    page.wait_for_function(
        """([name, count]) => {
          const data = document.querySelector(`#${name} .js-plotly-plot`)?.calcdata;
          return data?.length && data[0].length === count && data[0][0].y !== undefined;
        }""",
        arg=[name, count],
        timeout=BUSY_MS,
    )


def chosen(page: Page) -> None:
    """Waits until the offer to switch an expert off stands under the map."""
    expect(page.locator("#edit-here")).to_be_visible()


def test_an_edit_from_click_to_undo(fake: FakeEngine, open_stage: OpenPage) -> None:
    page = open_stage()
    ask(page, "Why is it so?")
    answered(page)
    click_cell(page, 4, 3)
    chosen(page)
    expect(page.locator("#edit-here")).to_have_text(re.compile(r"Switch off expert \d in layer 3, gate"))
    page.click("#edit-here")
    expect(page.get_by_role("alert")).to_contain_text("Added: without expert")
    page.get_by_role("tab", name="Edit").click()
    expect(page.locator("#edit-rules li")).to_have_text(re.compile(r"without expert \d in layer 3 of gate_proj"))
    page.click("#edit-go-on")
    expect(page.get_by_role("alert")).to_contain_text("Choose a token of the answer first")
    page.click("#edit-again")
    expect(page.locator("#log .turn.assistant .mark")).to_contain_text("edited: without expert")
    expect(page.locator("#log .turn.assistant")).to_have_count(2)
    wait_for_bars(page, "edit-changes", 2)
    assert bars(page, "edit-changes")[0] == 0
    assert bars(page, "edit-changes")[1] < 0
    expect(page.locator("#summary.block")).to_contain_text("Edited: without expert")
    page.click("#edit-undo")
    expect(page.locator("#edit-rules")).to_contain_text("No rule yet")
    page.click("#edit-again")
    expect(page.get_by_role("alert")).to_contain_text("Add a rule first")


def test_rules_are_made_from_choices(fake: FakeEngine, open_stage: OpenPage) -> None:
    page = open_stage()
    page.get_by_role("tab", name="Edit").click()
    page.click("#edit-add")
    expect(page.get_by_role("alert")).to_contain_text("Choose at least one expert")
    page.click("#edit-kind input")
    page.get_by_role("option", name="attention LoRA off").click()
    expect(page.locator("#edit-experts")).to_be_hidden()
    page.click("#edit-kind input")
    page.get_by_role("option", name="reroute").click()
    for expert in ("2", "5"):
        page.click("#edit-experts input")
        page.get_by_role("option", name=expert, exact=True).click()
    page.keyboard.press("Escape")
    page.fill("#edit-layers input", "3-8")
    page.press("#edit-layers input", "Enter")
    page.click("#edit-add")
    expect(page.locator("#edit-rules li")).to_have_text("never picking experts 2, 5 in layers 3-8")
    page.click("#edit-clear")
    expect(page.locator("#edit-rules")).to_contain_text("No rule yet")


def test_the_tab_fits_the_window(fake: FakeEngine, open_stage: OpenPage) -> None:
    page = open_stage()
    page.get_by_role("tab", name="Edit").click()
    for name in ("edit-add", "edit-undo", "edit-clear", "edit-sweep", "edit-effects", "download"):
        box = page.locator(f"#{name}").bounding_box()
        assert box is not None, name
        assert box["width"] > 20, name
        assert box["x"] + box["width"] <= 1440, name
        assert box["y"] + box["height"] <= 900, name


def test_a_sweep_shows_its_progress_and_can_be_cancelled(fake: FakeEngine, open_stage: OpenPage) -> None:
    page = open_stage()
    ask(page, "Why is it so?")
    answered(page)
    page.get_by_role("tab", name="Edit").click()
    fake.seconds_a_score = 0.4
    page.click("#edit-sweep")
    expect(page.locator("#edit-progress")).to_contain_text("of 8 experts")
    wait_for_bars(page, "edit-effects", 2)
    page.click("#edit-cancel")
    expect(page.locator("#edit-progress")).not_to_contain_text("of 8 experts")
    assert 2 <= len(bars(page, "edit-effects")) < 8
    fake.seconds_a_score = 0.0
    page.wait_for_selector("#send", state="visible")
    page.click("#edit-sweep")
    wait_for_bars(page, "edit-effects", 8)
    expect(page.locator("#log .turn.assistant")).to_have_count(1)


def test_an_edit_of_the_demo_model(demo_url: str, open_page: OpenPage) -> None:
    page = open_page(demo_url)
    ask(page, "What are the symptoms of asthma?")
    answered(page)
    click_cell(page, 30, 4)
    chosen(page)
    page.click("#edit-here")
    page.get_by_role("tab", name="Edit").click()
    page.click("#edit-go-on")
    mark = page.locator("#log .turn.assistant .mark")
    expect(mark).to_contain_text(
        re.compile(r"edited: without expert \d in layer 4 of gate_proj, its first \d+ tokens? given")
    )
    page.wait_for_selector("#send", state="visible", timeout=BUSY_MS)
    wait_for_bars(page, "edit-changes", ANSWER_TOKENS - 1)
    assert any(bars(page, "edit-changes"))
    page.click("#edit-sweep")
    wait_for_bars(page, "edit-effects", 8)
    assert all(bars(page, "edit-effects"))


def test_the_endpoint_answers_under_an_edit(demo_url: str) -> None:
    rules = [{"kind": "drop", "experts": [3], "layers": [0, 1]}]
    last = Client(demo_url, verbose=False).predict("What is a fever?", max_new_tokens=4, edit=rules, api_name="/ask")
    assert last["edit"] == "without expert 3 in layers 0-1"
