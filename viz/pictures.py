"""`python -m viz.pictures`: makes the pictures of README and model card, from the running page and the real demo model.

Needs Playwright and Chromium, as the tests do.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from playwright.sync_api import Browser, sync_playwright

from app import build
from molora.atlas.analysis import information
from molora.atlas.data import ATLASES, Atlas
from molora.errors import MoloraError
from molora.loading import load
from molora.training.card import stages
from viz.figures.atlas import task_map
from viz.figures.loss_curve import loss_curve
from viz.figures.results import suite_results
from viz.figures.speed import speed
from viz.serve import launch
from viz.views import photograph

ASSETS = Path(__file__).parent.parent / "assets"
_FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def main() -> None:
    chromium = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if chromium is None:
        sys.exit("viz.pictures: Chromium is missing; install your system's package.")
    try:
        engine = load("demo")
        atlas = Atlas.load(ATLASES / "demo" / "atlas.npz")
    except MoloraError as error:
        sys.exit(f"viz.pictures: {error}")
    address = launch(build(engine), host="127.0.0.1", port=None, block=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        photograph(browser, address, ASSETS / "pictures")
        _training(browser, ASSETS / "demo")
        _atlas(browser, atlas, ASSETS / "pictures" / "atlas.png")
        if (results := ASSETS / "results.json").exists():
            _figure(browser, suite_results(json.loads(results.read_text())), 420, ASSETS / "pictures" / "results.png")
        if (measured := ASSETS / "bench.json").exists():
            _figure(browser, speed(json.loads(measured.read_text())), 360, ASSETS / "pictures" / "speed.png")
        browser.close()


def _training(browser: Browser, folder: Path) -> None:
    losses = _losses(json.loads((folder / "training.json").read_text()))
    _figure(browser, loss_curve(losses), 320, folder / "training.png")


def _atlas(browser: Browser, atlas: Atlas, path: Path) -> None:
    """The router that tells most about the task, on prompts."""
    told = information(atlas, "prompt").nmi  # [L, P]
    layer, at = np.unravel_index(told.argmax(), told.shape)
    best = atlas.select(layers=[int(atlas.layer_indices[layer])], projections=[atlas.projections[at]])
    _figure(browser, task_map(best, part="prompt"), 560, path)


def _figure(browser: Browser, figure: go.Figure, height: int, path: Path) -> None:
    page = browser.new_page(viewport={"width": 760, "height": height}, device_scale_factor=2)
    figure.update_layout(paper_bgcolor="white", width=760, height=height)
    page.set_content(figure.to_html(include_plotlyjs=True, config={"displayModeBar": False}))
    page.locator(".main-svg").first.wait_for()
    page.locator(".js-plotly-plot").screenshot(path=path)
    page.close()


def _losses(training: dict[str, Any]) -> list[tuple[int, float]]:
    """Of all stages, one after the other."""
    losses: list[tuple[int, float]] = []
    done = 0
    for stage in stages(training):
        losses += ((done + step, loss) for step, loss in stage["losses"])
        done += stage["settings"]["steps"]
    return losses


if __name__ == "__main__":
    main()
