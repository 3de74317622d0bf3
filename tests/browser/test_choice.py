"""One choice that shows everywhere, whatever it is made in, and however fast the next one follows."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import OpenPage, Tab
from tests.browser.long import bring, chosen_in_strip, clear, long_page, long_trace, marked
from tests.browser.steps import answered, ask, click_cell
from tests.fakes import FakeEngine

# Gradio's queue uses an option of pandas that pandas has deprecated.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def page(tab: Tab, fake: FakeEngine) -> Iterator[Page]:
    yield from long_page(tab)


def click_said(page: Page, part: str, text: str) -> None:
    """Clicks a word in the last question or answer."""
    spot = page.evaluate(
        """([part, word]) => {
          const text = document.querySelector(`#log .said[data-part="${part}"]`).firstChild;
          const range = new Range();
          const at = text.data.indexOf(word);
          range.setStart(text, at);
          range.setEnd(text, at + 1);
          const box = range.getBoundingClientRect();
          return { x: box.left + 1, y: box.top + box.height / 2 };
        }""",
        [part, text],
    )
    page.mouse.click(spot["x"], spot["y"])


def test_a_click_ends_a_walk_that_has_not_come_to_rest(page: Page) -> None:
    page.locator("#strip button[data-t]").first.click()
    chosen_in_strip(page, 460)
    page.keyboard.press("ArrowRight")
    page.locator('#strip button[data-t="470"]').click()
    expect(page.locator("#map-title.block")).to_contain_text("Token 470")
    page.wait_for_timeout(600)
    expect(page.locator("#map-title.block")).to_contain_text("Token 470")


def test_a_word_of_the_answer_is_its_token_and_the_token_is_marked_there(page: Page, fake: FakeEngine) -> None:
    clear(page)
    fake.play(answer=[" It", " 😀", " dia", "bet", "es", "."])
    ask(page, "What is it?")
    answered(page)
    click_said(page, "answer", "bet")
    pressed = page.locator("#strip [aria-pressed]")
    expect(pressed).to_have_text("bet")
    highlighted = "() => [...(CSS.highlights.get('molora-token') ?? [])].map(String).join()"
    page.wait_for_function(f"() => ({highlighted})() === 'bet'")
    page.locator("#strip button[data-t]", has_text="😀").click()
    page.wait_for_function(f"() => ({highlighted})() === ' 😀'")
    click_cell(page, int(pressed.get_attribute("data-t") or "") + 1, 3)
    page.wait_for_function(f"() => ({highlighted})() === ' dia'")
    expect(pressed).to_have_text("dia")
    click_said(page, "question", "is ")
    expect(pressed).to_have_text("is")
    page.wait_for_function(f"() => ({highlighted})().trim() === 'is'")
    page.keyboard.press("Escape")
    page.locator("#strip button[data-t]", has_text="it").first.click()
    page.wait_for_function(f"() => ({highlighted})().trim().startsWith('it')")


def test_a_cell_of_the_comparison_chooses_the_first_runs_token(page: Page) -> None:
    other = long_trace()
    page.get_by_role("tab", name="Compare").click()
    file = io.BytesIO()
    other.select(tokens=slice(20, None)).save(file)
    page.set_input_files(
        "#second-file", {"name": "b.npz", "mimeType": "application/octet-stream", "buffer": file.getvalue()}
    )
    page.wait_for_selector("#compare-map .heatmaplayer image", state="attached")
    box = page.locator("#compare-map .nsewdrag").first.bounding_box()
    assert box is not None
    spot = (box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.move(*spot)
    page.wait_for_timeout(150)
    page.mouse.click(*spot)
    page.wait_for_function(
        "() => document.querySelector('#compare-map .js-plotly-plot').layout.shapes.some(one => one.name === 'token')"
    )
    first, last = marked(page, "token", "compare-map")
    column = round((first + last) / 2)
    chosen_in_strip(page, column)
    assert 560 < column < 600


def test_a_long_comparison_shows_the_window_and_says_what_only_the_second_run_has(page: Page) -> None:
    other = long_trace()
    other.token_ids[500:] += 1000
    file = io.BytesIO()
    other.save(file)
    page.get_by_role("tab", name="Compare").click()
    page.set_input_files(
        "#second-file", {"name": "b.npz", "mimeType": "application/octet-stream", "buffer": file.getvalue()}
    )
    shown = "() => document.querySelector('#compare-map .js-plotly-plot').layout?.meta"
    columns = [*range(460, 700), *[-1] * 200]
    page.wait_for_function(f"(columns) => String(({shown})()?.columns) === String(columns)", arg=columns)
    assert page.evaluate(shown)["from"] == 460
    box = page.locator("#compare-map .nsewdrag").first.bounding_box()
    assert box is not None
    for column, row in ((850, None), (482, 482), (570, 570)):  # the first run alone has the last of them
        spot = (box["x"] + box["width"] * (column - 459.5) / 440, box["y"] + 20)
        page.mouse.move(*spot)
        page.wait_for_timeout(150)
        page.mouse.click(*spot)
        if row is None:
            expect(page.get_by_role("alert")).to_contain_text("Only the second run has this token")
        else:
            chosen_in_strip(page, row)
    page.get_by_role("button", name="First tokens").click()
    page.wait_for_function(f"() => ({shown})().from === 0")
    assert page.evaluate(shown)["columns"] == list(range(240))


def test_tabs_that_are_switched_faster_than_they_are_drawn_leave_the_last_one_open(open_stage: OpenPage) -> None:
    page = open_stage()
    bring(page, long_trace())
    held: list[Route] = []

    def first_later(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/gradio_api/run/predict*", first_later)
    page.get_by_role("tab", name="Load").click()
    page.get_by_role("tab", name="Token").click()
    expect(page.locator("#token-title.block")).to_contain_text("Token 699")
    with page.expect_response(lambda answer: answer.request == held[0].request):
        held[0].continue_()
    page.locator('#strip button[data-t="690"]').click()
    expect(page.locator("#token-title.block")).to_contain_text("Token 690")
