"""The page of a model whose routers are its own: a tiny random Mixtral, asked, read, edited and compared."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenPage
from tests.browser.steps import BUSY_MS, answered, ask, buttons, click_cell, columns

# Gradio's queue uses an option of pandas that pandas has deprecated.
pytestmark = pytest.mark.filterwarnings("default")


def test_a_mixture_of_its_own_is_read_edited_and_compared(native_url: str, open_page: OpenPage) -> None:
    page = open_page(native_url)
    for chip in ("4 experts, top-2", "2 layers"):
        expect(page.locator("#head")).to_contain_text(chip)
    expect(page.locator("#projection label")).to_have_text(["mlp"])
    ask(page, "What is a fever?")
    answered(page)
    assert columns(page) == buttons(page) > 0
    click_cell(page, 4, 1)
    expect(page.locator("#map-title.block")).to_contain_text("Token 4")
    expect(page.locator("#edit-here")).to_contain_text("in layer 1, mlp")
    page.click("#edit-here")
    expect(page.get_by_role("alert")).to_contain_text("Added: without expert")
    page.get_by_role("tab", name="Edit").click()
    page.click("#edit-again")
    expect(page.locator("#summary.block")).to_contain_text("Edited: without expert", timeout=BUSY_MS)
    expect(page.locator("#edit-changes .js-plotly-plot")).to_contain_text("nats a token")
    page.get_by_role("tab", name="Load").click()
    page.get_by_role("button", name="Expert 1", exact=True).click()
    expect(page.locator("#expert-title.block")).to_contain_text("Expert 1")
    page.get_by_role("tab", name="Atlas").click()
    expect(page.locator("#atlas")).to_contain_text("There is no atlas of this model yet")
