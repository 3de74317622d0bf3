"""Figures in a notebook: a saved trace is drawn, tabled and reported where there is neither Gradio nor torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from tests.fakes import fake_trace
from tests.test_readme import PYTHON
from viz.report import trace_of

ROOT = Path(__file__).parents[2]

BLOCKED = """\
import sys
for name in ("gradio", "torch", "transformers", "matplotlib"):
    sys.modules[name] = None  # importing it fails

"""

EXAMPLE = next(code for code in PYTHON if "expert_load" in code)


def test_the_example_runs_without_gradio_and_torch(tmp_path: Path) -> None:
    trace = fake_trace(20)
    trace.save(tmp_path / "run.npz")
    tail = "\nassert strip.count('<button') == 20\nassert len(columns['expert']) == 20 * 4 * 3 * 2\n"
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + EXAMPLE + tail],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "run.csv")) == trace.expert_ids.size
    assert trace_of((tmp_path / "report.html").read_text(encoding="utf-8")).token_text == trace.token_text
    assert "plotly" in (tmp_path / "map.html").read_text(encoding="utf-8")


def test_every_figure_imports_without_gradio_and_torch() -> None:
    names = [f"viz.figures.{path.stem}" for path in (ROOT / "viz" / "figures").glob("*.py") if path.stem != "__init__"]
    code = BLOCKED + "from importlib import import_module\n" + "".join(f"import_module({name!r})\n" for name in names)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(names) > 8
