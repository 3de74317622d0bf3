"""The suite's results: the mean of every system, over all tasks and by family, with 95% intervals."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go

from molora.report import LABELS, systems_of
from viz.figures.style import blank, figure

_COLOURS = {
    "base": "#e4e4e7",
    "lora_total": "#9b9ba4",
    "lora_active": "#c4c4cb",
    "molora": "#0072B2",
    "molora_uniform": "#80b8d8",
    "oracle": "#ffffff",
}
"""MoLoRA in blue, what it is compared with in greys, and the oracle, which is told the task, hollow."""


def suite_results(results: dict[str, Any], *, height: int = 320) -> go.Figure:
    """Draws the content of `results.json`: groups of bars, one a system, all tasks first and then each family."""
    if not results["tasks"]:
        return blank("No task was evaluated.", height)
    groups = {f"all ({len(results['tasks'])})": results["macro"]}
    groups |= {f"{name} ({part['tasks']})": part["systems"] for name, part in results["families"].items()}
    return figure(
        height,
        [_bars(system, groups) for system in systems_of(results)],
        {
            "margin": {"l": 44, "r": 16, "t": 34, "b": 40},
            "barmode": "group",
            "bargap": 0.2,
            "xaxis": {"title": {"text": "mean over tasks"}},
            "yaxis": {"title": {"text": "score"}, "range": [0, 100]},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        },
    )


def _bars(system: str, groups: dict[str, Any]) -> dict[str, Any]:
    found = [systems[system] for systems in groups.values()]
    label = escape(LABELS.get(system, system))
    return {
        "type": "bar",
        "name": label,
        "x": [escape(group) for group in groups],
        "y": [one["score"] for one in found],
        "marker": {"color": _COLOURS.get(system, "#e4e4e7"), "line": {"width": 0.75, "color": "#71717a"}},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [one["high"] - one["score"] for one in found],
            "arrayminus": [one["score"] - one["low"] for one in found],
            "color": "#27272a",
            "thickness": 1,
            "width": 2,
        },
        "customdata": [[one["low"], one["high"]] for one in found],
        "hovertemplate": f"{label}, %{{x}}: %{{y:.1f}} (%{{customdata[0]:.1f}} to %{{customdata[1]:.1f}})"
        "<extra></extra>",
    }
