"""The benchmark's report: every system's time as a multiple of the base's, job by job."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go

from molora.bench.report import JOBS, LABELS, where
from viz.figures.style import blank, figure

_COLOURS = {
    "molora": "#0072B2",
    "molora_recorded": "#80b8d8",
    "loop": "#9b9ba4",
    "lora": "#c4c4cb",
    "xlora": "#e4e4e7",
    "generate": "#52525b",
    "llamacpp": "#ffffff",
}
"""MoLoRA in blues, what it is compared with in greys; llama.cpp, another program, hollow."""


def speed(report: dict[str, Any], *, height: int = 320) -> go.Figure:
    """Draws the content of `bench.json` of one shape: groups of bars, one a system. The line at 1 is the base alone."""
    jobs = {job: times for job, times in report["milliseconds"].items() if times.get("base")}
    if not jobs:
        return blank("Nothing was measured.", height)
    found = [name for name in _COLOURS if any(name in times for times in jobs.values())]
    return figure(
        height,
        [_bars(name, jobs) for name in found],
        {
            "margin": {"l": 44, "r": 16, "t": 58, "b": 44},
            "barmode": "group",
            "bargap": 0.2,
            "title": {"text": escape(where(report)), "font": {"size": 11}, "x": 0.01, "y": 0.98, "yanchor": "top"},
            "xaxis": {"type": "category"},
            "yaxis": {"title": {"text": "time / the base's"}, "rangemode": "tozero"},
            "shapes": [
                {
                    "type": "line",
                    "xref": "paper",
                    "x0": 0,
                    "x1": 1,
                    "y0": 1,
                    "y1": 1,
                    "line": {"dash": "dot", "width": 1},
                }
            ],
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        },
    )


def _bars(name: str, jobs: dict[str, dict[str, float]]) -> dict[str, Any]:
    measured = {job: times for job, times in jobs.items() if name in times}
    label = escape(LABELS[name])
    return {
        "type": "bar",
        "name": label,
        "x": [escape(JOBS.get(job, job)).replace(" of ", "<br>of ") for job in measured],
        "y": [times[name] / times["base"] for times in measured.values()],
        "marker": {"color": _COLOURS[name], "line": {"width": 0.75, "color": "#71717a"}},
        "customdata": [[times[name]] for times in measured.values()],
        "hovertemplate": f"{label}, %{{x}}: %{{customdata[0]:.1f}} ms, %{{y:.2f}} times the base<extra></extra>",
    }
