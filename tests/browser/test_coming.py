"""The page before its model is loaded, as a visitor sees it who is there early."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import expect

import app
from tests.browser.conftest import OpenPage, free_port
from tests.fakes import INFO, FakeEngine
from viz.coming import Coming
from viz.serve import launch

AHEAD = replace(INFO, quantization="", dtype="", device="")

Early = tuple[Coming, FakeEngine, str]


@pytest.fixture
def early() -> Iterator[Early]:
    """What is to come, the engine that it then is, and the address of the page. Tests name it before `open_page`, so
    that the page closes before the server does."""
    coming = Coming(AHEAD)
    page = app.build(coming)
    yield coming, FakeEngine(), launch(page, host="127.0.0.1", port=free_port(), block=False)
    page.close(verbose=False)


def test_a_question_asked_early_is_answered_when_the_model_is_there(early: Early, open_page: OpenPage) -> None:
    coming, fake, url = early
    page = open_page(url)
    chips, log = page.locator("#head .chips"), page.locator("#log")
    expect(chips).to_contain_text("loading…")
    expect(chips).not_to_contain_text("float32")
    page.locator("#language").click()
    expect(chips).to_contain_text("加载中…")
    page.locator("#prompt textarea").fill("Why?")
    page.locator("#prompt textarea").press("Enter")
    expect(log).to_contain_text("正在等待模型…")
    expect(page.locator("#stop")).to_be_visible()
    coming.arrive(fake.engine)
    expect(log).to_contain_text("It depends.")
    expect(chips).to_contain_text("float32")
    expect(chips).not_to_contain_text("加载中…")
    late = open_page(url)
    expect(late.locator("#head .chips")).to_contain_text("float32")
    expect(late.locator("#head .coming")).to_have_count(0)


def test_a_question_can_be_taken_back_while_the_model_loads(early: Early, open_page: OpenPage) -> None:
    coming, fake, url = early
    page = open_page(url)
    page.locator("#prompt textarea").fill("Why?")
    page.locator("#prompt textarea").press("Enter")
    page.locator("#stop").click()
    expect(page.locator("#send")).to_be_visible()
    coming.arrive(fake.engine)
    expect(page.locator("#head .chips")).to_contain_text("float32")
    assert fake.asked == []
    page.locator("#retry").click()
    expect(page.locator("#log")).to_contain_text("It depends.")
