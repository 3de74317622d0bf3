"""A real Chromium that tolerates no request beyond this machine and no error in its console."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Browser, Dialog, Page, Request, expect, sync_playwright

import app
from tests.browser.steps import ANSWER_TOKENS
from tests.fake_atlas import fake_atlas
from tests.fakes import INFO, FakeEngine
from tests.native_models import make_native
from viz.serve import launch

ROOT = Path(__file__).parents[2]
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}

PATIENCE_MS = 30_000
"""The machine may do other work as well."""

OpenPage = Callable[..., Page]


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def browser(demo_url: str, stage: tuple[FakeEngine, str]) -> Iterator[Browser]:
    """Comes after the servers: Playwright's loop stays in this thread for as long as it lives."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("The browser tests need Chromium. On Debian or Ubuntu: apt-get install chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=FLAGS)


@dataclass
class Tab:
    """A page in a context of its own, and what it did that it must not do."""

    page: Page
    faults: list[str]

    def check(self) -> None:
        faults, self.faults[:] = list(self.faults), []
        assert not faults, "\n".join(faults)


@contextmanager
def opened(browser: Browser, url: str | None, **options: Any) -> Iterator[Tab]:
    """Opens the program's page, or an empty tab without a url; leaving it checks it."""
    context = browser.new_context(**{"viewport": DESKTOP, "color_scheme": "light"} | options)
    page = context.new_page()
    tab = Tab(page, [])

    def check(request: Request) -> None:
        if urlparse(request.url).hostname not in ("127.0.0.1", None):
            tab.faults.append(f"request to {request.url[:200]}")

    def dismiss(dialog: Dialog) -> None:
        tab.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    context.on("request", check)
    page.on("console", lambda said: tab.faults.append(f"console: {said.text}") if said.type == "error" else None)
    page.on("pageerror", lambda error: tab.faults.append(f"page error: {error}"))
    page.on("dialog", dismiss)
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    if url:
        page.goto(url)
        page.wait_for_selector("#log .example")
        page.wait_for_selector("#map .js-plotly-plot", state="attached")
    yield tab
    context.close()
    tab.check()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages that are watched until the test ends: open_page(url, viewport=...)."""
    with ExitStack() as stack:
        yield lambda url=None, **options: stack.enter_context(opened(browser, url, **options)).page


@pytest.fixture(scope="session")
def demo_url() -> Iterator[str]:
    """The page of the real demo model; answers have ANSWER_TOKENS at most."""
    with _served("demo") as url:
        yield url


@pytest.fixture(scope="session")
def native_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a tiny random Mixtral, whose routers are its own."""
    with _served(str(make_native(tmp_path_factory.mktemp("mixtral"), "mixtral"))) as url:
        yield url


@contextmanager
def _served(model: str) -> Iterator[str]:
    """The real program, started as a user starts it, and its address."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "app.py", "--model", model, "--max-new-tokens", str(ANSWER_TOKENS)],
        cwd=ROOT,
        env=os.environ | {"GRADIO_SERVER_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(server.stdout or ()), daemon=True)
        reader.start()
        url = f"http://127.0.0.1:{port}/"
        try:
            _wait(url, server, lines)
            yield url
        finally:
            server.terminate()
    reader.join(5)
    assert f"MoLoRA Lens is at {url}" in "".join(lines)


def _wait(url: str, server: subprocess.Popen[str], lines: list[str]) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            if server.poll() is not None:
                pytest.fail("app.py ended:\n" + "".join(lines))
            time.sleep(0.5)
        else:
            return
    pytest.fail("app.py serves no page after two minutes:\n" + "".join(lines))


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeEngine, str]]:
    """A page whose answers the tests write, with a made-up atlas, and its address."""
    fake, port = FakeEngine(info=replace(INFO, num_layers=30)), free_port()
    atlases = tmp_path_factory.mktemp("atlases")
    (atlases / "fake").mkdir()
    fake_atlas(layers=30).save(atlases / "fake" / "atlas.npz")
    page = app.build(fake.engine, atlases=atlases)
    url = launch(page, host="127.0.0.1", port=port, block=False)
    yield fake, url
    page.close(verbose=False)


@pytest.fixture
def fake(stage: tuple[FakeEngine, str]) -> FakeEngine:
    stage[0].play()
    return stage[0]


@pytest.fixture(scope="module")
def tab(browser: Browser, stage: tuple[FakeEngine, str]) -> Iterator[Tab]:
    """The page whose answers the tests write, shared by the tests of a file."""
    with opened(browser, stage[1]) as shared:
        yield shared


@pytest.fixture
def open_stage(open_page: OpenPage, stage: tuple[FakeEngine, str]) -> OpenPage:
    """Opens the page whose answers the test writes: open_stage(viewport=...)."""
    return partial(open_page, stage[1])
