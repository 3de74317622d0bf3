"""Long traces: the window, search, the way to the answer, arrow keys, and one choice that shows everywhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from molora.trace import RoutingTrace
from tests.browser.conftest import PHONE, OpenPage, Tab, opened
from tests.browser.steps import answered, ask, buttons, click_cell, columns, save
from tests.fakes import FakeEngine, fake_trace
from viz.window import SIZE

# Gradio's queue uses an option of pandas that pandas has deprecated.
pytestmark = pytest.mark.filterwarnings("default")

WORDS = [" It", " is", " dia", "bet", "es", ".", " Not", " DIABETES", "?"]
TOKENS = 700


def long_trace() -> RoutingTrace:
    texts = [f" w{row}" for row in range(TOKENS - len(WORDS))]
    return fake_trace([*texts[:100], *WORDS, *texts[100:]], layers=30, template=3, prompt=300)


@pytest.fixture(scope="module")
def tab(browser: Browser, stage: tuple[FakeEngine, str]) -> Iterator[Tab]:
    with opened(browser, stage[1]) as shared:
        yield shared


@pytest.fixture
def page(tab: Tab, fake: FakeEngine) -> Iterator[Page]:
    """The page with a trace of 700 tokens out of a file, of which the first 303 are template and prompt."""
    tab.page.click("#clear")
    tab.page.get_by_role("tab", name="Map").click()
    tab.page.locator("#show label", has_text="both").click()
    tab.page.locator("#log .example").first.wait_for()
    bring(tab.page, long_trace())
    yield tab.page
    tab.page.get_by_role("tab", name="Map").click()
    tab.check()


def clear(page: Page) -> None:
    page.click("#clear")
    page.locator("#log .example").first.wait_for()


def bring(page: Page, trace: RoutingTrace) -> None:
    file = io.BytesIO()
    trace.save(file)
    page.set_input_files(
        "#open-file", {"name": "long.npz", "mimeType": "application/octet-stream", "buffer": file.getvalue()}
    )
    expect(page.locator("#strip button[data-t]")).to_have_count(min(SIZE, len(trace)))
    page.wait_for_function(
        "count => document.querySelector('#map .js-plotly-plot').data?.find(part => part.z)?.x0 === count",
        arg=max(len(trace) - SIZE, 0),
    )


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


def marked(page: Page, name: str, figure: str = "map") -> list[float]:
    """Where a mark stands in a figure: [x0, x1], or nothing."""
    shapes: list[float] = page.evaluate(
        """([figure, name]) => {
          const { shapes } = document.querySelector(`#${figure} .js-plotly-plot`).layout;
          const shape = shapes.findLast(one => one.name === name);
          return shape ? [shape.x0, shape.x1] : [];
        }""",
        [figure, name],
    )
    return shapes


def chosen_in_strip(page: Page, row: int) -> None:
    expect(page.locator("#strip [aria-pressed]")).to_have_attribute("data-t", str(row))


def test_the_window_shows_the_end_and_is_moved_by_buttons_and_overview(page: Page) -> None:
    assert columns(page) == buttons(page) == SIZE
    expect(page.locator("#found.block")).to_have_text("tokens 460 to 699 of 700")
    assert marked(page, "window", "overview") == [459.5, 699.5]
    page.get_by_role("button", name="First tokens").click()
    expect(page.locator("#found.block")).to_have_text("tokens 0 to 239 of 700")
    expect(page.locator("#strip button[data-t]").first).to_have_attribute("data-t", "0")
    page.get_by_role("button", name="Later tokens").click()
    expect(page.locator("#found.block")).to_have_text("tokens 220 to 459 of 700")
    page.wait_for_function("() => document.querySelector('#map .js-plotly-plot').data.find(part => part.z).x0 === 220")
    box = page.locator("#overview .nsewdrag").first.bounding_box()
    assert box is not None
    spot = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*spot)
    page.wait_for_timeout(150)
    page.mouse.click(*spot)
    expect(page.locator("#found.block")).to_contain_text("tokens 2")
    page.wait_for_function("() => document.querySelector('#overview .js-plotly-plot').layout.shapes.at(-1).x0 > 225")
    page.get_by_role("button", name="Last tokens").click()
    expect(page.locator("#found.block")).to_have_text("tokens 460 to 699 of 700")


def test_the_picture_that_is_saved_is_the_map(page: Page, tmp_path: Path) -> None:
    save(page, "svg").save_as(tmp_path / "map.svg")
    assert "20–29" in (tmp_path / "map.svg").read_text()  # a group of layers, which the overview does not name


def test_a_word_split_over_tokens_is_found_and_chosen(page: Page) -> None:
    page.fill("#seek", "diabetes")
    page.press("#seek", "Enter")
    expect(page.locator("#found.block")).to_contain_text("1 of 2")
    chosen_in_strip(page, 102)
    expect(page.locator("#map-title.block")).to_contain_text("Token 102")
    page.press("#seek", "Enter")
    expect(page.locator("#found.block")).to_contain_text("2 of 2")
    chosen_in_strip(page, 107)
    page.press("#seek", "Shift+Enter")
    chosen_in_strip(page, 102)
    assert marked(page, "token") == [101.5, 102.5]
    page.fill("#seek", "nowhere")
    page.get_by_role("button", name="Next match").click()
    expect(page.locator("#found.block")).to_contain_text("not found")
    chosen_in_strip(page, 102)


def test_a_button_leads_to_the_answer(page: Page) -> None:
    page.click("#to-answer")
    expect(page.locator("#map-title.block")).to_contain_text("Token 303")
    chosen_in_strip(page, 303)
    page.locator("#show label", has_text="prompt").click()
    expect(page.locator("#strip button[data-t]").last).to_have_attribute("data-t", "302")
    page.click("#to-answer")
    expect(page.get_by_role("alert")).to_contain_text("The answer is not shown now.")
    page.locator("#show label", has_text="both").click()


def test_arrow_keys_walk_over_the_map(page: Page) -> None:
    page.click("#to-answer")
    chosen_in_strip(page, 303)
    page.wait_for_function("() => document.querySelector('#map .js-plotly-plot').data.find(part => part.z).x0 === 183")
    page.focus("#map .plot")
    page.keyboard.press("ArrowRight")
    assert marked(page, "cell") == [303.5, 304.5]  # before the server has said anything
    expect(page.locator("#map-title.block")).to_contain_text("Token 304")
    expect(page.locator("#map-title.block")).to_contain_text("layer 0, gate: expert")
    for _ in range(30):
        page.keyboard.press("ArrowDown")
    expect(page.locator("#map-title.block")).to_contain_text("layer 0, up: expert")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#map-title.block")).to_contain_text("layer 29, gate: expert")
    page.keyboard.press("Home")
    expect(page.locator("#map-title.block")).to_contain_text("Token 0")
    chosen_in_strip(page, 0)
    page.keyboard.press("End")
    chosen_in_strip(page, 699)
    page.keyboard.press("PageUp")
    expect(page.locator("#found.block")).to_have_text("tokens 240 to 479 of 700")
    expect(page.locator("#map .plot")).to_be_focused()


def test_a_click_ends_a_walk_that_has_not_come_to_rest(page: Page) -> None:
    page.locator("#strip button[data-t]").first.click()
    chosen_in_strip(page, 460)
    page.keyboard.press("ArrowRight")
    page.locator('#strip button[data-t="470"]').click()
    expect(page.locator("#map-title.block")).to_contain_text("Token 470")
    page.wait_for_timeout(600)
    expect(page.locator("#map-title.block")).to_contain_text("Token 470")


def test_arrows_in_the_strip_walk_out_of_the_window_and_keep_the_focus(page: Page) -> None:
    page.locator("#strip button[data-t]").first.click()
    chosen_in_strip(page, 460)
    page.keyboard.press("ArrowLeft")
    chosen_in_strip(page, 459)
    expect(page.locator("#strip [aria-pressed]")).to_be_focused()
    page.keyboard.press("ArrowRight")
    chosen_in_strip(page, 460)


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
    page.wait_for_function(f"() => ({shown})()?.from === 460")
    assert page.evaluate(shown)["columns"] == [*range(460, 700), *[-1] * 200]
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


def test_the_window_follows_a_growing_answer_until_it_is_moved(page: Page, fake: FakeEngine) -> None:
    clear(page)
    fake.play(answer=[" word"] * 900, seconds_a_token=0.03)
    ask(page, " why" * 400)
    page.wait_for_function("() => document.querySelector('#strip button[data-t]')?.dataset.t === '240'")
    page.get_by_role("button", name="First tokens").click()
    page.wait_for_function("() => document.querySelector('#strip button[data-t]').dataset.t === '0'")
    page.wait_for_timeout(1000)
    expect(page.locator("#strip button[data-t]").first).to_have_attribute("data-t", "0")
    page.click("#stop")
    answered(page)
    expect(page.locator("#strip button[data-t]").first).to_have_attribute("data-t", "0")


def test_a_phone_shows_the_whole_way_through_a_long_trace(open_stage: OpenPage) -> None:
    phone = open_stage(viewport=PHONE, has_touch=True, is_mobile=True)
    bring(phone, long_trace())
    assert phone.evaluate("() => document.scrollingElement.scrollWidth") <= 390
    for name in ("First tokens", "Last tokens", "To the answer"):
        box = phone.get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= 390 - box["width"]


def test_many_layers_stay_two_pixels_high_and_many_experts_keep_their_legend_small(open_stage: OpenPage) -> None:
    page = open_stage()
    bring(page, fake_trace(300, layers=96, projections=("mlp",), experts=128, top_k=4))
    height = "() => document.querySelector('#map .js-plotly-plot')._fullLayout.yaxis._length"
    assert page.evaluate(height) >= 2 * 96
    legend = page.get_by_label("Colours of experts 0 to 127").bounding_box()
    title, map_ = page.locator("#map-title.block").bounding_box(), page.locator("#map .js-plotly-plot").bounding_box()
    assert legend is not None
    assert title is not None
    assert map_ is not None
    assert legend["height"] <= 44
    assert title["y"] >= map_["y"] + map_["height"] - 1


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
