"""The page of the benchmark's pictures, opened as a file."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Browser

from tests.made_bench import made_bench
from viz.speed import main


def test_every_run_of_every_report_has_its_picture_without_a_network(tmp_path: Path, browser: Browser) -> None:
    sizes = {"shapes": {name: made_bench("cuda card") | {"model": name} for name in ("MING-MOE-7B", "MING-MOE-14B")}}
    reports = {"bench.json": made_bench(), "bench-cuda.json": sizes}
    for name, report in reports.items():
        (tmp_path / name).write_text(json.dumps(report))
    out = tmp_path / "speed.html"
    assert main([*(str(tmp_path / name) for name in reports), "--out", str(out)]) == 0
    page = browser.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(out.as_uri())
    page.locator(".js-plotly-plot").nth(2).locator(".main-svg").first.wait_for()
    titles = page.locator(".gtitle").all_text_contents()
    assert [title.split()[0] for title in titles] == ["demo", "MING-MOE-7B", "MING-MOE-14B"]
    assert "A <fast> one" in titles[0]
    assert all(url.startswith("file:") for url in asked)
    assert not errors
    page.close()
