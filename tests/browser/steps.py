"""What the tests do on the page, named."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Download, Page

BUSY_MS = 90_000
"""Patience for an answer of the demo model on a machine that does other work as well."""

ANSWER_TOKENS = 64
"""The most in an answer of the demo model: enough for several drawings while it comes. The last is never read."""


def ask(page: Page, question: str) -> None:
    """Types the question and presses Enter."""
    page.fill("#prompt textarea", question)
    page.press("#prompt textarea", "Enter")


def answered(page: Page) -> None:
    """Waits until the answer stands: Send is back, and the map has its hover texts."""
    page.wait_for_selector("#log .turn.user")
    page.wait_for_selector("#send", state="visible", timeout=BUSY_MS)
    page.wait_for_function(
        "() => document.querySelector('#map .js-plotly-plot')?.data?.some(part => part.customdata)", timeout=BUSY_MS
    )


def save(page: Page, kind: str) -> Download:
    """Chooses a kind of file (npz, csv, ...) from the download menu."""
    with page.expect_download() as saved:
        page.click("#download")
        page.click(f"#save-{kind}")
    return saved.value


def columns(page: Page) -> int:
    """Tokens that the map on the screen has."""
    return int(
        page.evaluate(
            """() => {
              const plot = document.querySelector('#map .js-plotly-plot');
              const cells = (plot?.calcdata || []).find(part => part[0].z);
              return cells ? cells[0].z[0].length : 0;
            }"""
        )
    )


def buttons(page: Page) -> int:
    return page.locator("#strip button[data-t]").count()


def click_cell(page: Page, token: int, layer: int) -> None:
    """Clicks the middle of a cell in the map's first block."""
    spot: dict[str, Any] = page.evaluate(
        """([token, layer]) => {
          const plot = document.querySelector('#map .js-plotly-plot');
          const box = plot.getBoundingClientRect();
          const { xaxis, yaxis } = plot._fullLayout;
          return { x: box.left + xaxis._offset + xaxis.l2p(token), y: box.top + yaxis._offset + yaxis.l2p(layer) };
        }""",
        [token, layer],
    )
    page.mouse.move(spot["x"], spot["y"])
    page.wait_for_timeout(150)  # Plotly looks for the hovered point first, and throttles that
    page.mouse.click(spot["x"], spot["y"])
