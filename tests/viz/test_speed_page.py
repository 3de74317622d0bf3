from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from viz.speed import main

REPORT = Path(__file__).parents[2] / "assets" / "bench.json"


def written(folder: Path, name: str, report: Any) -> str:
    path = folder / name
    path.write_text(json.dumps(report))
    return str(path)


@pytest.mark.parametrize("report", [[], {}, {"shapes": 3}, {"milliseconds": {"decode": 4}}, "a", {"shapes": {"a": 1}}])
def test_what_is_no_report_is_told(report: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([written(tmp_path, "a.json", report), "--out", str(tmp_path / "speed.html")]) == 1
    assert "a.json is no report of molora.bench" in capsys.readouterr().err
    assert not (tmp_path / "speed.html").exists()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"milliseconds": NaN}', '{"milliseconds": Infinity}', '{"shapes": {}}']
)
def test_what_no_picture_can_show_is_told(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(text)
    assert main([str(tmp_path / "a.json"), "--out", str(tmp_path / "speed.html")]) == 1
    assert "a.json is no report of molora.bench" in capsys.readouterr().err


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
def test_a_report_with_what_is_no_number_is_told(
    number: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads(REPORT.read_text())
    report["milliseconds"]["decode"]["molora"] = number
    assert main([written(tmp_path, "a.json", report), "--out", str(tmp_path / "speed.html")]) == 1
    assert "a.json is no report of molora.bench" in capsys.readouterr().err


def test_a_report_with_half_a_letter_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(REPORT.read_text())
    report["machine"]["processor"] = "\ud800"
    assert main([written(tmp_path, "a.json", report), "--out", str(tmp_path / "speed.html")]) == 1
    assert "a.json is no report of molora.bench" in capsys.readouterr().err


def test_a_report_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "a.json", json.loads(REPORT.read_text()))
    with pytest.raises(SystemExit):
        main([path, "--out", path])
    assert "would overwrite the report" in capsys.readouterr().err
    assert main([path, "--out", str(tmp_path / "speed.html")]) == 0


def test_a_missing_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err
