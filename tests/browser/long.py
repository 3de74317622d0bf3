"""A long trace, brought to the page, and what is chosen of it."""

from __future__ import annotations

import io
from collections.abc import Iterator

from playwright.sync_api import Page, expect

from molora.trace import RoutingTrace
from tests.browser.conftest import Tab
from tests.fakes import fake_trace
from viz.window import SIZE

WORDS = [" It", " is", " dia", "bet", "es", ".", " Not", " DIABETES", "?"]
TOKENS = 700


def long_trace() -> RoutingTrace:
    texts = [f" w{row}" for row in range(TOKENS - len(WORDS))]
    return fake_trace([*texts[:100], *WORDS, *texts[100:]], layers=30, template=3, prompt=300)


def long_page(tab: Tab) -> Iterator[Page]:
    """The page with that trace out of a file, of which the first 303 tokens are template and prompt."""
    tab.page.get_by_role("tab", name="Map").click()
    tab.page.locator("#show label", has_text="both").click()
    clear(tab.page)
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
