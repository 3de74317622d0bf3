"""Every view of the page as a picture for the README: one visitor's way through the tabs, on the real demo model.

The way is that of the README's question, what one expert does.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize

QUESTION = "What are the symptoms of asthma?"
WORD = "breath"
"""In the answer; the token that is read in depth"""
EXPERT = 0
PATIENCE_MS = 300_000
_DESKTOP, _PHONE = ViewportSize(width=1440, height=900), ViewportSize(width=390, height=844)


def photograph(browser: Browser, address: str, folder: Path) -> None:
    """Writes page.png, the tabs' pictures, the page on a dark phone and in Chinese below `folder`."""
    folder.mkdir(exist_ok=True)
    page = browser.new_page(viewport=_DESKTOP, locale="en-GB")
    _ask(page, address)
    page.screenshot(path=folder / "page.png")
    routing = page.locator("#routing")

    page.fill("#seek", WORD)
    page.press("#seek", "Enter")
    _open(page, "Token")
    routing.screenshot(path=folder / "token.png")

    _open(page, "Load")
    page.get_by_role("button", name=f"Expert {EXPERT}", exact=True).click()
    page.locator("#expert-tokens table").nth(1).wait_for()
    _settle(page)
    routing.screenshot(path=folder / "load.png")

    _open(page, "Compare")
    page.click("#compare-run")
    page.locator("#compare-text .scroller").wait_for(timeout=PATIENCE_MS)
    _settle(page)
    routing.screenshot(path=folder / "compare.png")

    _open(page, "Atlas")
    routing.screenshot(path=folder / "atlas-tab.png")

    _open(page, "Edit")
    page.click("#edit-sweep")
    _bars(page, "edit-effects", 8)
    page.click("#edit-experts input")
    page.get_by_role("option", name=str(EXPERT), exact=True).click()
    page.keyboard.press("Escape")
    page.click("#edit-add")
    page.click("#edit-again")
    _bars(page, "edit-changes", 2)
    page.wait_for_selector("#send", state="visible", timeout=PATIENCE_MS)
    _settle(page)
    routing.screenshot(path=folder / "edit.png")
    page.close()

    phone = browser.new_page(viewport=_PHONE, color_scheme="dark", locale="en-GB", has_touch=True)
    _ask(phone, address)
    phone.locator("#routing").scroll_into_view_if_needed()
    _settle(phone)
    phone.screenshot(path=folder / "phone.png", full_page=True)
    phone.close()

    chinese = browser.new_page(viewport=_DESKTOP, locale="zh-CN")
    _ask(chinese, address)
    chinese.screenshot(path=folder / "page-zh.png")
    chinese.close()


def _ask(page: Page, address: str) -> None:
    page.goto(address)
    page.fill("#prompt textarea", QUESTION)
    page.press("#prompt textarea", "Enter")
    page.wait_for_selector("#stop", state="visible")
    page.wait_for_selector("#send", state="visible", timeout=PATIENCE_MS)
    _settle(page)


def _open(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab).click()
    _settle(page)


def _bars(page: Page, name: str, least: int) -> None:
    page.wait_for_function(
        "([name, least]) => document.querySelector(`#${name} .js-plotly-plot`)?.calcdata?.[0]?.length >= least",
        arg=[name, least],
        timeout=PATIENCE_MS,
    )


def _settle(page: Page) -> None:
    """A figure is drawn after its data is there."""
    page.wait_for_timeout(1500)
