"""Take an answer home and bring it back: every file of the menu, the report offline, traces opened again."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from molora.trace import RoutingTrace
from tests.browser.conftest import PHONE, OpenPage, Tab
from tests.browser.steps import answered, ask, buttons, columns, save
from tests.fakes import FakeEngine, fake_trace
from viz.report import trace_of

# Gradio's queue uses an option of pandas that pandas has deprecated.
pytestmark = pytest.mark.filterwarnings("default")

HOSTILE = ["</script><script>alert(1)</script>", " <img src=https://elsewhere.example/a.png>", " =1+1"]


@pytest.fixture
def page(tab: Tab, fake: FakeEngine) -> Iterator[Page]:
    """The page with an answer full of hostile text."""
    tab.page.click("#clear")
    tab.page.get_by_role("tab", name="Map").click()
    tab.page.locator("#log .example").first.wait_for()
    fake.play(answer=HOSTILE * 3)
    ask(tab.page, "What is <b>this</b>?")
    answered(tab.page)
    yield tab.page
    tab.check()


def bring(page: Page, name: str, content: bytes, where: str = "open") -> None:
    page.set_input_files(f"#{where}-file", {"name": name, "mimeType": "application/octet-stream", "buffer": content})


def packed(trace: RoutingTrace) -> bytes:
    file = io.BytesIO()
    trace.save(file)
    return file.getvalue()


def test_every_file_of_the_menu_arrives(page: Page, tmp_path: Path) -> None:
    for kind, name in (("npz", "trace.npz"), ("csv", "table.csv"), ("json", "summary.json"), ("report", "report.html"),
                       ("html", "map.html"), ("svg", "map.svg"), ("png", "map.png")):  # fmt: skip
        saved = save(page, kind)
        assert saved.suggested_filename == f"molora-{name}"
        saved.save_as(tmp_path / name)
    trace = RoutingTrace.load(tmp_path / "trace.npz")
    assert len(trace) == buttons(page)
    table = pd.read_csv(tmp_path / "table.csv", dtype={"text": str}, keep_default_na=False)
    assert len(table) == trace.expert_ids.size
    assert not table["text"].str.match(r"\s*[=+@-]").any()
    assert json.loads((tmp_path / "summary.json").read_text())["num_tokens"] == len(trace)
    assert (tmp_path / "map.svg").read_text().startswith("<svg")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert trace_of((tmp_path / "report.html").read_text()).token_text == trace.token_text


def test_the_report_works_offline_and_opens_again(page: Page, open_page: OpenPage, tmp_path: Path) -> None:
    save(page, "report").save_as(tmp_path / "report.html")
    count = buttons(page)
    offline = open_page(offline=True)
    offline.goto((tmp_path / "report.html").as_uri())
    for name in ("map", "token", "load"):
        offline.wait_for_selector(f"#{name} .main-svg", state="attached")
    offline.wait_for_selector("#map .heatmaplayer image", state="attached")
    assert offline.locator(".user .said").inner_text() == "What is <b>this</b>?"
    assert offline.locator(".assistant .said").text_content() == "".join(HOSTILE * 3)
    offline.locator("button[data-t]").nth(2).click()
    expect(offline.locator("#token-line")).to_contain_text("token 2, prompt")
    page.click("#clear")
    page.locator("#log .example").first.wait_for()
    bring(page, "molora-report.html", (tmp_path / "report.html").read_bytes())
    expect(page.locator("#strip button[data-t]")).to_have_count(count)
    assert page.locator("#log .user .said").inner_text().startswith("What is <b>this</b>?")
    expect(page.locator("#log .note")).to_contain_text("Imported from molora-report.html: a trace of the model fake")
    expect(page.locator("#summary.block")).to_contain_text("Imported, model fake")


def test_the_report_tells_what_an_edit_and_a_second_run_changed(
    page: Page, fake: FakeEngine, open_page: OpenPage, tmp_path: Path
) -> None:
    page.get_by_role("tab", name="Edit").click()
    page.click("#edit-kind input")
    page.get_by_role("option", name="uniform gates").click()
    page.click("#edit-add")
    expect(page.locator("#edit-rules li")).to_have_text("equal weights")
    fake.play(answer=[" Otherwise", "."])
    page.click("#edit-again")
    expect(page.locator("#log .turn.assistant .mark")).to_contain_text("edited: equal weights")
    page.wait_for_selector("#send", state="visible")
    page.click("#edit-undo")
    page.get_by_role("tab", name="Compare").click()
    bring(page, "b.npz", packed(fake_trace(9, layers=30)), "second")
    expect(page.locator("#compare-title.block")).to_contain_text("file b.npz")
    page.get_by_role("tab", name="Map").click()
    save(page, "report").save_as(tmp_path / "report.html")
    offline = open_page(offline=True)
    offline.goto((tmp_path / "report.html").as_uri())
    for name in ("edit-changes", "compare-map"):
        offline.wait_for_selector(f"#{name} .main-svg", state="attached")
    expect(offline.get_by_role("heading", name="The first answer beside the edited one")).to_be_visible()
    expect(offline.locator(".difference ins").first).to_contain_text("Otherwise")
    expect(offline.get_by_role("heading", name="Second run: file b.npz")).to_be_visible()
    assert offline.evaluate("() => document.scrollingElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_readable_on_a_phone(page: Page, open_page: OpenPage, tmp_path: Path, scheme: str) -> None:
    save(page, "report").save_as(tmp_path / "report.html")
    phone = open_page(viewport=PHONE, has_touch=True, is_mobile=True, color_scheme=scheme)
    phone.goto((tmp_path / "report.html").as_uri())
    phone.wait_for_selector("#load .main-svg", state="attached")
    assert phone.evaluate("() => document.scrollingElement.scrollWidth") <= 390
    ground, ink = phone.evaluate(
        "() => [getComputedStyle(document.body).backgroundColor, document.querySelector('#map')._fullLayout.font.color]"
    )
    assert (ground, ink) == {"light": ("rgb(255, 255, 255)", "#5b5b63"), "dark": ("rgb(24, 24, 27)", "#a8a8b0")}[scheme]


def test_a_trace_of_another_size_is_explored_and_the_models_own_comes_back(page: Page, fake: FakeEngine) -> None:
    other = fake_trace(50, layers=6, projections=("mlp",), experts=20, top_k=4)
    bring(page, "other.npz", packed(other))
    expect(page.locator("#strip button[data-t]")).to_have_count(50)
    page.wait_for_function("() => document.querySelector('#map .js-plotly-plot')?.data?.filter(p => p.z).length === 1")
    assert columns(page) == 50
    expect(page.get_by_label("Colours of experts 0 to 19")).to_be_visible()
    expect(page.locator("#projection label")).to_have_count(1)
    page.fill("#layers input", "2-4")
    page.press("#layers input", "Enter")
    page.wait_for_function(
        "() => document.querySelector('#map .js-plotly-plot')?.data?.find(part => part.z)?.y.join() === '2,3,4'"
    )
    page.locator("#colour label", has_text="entropy").click()
    expect(page.locator("#map .infolayer")).to_contain_text("entropy")
    page.locator("#strip button[data-t]").nth(20).click()
    page.get_by_role("tab", name="Token").click()
    expect(page.locator("#token-title.block")).to_contain_text("Token 20")
    page.get_by_role("tab", name="Load").click()
    expect(page.locator("#load .infolayer")).to_contain_text("answer, 42 tokens")
    page.get_by_role("tab", name="Map").click()
    page.locator("#colour label", has_text="top expert").click()
    fake.play()
    ask(page, "And now yours")
    answered(page)
    expect(page.locator("#projection label")).to_have_count(4)
    expect(page.get_by_label("Colours of experts 0 to 7")).to_be_visible()
    assert page.input_value("#layers input") == "all"
    assert all("w20" not in message["content"] for message in fake.asked[0])
    page.locator("#projection label", has_text="up").click()
    page.wait_for_function(
        "() => document.querySelector('#map .js-plotly-plot')?.data?.find(part => part.z)?.y.length === 30"
    )
    page.locator("#projection label", has_text="all").click()


def test_a_bad_file_is_said_and_nothing_is_lost(page: Page) -> None:
    count = buttons(page)
    for name, content in (("a.npz", b"PK\x03\x04 nothing"), ("a.html", b"<html></html>"), ("a.npz", b"")):
        bring(page, name, content)
        expect(page.get_by_role("alert")).to_contain_text(name)
        page.evaluate("() => document.querySelector('#notice [role=alert]').textContent = ''")
        assert buttons(page) == count
        expect(page.locator("#log .user")).to_have_count(1)


def test_a_report_of_anyone_runs_nothing_on_the_page(page: Page) -> None:
    trace = fake_trace(
        ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "${alert(1)}"], template=0, prompt=2
    )
    trace.meta = {
        "model": "<img src=x onerror=alert(1)>",
        "edit": {"words": "<img src=https://elsewhere.example/b.png>"},
    }
    block = '<script type="application/octet-stream;base64" id="molora-trace">'
    bring(page, "<img src=x>.html", f"{block}{base64.b64encode(packed(trace)).decode()}</script>".encode())
    expect(page.locator("#strip button[data-t]")).to_have_count(3)
    assert page.locator("#log img, #summary img, #strip img, #map img").count() == 0
    expect(page.locator("#log .mark").first).to_contain_text("edited: <img src=https://elsewhere.example/b.png>")


def test_the_menu_works_by_keyboard(page: Page) -> None:
    page.focus("#download")
    page.keyboard.press("Enter")
    expect(page.locator("#download")).to_have_attribute("aria-expanded", "true")
    expect(page.locator("#save-report")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#save-npz")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#download-menu")).to_be_hidden()
    expect(page.locator("#download")).to_be_focused()
    page.keyboard.press("Enter")
    page.mouse.click(700, 300)
    expect(page.locator("#download-menu")).to_be_hidden()


def test_the_menu_fits_a_phone(fake: FakeEngine, open_stage: OpenPage) -> None:
    phone = open_stage(viewport=PHONE, has_touch=True, is_mobile=True)
    phone.tap("#download")
    box = phone.locator("#download-menu").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


def test_an_answer_of_the_demo_is_kept_and_brought_back(demo_url: str, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(demo_url)
    ask(page, "What is a fever?")
    answered(page)
    count, line = buttons(page), page.locator("#summary").inner_text()
    save(page, "report").save_as(tmp_path / "report.html")
    save(page, "csv").save_as(tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    assert len(table) == count * 30 * 3 * 2
    again = open_page(demo_url)
    bring(again, "report.html", (tmp_path / "report.html").read_bytes())
    expect(again.locator("#summary.block")).to_contain_text("Imported, model demo")
    assert buttons(again) == count
    assert again.locator("#summary").inner_text().endswith(line)
