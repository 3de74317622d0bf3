"""Long traces: the window, search, the way to the answer, arrow keys, and one choice that shows everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, OpenPage, Tab
from tests.browser.long import bring, chosen_in_strip, clear, long_page, long_trace, marked
from tests.browser.steps import answered, ask, buttons, columns, save
from tests.fakes import FakeEngine, fake_trace
from viz.window import SIZE

# Gradio's queue uses an option of pandas that pandas has deprecated.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def page(tab: Tab, fake: FakeEngine) -> Iterator[Page]:
    yield from long_page(tab)


def test_the_window_shows_the_end_and_is_moved_by_buttons_and_overview(page: Page) -> None:
    assert columns(page) == buttons(page) == SIZE
    expect(page.locator("#found.block")).to_have_text("tokens 460 to 699 of 700")
    assert marked(page, "window", "overview") == [459.5, 699.5]
    page.get_by_role("button", name="First tokens").click()
    expect(page.locator("#found.block")).to_have_text("tokens 0 to 239 of 700")
    expect(page.locator("#strip button[data-t]").first).to_have_attribute("data-t", "0")
    page.get_by_role("button", name="Later tokens").click()
    expect(page.locator("#found.block")).to_have_text("tokens 220 to 459 of 700")
    page.wait_for_function(
        "() => document.querySelector('#map .js-plotly-plot')?.data?.find(part => part.z)?.x0 === 220"
    )
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
    page.wait_for_function(
        "() => document.querySelector('#map .js-plotly-plot')?.data?.find(part => part.z)?.x0 === 183"
    )
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


def test_arrows_in_the_strip_walk_out_of_the_window_and_keep_the_focus(page: Page) -> None:
    page.locator("#strip button[data-t]").first.click()
    chosen_in_strip(page, 460)
    page.keyboard.press("ArrowLeft")
    chosen_in_strip(page, 459)
    expect(page.locator("#strip [aria-pressed]")).to_be_focused()
    page.keyboard.press("ArrowRight")
    chosen_in_strip(page, 460)


def test_the_window_follows_a_growing_answer_until_it_is_moved(page: Page, fake: FakeEngine) -> None:
    clear(page)
    fake.play(answer=[" word"] * 900, seconds_a_token=0.03)
    ask(page, " why" * 400)
    page.wait_for_function("() => document.querySelector('#strip button[data-t]')?.dataset.t === '240'")
    page.get_by_role("button", name="First tokens").click()
    page.wait_for_function("() => document.querySelector('#strip button[data-t]')?.dataset.t === '0'")
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
