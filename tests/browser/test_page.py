"""The page under written answers: hostile text, stop, errors, zoom, small screens, dark mode."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from molora.errors import MoloraError
from tests.browser.conftest import PHONE, OpenPage, Tab, opened
from tests.browser.steps import answered, ask, click_cell, columns, save
from tests.fakes import FakeEngine
from viz.chat import MAX_PROMPT_CHARS

# Gradio's queue uses an option of pandas that pandas has deprecated.
pytestmark = pytest.mark.filterwarnings("default")

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    " <img src=https://elsewhere.example/a.png>",
    " ![a](https://elsewhere.example/b.png)",
    "${alert(1)}",
    "{{alert(1)}}",
    "`",
    "</script><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "<a href='https://elsewhere.example'>b</a>",
    "\n",
]


@pytest.fixture(scope="module")
def tab(browser: Browser, stage: tuple[FakeEngine, str]) -> Iterator[Tab]:
    """One desktop page for all tests that do not need their own: loading it is what takes time."""
    with opened(browser, stage[1]) as shared:
        yield shared


@pytest.fixture
def page(tab: Tab, fake: FakeEngine) -> Iterator[Page]:
    """The page as a newcomer sees it, and checked after each test."""
    fake.play()
    tab.page.click("#clear")
    tab.page.get_by_role("tab", name="Map").click()
    tab.page.locator("#log .example").first.wait_for()
    yield tab.page
    if tab.page.locator("#stop").is_visible():
        tab.page.click("#stop")
        tab.page.wait_for_selector("#send", state="visible")
    tab.check()


def overflow(page: Page) -> list[int]:
    """How many pixels the page is wider and higher than its window."""
    size: list[int] = page.evaluate(
        "() => { const root = document.scrollingElement;"
        " return [root.scrollWidth - innerWidth, root.scrollHeight - innerHeight]; }"
    )
    return size


def test_hostile_text_is_shown_and_never_run(page: Page, fake: FakeEngine) -> None:
    fake.play(answer=HOSTILE)
    question = "".join(HOSTILE[:-1])
    ask(page, question)
    answered(page)
    assert page.locator("#log .user .said").inner_text() == question
    assert page.locator("#log .assistant .said").text_content() == "".join(HOSTILE)
    assert page.locator("#log img, #strip img, #log a, #strip a, #log script").count() == 0
    shown = page.locator("#strip button[data-t]").all_inner_texts()
    for text in HOSTILE[:-2]:
        assert text.strip() in shown
    image = page.locator("#strip button", has_text="onerror=").last
    image.click()
    expect(page.locator("#map-title.block")).to_contain_text("<img src=x onerror=alert(1)>")
    click_cell(page, int(image.get_attribute("data-t") or ""), 2)
    expect(page.locator("#map .hoverlayer")).to_contain_text("<img src=x onerror=alert(1)>")
    page.get_by_role("tab", name="Token").click()
    expect(page.locator("#token-title.block")).to_contain_text("<img src=x onerror=alert(1)>")


def test_escape_stops_and_what_was_said_stays(page: Page, fake: FakeEngine) -> None:
    fake.play(answer=[" word"] * 400, seconds_a_token=0.05)
    ask(page, "Go on and on")
    page.wait_for_function("() => document.querySelectorAll('#strip button').length > 8")
    page.keyboard.press("Escape")
    answered(page)
    expect(page.locator("#log .note")).to_have_text("Stopped.")
    said = page.locator("#log .assistant .said").inner_text().split()
    assert 2 <= len(said) < 200
    assert fake.closed == 1


def test_leaving_the_page_stops_the_model(fake: FakeEngine, open_stage: OpenPage) -> None:
    fake.play(answer=[" word"] * 2000, seconds_a_token=0.02)
    page = open_stage()
    ask(page, "Go on and on")
    page.wait_for_selector("#strip button[data-t]")
    page.close()
    for _ in range(100):
        if fake.closed:
            break
        time.sleep(0.1)
    assert fake.closed == 1


def test_choices_and_zoom_hold_while_the_answer_streams(page: Page, fake: FakeEngine) -> None:
    fake.play(answer=[" word"] * 500, seconds_a_token=0.1)
    ask(page, "Slowly please")
    page.wait_for_function("() => document.querySelectorAll('#strip button').length > 6")
    box = page.locator("#map .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + box["height"] - 5, steps=6)
    page.mouse.up()
    zoomed = "() => document.querySelector('#map .js-plotly-plot')._fullLayout.xaxis.range.map(Math.round)"
    before, count = page.evaluate(zoomed), columns(page)
    assert before[1] - before[0] < 100
    page.locator("#colour label", has_text="its weight").click()
    page.wait_for_function(f"() => document.querySelectorAll('#strip button').length > {count + 5}")
    assert page.evaluate(zoomed) == before
    expect(page.locator("#map .infolayer")).to_contain_text("weight")
    assert page.locator("#stop").is_visible()
    page.keyboard.press("Escape")
    answered(page)
    assert page.evaluate(zoomed) == before


def test_what_cannot_be_asked_stays_in_the_box(page: Page, fake: FakeEngine) -> None:
    fake.play(answer=[" word"] * 500, seconds_a_token=0.1)
    ask(page, "   ")
    expect(page.get_by_role("alert")).to_have_text("Type a question first.")
    page.wait_for_timeout(500)
    expect(page.locator("#send")).to_have_text("Send")
    enormous = "long " * (MAX_PROMPT_CHARS // 5 + 1)
    ask(page, enormous)
    expect(page.get_by_role("alert")).to_contain_text("Shorten it")
    assert page.input_value("#prompt textarea") == enormous
    page.click("#retry")
    expect(page.get_by_role("alert")).to_contain_text("no question")
    page.click("#download")
    page.click("#save-npz")
    expect(page.get_by_role("alert")).to_contain_text("nothing to save")
    ask(page, "First")
    page.wait_for_selector("#strip button[data-t]")
    ask(page, "Second, too early")
    expect(page.get_by_role("alert")).to_contain_text("still being written")
    assert page.input_value("#prompt textarea") == "Second, too early"
    page.click("#stop")
    answered(page)
    assert len(fake.asked) == 1


def test_what_the_engine_refuses_is_said_in_the_conversation(page: Page, fake: FakeEngine) -> None:
    fake.play(error=MoloraError("The conversation has 9,000 tokens. Clear it."))
    page.locator("#log .example").first.click()
    expect(page.locator("#log .note")).to_have_text("The conversation has 9,000 tokens. Clear it.")
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator("#log .user")).to_have_count(1)


def test_two_visitors_do_not_mix(page: Page, fake: FakeEngine, open_stage: OpenPage) -> None:
    fake.play(answer=[" word"] * 6, seconds_a_token=0.1)
    one, two = page, open_stage()
    ask(one, "This is one")
    ask(two, "And here two")
    answered(one)
    answered(two)
    assert one.locator("#log .user .said").all_inner_texts() == ["This is one"]
    assert two.locator("#log .user .said").all_inner_texts() == ["And here two"]
    assert one.locator("#strip button[data-t]").nth(1).inner_text() == "This"
    assert two.locator("#strip button[data-t]").nth(1).inner_text() == "And"


def test_everything_stands_in_a_desktop_window(page: Page, fake: FakeEngine) -> None:
    fake.play(answer=[" word", "\n"] * 200)
    ask(page, "Long answer please")
    answered(page)
    for tab in ("Map", "Token", "Load", "Atlas"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_selector(f"#{tab.lower()} .js-plotly-plot")
        assert overflow(page) == [0, 0]
    assert page.locator("#atlas").evaluate("at => at.scrollHeight - at.clientHeight") <= 0
    for inside in (
        "#summary.block",
        "#open-trace",
        "#download",
        "#send",
        "#foot.block",
        "#task-map .plot",
        "#task-nmi .plot",
    ):
        box = page.locator(inside).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900


def test_a_phone_stacks_the_columns_and_scrolls_one_way(fake: FakeEngine, open_stage: OpenPage) -> None:
    fake.play(answer=[" word"] * 120)
    page = open_stage(viewport=PHONE, has_touch=True, is_mobile=True)
    ask(page, "On a small screen")
    answered(page)
    assert overflow(page)[0] == 0
    send, strip = page.locator("#send").bounding_box(), page.locator("#strip.block").bounding_box()
    assert send is not None
    assert strip is not None
    assert strip["y"] > send["y"] + send["height"]
    assert strip["x"] + strip["width"] <= 390
    for button in ("#open-trace", "#download", "#colour label:last-of-type"):
        box = page.locator(button).bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390
    for tab in ("Token", "Load", "Atlas"):
        page.get_by_role("tab", name=tab).tap()
        page.wait_for_selector(f"#{tab.lower()} .js-plotly-plot")
        assert overflow(page)[0] == 0


def test_the_atlas_follows_the_choices_and_tells_what_is_under_the_mouse(page: Page, fake: FakeEngine) -> None:
    fake.play(answer=[" word"] * 9)
    page.get_by_role("tab", name="Atlas").click()
    expect(page.locator("#task-place .infolayer")).to_contain_text("Ask something")
    ask(page, "Where would this sit?")
    page.wait_for_selector("#send", state="visible")
    expect(page.locator("#atlas-title.block")).to_contain_text("4 tasks, 20 held-out prompts")
    expect(page.locator("#task-place .infolayer")).to_contain_text("likeness of the prompt")
    page.wait_for_function("() => document.querySelector('#task-nmi .js-plotly-plot')?.data?.length === 4")
    page.locator("#projection label", has_text="up").click()
    page.wait_for_function("() => document.querySelector('#task-nmi .js-plotly-plot')?.data?.length === 2")
    page.locator("#show label", has_text="answer").click()
    expect(page.locator("#task-place .infolayer")).to_contain_text("likeness of the answer")
    box = page.locator("#task-map .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 16, box["y"] + box["height"] * 1.5 / 7)  # expert 0, the second line
    expect(page.locator("#task-map .hoverlayer")).to_contain_text("ask (generation), expert 0")
    assert save(page, "html").suggested_filename == "molora-atlas.html"
    page.locator("#projection label", has_text="all").click()
    page.locator("#show label", has_text="both").click()


def test_everything_can_be_reached_with_the_keyboard(page: Page, fake: FakeEngine) -> None:
    fake.play()
    ask(page, "By keyboard")
    answered(page)
    page.focus("#prompt textarea")
    seen: set[str] = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate(
                "() => document.activeElement.closest('#send, #retry, #clear, #layers, #projection, #show, #colour,"
                " #strip, .tabs, #open-trace, #download, #language, #theme-toggle')?.id || 'tabs'"
            )
        )
    expected = "send retry clear layers projection show colour strip tabs open-trace download language theme-toggle"
    assert set(expected.split()) <= seen


def test_light_and_dark_change_the_figures_too_and_are_remembered(page: Page) -> None:
    ask(page, "Turn the light off")
    answered(page)
    ink = "() => document.querySelector('#map .js-plotly-plot')._fullLayout.font.color"
    light = page.evaluate(ink)
    page.click("#theme-toggle")
    page.wait_for_function(f"() => ({ink})() !== '{light}'")
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in re.findall(r"\d+", ground)[:3]) < 60
    assert overflow(page) == [0, 0]
    page.reload()
    page.wait_for_selector("#log .example")
    page.wait_for_function("() => document.body.classList.contains('dark')")
    page.click("#theme-toggle")
