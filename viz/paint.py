"""Measures how soon the page shows a long trace and answers a click: `python -m viz.paint`.

A made-up trace is opened in Chromium on the real page, several times; medians are printed, and nothing fails on them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from molora.errors import MoloraError
from molora.trace import ANSWER, PROMPT, TEMPLATE, RoutingTrace

if TYPE_CHECKING:
    from playwright.sync_api import Page

WORDS = ("the", " patient", " may", " have", " fever", ",", " a", " cough", " and", " short", "ness", " of", " breath")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
_WATCH = """() => {
  window.paint = { chosen: 0, sent: 0, answered: 0 };
  const input = document.querySelector('#open-file');
  input.addEventListener('change', () => { paint.chosen = performance.now(); }, true);
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) {
      if (/molora\\/incoming/.test(entry.name)) paint.sent = entry.requestStart;
      if (/gradio_api\\/(run|call|queue)/.test(entry.name)) paint.answered = entry.responseStart;
    }
  }).observe({ type: 'resource', buffered: false });
}"""
_PAINTED = """first => new Promise(done => {
  const look = () => {
    const plot = document.querySelector('#map .js-plotly-plot');
    const cells = plot?.data?.find(part => part.z);
    const there = cells?.x0 === first && plot.querySelector('.heatmaplayer image')
      && document.querySelector(`#strip button[data-t="${first}"]`)
      && document.querySelector('#overview .heatmaplayer image');
    if (!there) return requestAnimationFrame(look);
    requestAnimationFrame(() => setTimeout(() => done(performance.now())));
  };
  look();
})"""
_CLICKED = """([row]) => new Promise(done => {
  const times = {};
  const now = () => performance.now();
  document.addEventListener('pointerdown', () => { times.down = now(); }, { capture: true, once: true });
  const look = () => {
    const plot = document.querySelector('#map .js-plotly-plot');
    const mark = plot.layout.shapes?.findLast(one => one.name === 'token');
    if (times.down && !times.mark && mark?.x0 === row - 0.5) times.mark = now();
    const title = document.querySelector('#map-title')?.textContent ?? '';
    const glance = document.querySelector('#glance .js-plotly-plot')?.calcdata;
    if (times.mark && title.includes(`Token ${row} `) && glance !== window.glanceBefore) {
      const told = () => done({ mark: times.mark - times.down, all: now() - times.down });
      return requestAnimationFrame(() => setTimeout(told));
    }
    requestAnimationFrame(look);
  };
  window.glanceBefore = document.querySelector('#glance .js-plotly-plot')?.calcdata;
  look();
})"""


def smooth_trace(
    tokens: int = 4000, layers: int = 40, experts: int = 8, top_k: int = 2, prompt: int = 400, seed: int = 0
) -> RoutingTrace:
    """Random routers [T, L, 3, E] whose scores change slowly from token to token, as a model's do."""
    rng, projections = np.random.default_rng(seed), ("gate_proj", "up_proj", "down_proj")
    knots = rng.normal(size=(tokens // 16 + 2, layers, 3, experts)).astype(np.float32)
    at = np.arange(tokens) / 16
    low, share = at.astype(int), (at % 1).astype(np.float32)[:, None, None, None]
    logits = knots[low] * (1 - share) + knots[low + 1] * share  # [T, L, P, E]
    logits += rng.normal(scale=0.3, size=logits.shape).astype(np.float32)
    ids = np.argsort(-logits, axis=-1)[..., :top_k].astype(np.int16)  # [T, L, P, K]
    powers = np.exp(np.take_along_axis(logits, ids.astype(np.int64), axis=-1))
    phase = np.full(tokens, ANSWER, np.uint8)
    phase[:prompt], phase[: min(4, tokens)] = PROMPT, TEMPLATE
    return RoutingTrace(
        token_ids=np.arange(tokens, dtype=np.int32),
        token_text=[WORDS[at % len(WORDS)] for at in range(tokens)],
        phase=phase,
        router_logits=logits,
        expert_ids=ids,
        expert_weights=powers / powers.sum(axis=-1, keepdims=True),
        layer_indices=np.arange(layers, dtype=np.int16),
        projections=projections,
        meta={"model": "made up"},
    )


def opening(page: Page, file: Path, first: int) -> dict[str, float]:
    """Milliseconds of one opening: from the choice of the file, and from the server's answer, to the painted map."""
    page.click("#clear")
    page.wait_for_function("() => !document.querySelector('#strip button[data-t]')")
    page.wait_for_function("() => !document.querySelector('#map .heatmaplayer image')")
    page.set_input_files("#open-file", file)
    painted = page.evaluate(_PAINTED, first)
    times = page.evaluate("() => window.paint")
    return {
        "file chosen to painted": painted - times["chosen"],
        "sent to answered (upload and server)": times["answered"] - times["sent"],
        "server's answer to painted": painted - times["answered"],
    }


def click(page: Page, row: int, layer: int) -> dict[str, float]:
    """Milliseconds from pressing on a cell of the map to its mark, and to the details of the token."""
    spot = page.evaluate(
        """([row, layer]) => {
          const plot = document.querySelector('#map .js-plotly-plot');
          plot.scrollIntoView({ block: 'nearest' });
          const box = plot.getBoundingClientRect();
          const { xaxis, yaxis } = plot._fullLayout;
          return { x: box.left + xaxis._offset + xaxis.l2p(row), y: box.top + yaxis._offset + yaxis.l2p(layer) };
        }""",
        [row, layer],
    )
    page.mouse.move(spot["x"], spot["y"])
    page.wait_for_timeout(300)  # Plotly looks for the hovered cell first
    page.evaluate("([row, watch]) => { window.clicked = eval(watch)([row]); }", [row, _CLICKED])
    page.mouse.click(spot["x"], spot["y"])
    times = page.evaluate("() => window.clicked")
    return {"click to mark": times["mark"], "click to details": times["all"]}


def measure(url: str, file: Path, tokens: int, layers: int, times: int) -> dict[str, float]:
    """Medians in milliseconds. Raises MoloraError without Playwright or a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise MoloraError("This needs Playwright, a development dependency: pip install --group dev.") from error
    from viz.window import SIZE

    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise MoloraError("This needs Chromium. On Debian or Ubuntu: apt-get install chromium.")
    first, rng = max(tokens - SIZE, 0), np.random.default_rng(0)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(url)
        page.wait_for_selector("#map .js-plotly-plot", state="attached")
        page.evaluate(_WATCH)
        opened = [opening(page, file, first) for _ in range(times)]
        page.wait_for_timeout(1000)
        rows = [int(row) for row in rng.choice(np.arange(first + 5, tokens - 5), size=3 * times, replace=False)]
        clicked = [click(page, row, int(rng.integers(layers))) for row in rows]
        browser.close()
    return {name: median(one[name] for one in runs) for runs in (opened, clicked) for name in runs[0]}


@contextmanager
def served(port: int) -> Iterator[str]:
    """The real page with the demo model in its own process; its address. Raises MoloraError if it fails to start."""
    app = Path(__file__).parent.parent / "app.py"
    command = [sys.executable, str(app), "--model", "demo", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            said = []
            for line in server.stdout or ():
                said.append(line)
                if line.startswith("MoLoRA Lens is at "):
                    yield line.split()[-1]
                    break
            else:
                raise MoloraError(f"The page did not start: {''.join(said[-3:]).strip()}")
        finally:
            server.terminate()


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m viz.paint",
        description="Measures, in Chromium and with the demo model's page, how soon a long trace is painted and a "
        "click on its map answered. Needs the development dependencies (Playwright) and Chromium.",
    )
    parser.add_argument("--tokens", type=int, default=4000, help="of the made-up trace (default: 4000)")
    parser.add_argument("--layers", type=int, default=40, help="each with three projections (default: 40)")
    parser.add_argument("--experts", type=int, default=8, help="of each router (default: 8)")
    parser.add_argument("--times", type=int, default=5, help="openings; three clicks for each (default: 5)")
    parser.add_argument("--port", type=int, default=7899, help="for the page (default: 7899)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="writes the numbers there, too")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    try:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "trace.npz"
            smooth_trace(options.tokens, options.layers, options.experts).save(file)
            with served(options.port) as url:
                found = measure(url, file, options.tokens, options.layers, options.times)
            megabytes = file.stat().st_size / 1e6
    except MoloraError as error:
        print(f"python -m viz.paint: {error}", file=sys.stderr)
        return 2
    shape = f"{options.tokens} tokens x {options.layers} layers x 3 projections, {options.experts} experts"
    print(f"{shape}; a file of {megabytes:.1f} MB; {os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}")
    print("\n".join(f"{name:40s} {value:8.0f} ms" for name, value in found.items()))
    if options.json is not None:
        told = {"trace": shape, "megabytes": round(megabytes, 1), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        options.json.write_text(json.dumps(told | {"milliseconds": found}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
