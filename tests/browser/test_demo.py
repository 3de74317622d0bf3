"""The main job with the real demo model: ask, watch, look closer, take it home."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Page, expect

from molora.trace import ANSWER, RoutingTrace
from tests.browser.conftest import OpenPage, Tab, opened
from tests.browser.steps import ANSWER_TOKENS, BUSY_MS, answered, ask, buttons, click_cell, columns, save


@dataclass
class Watched:
    """One answer of the demo model, watched from the question on."""

    tab: Tab
    sizes: list[int]
    """Tokens on the map, each time their number changed, to the end of the answer"""
    moved: bool
    """Whether the map's place or size changed meanwhile"""


@pytest.fixture(scope="module")
def watched(browser: Browser, demo_url: str) -> Iterator[Watched]:
    with opened(browser, demo_url) as tab:
        page, sizes = tab.page, [0]
        place = page.locator("#map .plot").bounding_box()
        ask(page, "What are the symptoms of asthma?")
        page.wait_for_selector("#stop", state="visible")
        while page.locator("#stop").is_visible():
            if (count := columns(page)) != sizes[-1]:
                sizes.append(count)
            page.wait_for_timeout(60)
        answered(page)
        sizes += {columns(page)} - {sizes[-1]}
        yield Watched(tab, sizes[1:], page.locator("#map .plot").bounding_box() != place)


@pytest.fixture
def page(watched: Watched) -> Iterator[Page]:
    yield watched.tab.page
    watched.tab.check()


def test_the_answer_streams_and_the_map_grows(watched: Watched, page: Page) -> None:
    assert len(watched.sizes) >= 2
    assert watched.sizes == sorted(watched.sizes)
    assert not watched.moved
    assert columns(page) == buttons(page) == watched.sizes[-1]
    assert len(page.locator("#log .assistant .said").first.inner_text()) > 10
    expect(page.locator("#summary.block")).to_contain_text("entropy")


def test_a_click_on_a_cell_selects_its_token(page: Page) -> None:
    page.get_by_role("tab", name="Map").click()
    click_cell(page, 18, 4)
    expect(page.locator('#strip button[aria-pressed="true"]')).to_have_attribute("data-t", "18")
    expect(page.locator("#map-title.block")).to_contain_text("Token 18")


def test_hovering_a_cell_tells_the_experts(page: Page) -> None:
    page.get_by_role("tab", name="Map").click()
    click_cell(page, 20, 10)
    expect(page.locator("#map .hoverlayer")).to_contain_text("layer 10, gate")
    expect(page.locator("#map .hoverlayer")).to_contain_text("entropy")


def test_a_click_on_a_token_selects_it_and_arrows_walk_on(page: Page) -> None:
    page.locator('#strip button[data-t="16"]').click()
    pressed = page.locator('#strip button[aria-pressed="true"]')
    expect(pressed).to_have_attribute("data-t", "16")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(pressed).to_have_attribute("data-t", "18")
    expect(page.locator('#strip button[data-t="18"]')).to_be_focused()
    page.keyboard.press("Home")
    expect(pressed).to_have_attribute("data-t", "0")


def test_the_token_tab_shows_its_weights(page: Page) -> None:
    page.locator('#strip button[data-t="17"]').click()
    page.get_by_role("tab", name="Token").click()
    expect(page.locator("#token-title.block")).to_contain_text("Token 17")
    page.wait_for_function("() => document.querySelector('#token .js-plotly-plot')?.data?.length === 6")


def test_the_load_tab_keeps_prompt_and_answer_apart(page: Page) -> None:
    page.get_by_role("tab", name="Load").click()
    expect(page.locator("#load .infolayer")).to_contain_text(f"answer, {ANSWER_TOKENS - 1} tokens")


def test_choices_change_the_map(page: Page) -> None:
    page.get_by_role("tab", name="Map").click()
    page.locator("#projection label", has_text="up").click()
    page.wait_for_function(
        "() => document.querySelector('#map .js-plotly-plot')?.data?.filter(part => part.z).length === 1"
    )
    page.locator("#projection label", has_text="all").click()
    page.locator("#show label", has_text="answer").click()
    expect(page.locator("#strip button[data-t]")).to_have_count(ANSWER_TOKENS - 1)
    page.locator("#show label", has_text="both").click()
    page.locator("#colour label", has_text="entropy").click()
    expect(page.locator("#map .infolayer")).to_contain_text("entropy")
    page.locator("#colour label", has_text="top expert").click()
    page.fill("#layers input", "3-5, 7")
    page.press("#layers input", "Enter")
    page.wait_for_function(
        "() => document.querySelector('#map .js-plotly-plot')?.data?.find(part => part.z)?.y.join() === '3,4,5,7'"
    )
    page.fill("#layers input", "nonsense")
    page.press("#layers input", "Enter")
    expect(page.get_by_role("alert")).to_contain_text("Layers read like")
    page.fill("#layers input", "all")
    page.press("#layers input", "Enter")
    page.wait_for_function(
        "() => document.querySelector('#map .js-plotly-plot')?.data?.find(part => part.z)?.y.length === 30"
    )


def test_downloads_open_and_load(page: Page, open_page: OpenPage, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Map").click()
    for name, suffix in (("npz", "trace.npz"), ("json", "summary.json"), ("html", "map.html")):
        saved = save(page, name)
        assert saved.suggested_filename == f"molora-{suffix}"
        saved.save_as(tmp_path / suffix)
    trace = RoutingTrace.load(tmp_path / "trace.npz")
    assert len(trace) == buttons(page)
    said = "".join(text for text, phase in zip(trace.token_text, trace.phase, strict=True) if phase == ANSWER)
    assert page.locator("#log .assistant .said").first.inner_text().strip().startswith(said.strip())
    assert json.loads((tmp_path / "summary.json").read_text())["num_experts"] == trace.num_experts
    offline = open_page()
    offline.goto((tmp_path / "map.html").as_uri())
    offline.wait_for_selector(".js-plotly-plot .heatmaplayer image", state="attached")


def test_the_conversation_goes_on_and_can_be_cleared(page: Page) -> None:
    ask(page, "How is it treated?")
    expect(page.locator("#log .turn.user")).to_have_count(2)
    answered(page)
    expect(page.locator("#log .turn.assistant")).to_have_count(2)
    page.click("#clear")
    expect(page.locator("#log .example").first).to_be_visible()
    assert buttons(page) == 0


def test_the_endpoint_streams_answer_and_routing(demo_url: str) -> None:
    client = Client(demo_url, verbose=False)
    job = client.submit("What is a fever?", max_new_tokens=6, api_name="/ask")
    last = job.result(timeout=BUSY_MS / 1000)
    assert job.outputs()[-1] == last
    ids = np.load(io.BytesIO(base64.b64decode(last["routed_experts"])), allow_pickle=False)
    assert ids.dtype == np.int16
    assert ids.shape == (len(last["tokens"]), 30 * 3, 2)
    assert last["answer"].strip()
