"""Figures in a notebook: a saved trace is drawn, tabled and reported where there is neither Gradio nor torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from tests.fakes import fake_trace
from viz.report import trace_of

ROOT = Path(__file__).parents[2]

BLOCKED = """\
import sys
for name in ("gradio", "torch", "transformers", "matplotlib"):
    sys.modules[name] = None  # importing it fails

"""

EXAMPLE = """\
from pathlib import Path

import molora
from molora.export import long_form, write_csv
from viz.figures.load import expert_load
from viz.figures.map import routing_map
from viz.figures.strip import token_strip
from viz.figures.summary import summary_line
from viz.figures.token import token_weights
from viz.report import report

trace = molora.RoutingTrace.load("run.npz")

routing_map(trace, colour="entropy", show="answer")        # Plotly figures: a notebook shows the last one of a cell
routing_map(trace.select(projections=["up_proj"], layers=[0, 1, 2])).write_html("map.html")
expert_load(trace)
token_weights(trace, token=12)

strip = token_strip(trace) + summary_line(trace)           # HTML: IPython.display.HTML(strip) shows it

columns = long_form(trace)                                 # pandas.DataFrame(columns) is the table
write_csv(trace, "run.csv")
Path("report.html").write_text(report(trace, [("user", "Why?"), ("assistant", "So.")], selected=12), encoding="utf-8")
"""


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
