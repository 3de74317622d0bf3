"""The page before its model is loaded, as a visitor sees it who is there early."""

from __future__ import annotations

from dataclasses import replace

from playwright.sync_api import expect

import app
from tests.browser.conftest import OpenPage, free_port
from tests.fakes import INFO, FakeEngine
from viz.coming import Coming
from viz.serve import launch


def test_a_question_asked_early_is_answered_when_the_model_is_there(open_page: OpenPage) -> None:
    coming, fake = Coming(replace(INFO, quantization="", dtype="", device="")), FakeEngine()
    page = app.build(coming)
    try:
        early = open_page(launch(page, host="127.0.0.1", port=free_port(), block=False))
        chips = early.locator("#head .chips")
        expect(chips).to_contain_text("loading…")
        expect(chips).not_to_contain_text("float32")
        early.locator("#language").click()
        expect(chips).to_contain_text("加载中…")
        early.locator("#prompt textarea").fill("Why?")
        early.locator("#prompt textarea").press("Enter")
        expect(early.locator("#log")).to_contain_text("正在等待模型…")
        expect(early.locator("#stop")).to_be_visible()
        coming.arrive(fake.engine)
        expect(early.locator("#log")).to_contain_text("It depends.")
        expect(chips).to_contain_text("float32")
        expect(chips).not_to_contain_text("加载中…")
        late = open_page(page.local_url)
        expect(late.locator("#head .chips")).to_contain_text("float32")
        expect(late.locator("#head .coming")).to_have_count(0)
    finally:
        page.close(verbose=False)


def test_a_question_can_be_taken_back_while_the_model_loads(open_page: OpenPage) -> None:
    coming, fake = Coming(replace(INFO, quantization="", dtype="", device="")), FakeEngine()
    page = app.build(coming)
    try:
        early = open_page(launch(page, host="127.0.0.1", port=free_port(), block=False))
        early.locator("#prompt textarea").fill("Why?")
        early.locator("#prompt textarea").press("Enter")
        early.locator("#stop").click()
        expect(early.locator("#send")).to_be_visible()
        coming.arrive(fake.engine)
        expect(early.locator("#head .chips")).to_contain_text("float32")
        assert fake.asked == []
        early.locator("#retry").click()
        expect(early.locator("#log")).to_contain_text("It depends.")
    finally:
        page.close(verbose=False)
