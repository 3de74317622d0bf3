from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from viz.speed import main


def written(folder: Path, name: str, report: Any) -> str:
    path = folder / name
    path.write_text(json.dumps(report))
    return str(path)


@pytest.mark.parametrize("report", [[], {}, {"shapes": 3}, {"milliseconds": {"decode": 4}}, "a", {"shapes": {"a": 1}}])
def test_what_is_no_report_is_told(report: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([written(tmp_path, "a.json", report), "--out", str(tmp_path / "speed.html")]) == 1
    assert "a.json is no report of molora.bench" in capsys.readouterr().err
    assert not (tmp_path / "speed.html").exists()


def test_a_missing_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err
