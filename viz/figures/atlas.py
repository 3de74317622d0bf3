"""The atlas: tasks down, grouped by family, experts across; colour is how far a task's share of picks is from the mean.

Above stands each expert's mean share in its own colour, with the line of a uniform spread.
"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from molora.atlas.analysis import load, task_shares
from molora.atlas.data import Atlas, Part
from viz.figures.style import blank, figure, note
from viz.language import t
from viz.palette import diverging_scale, expert_colours

_NAME_CHARACTERS = 24


def task_map(atlas: Atlas, *, part: Part = "both", height: int = 500) -> go.Figure:
    """Draws `atlas`, averaged over its layers and projections; narrow them with `atlas.select`.

    A cell is the task's share of picks minus the mean share over tasks, in percentage points: red is more than other
    tasks, blue is less, and a task like all others is clear. A task without a token of this part is left empty.
    """
    if not atlas.tasks or not atlas.picks.size or not atlas.prompt_counts(part).any():
        return blank(t("The atlas has no token of this kind."), height)
    share = task_shares(atlas, part) * 100  # [G, E]
    mean = load(atlas, part).mean(axis=(0, 1)) * 100  # [E]
    weight = atlas.weight_shares(part).mean(axis=(1, 2)) * 100  # [G, E]
    names, rows = _rows(atlas)
    points = _lines(share - mean, rows)
    most = max(float(np.nanmax(np.abs(points))), 0.1)
    experts, uniform = np.arange(atlas.num_experts), 100 / atlas.num_experts
    across = {"range": [-0.5, atlas.num_experts - 0.5], "fixedrange": True}
    labels = [_label(atlas, row, name) for row, name in zip(rows, names, strict=True)]
    data = [
        {
            "type": "bar",
            "x": experts,
            "y": mean.astype(np.float32),
            "xaxis": "x2",
            "yaxis": "y2",
            "marker": {"color": expert_colours(atlas.num_experts), "line": {"width": 0.5, "color": "#888888"}},
            "hovertemplate": t("expert {expert}: {share} %, mean of tasks", expert="%{x}", share="%{y:.1f}")
            + "<extra></extra>",
        },
        {
            "type": "heatmap",
            "z": points.astype(np.float32),
            "x": experts,
            "y": np.arange(len(rows)),
            "coloraxis": "coloraxis",
            "customdata": np.stack([_lines(share, rows), _lines(weight, rows)], axis=-1).astype(np.float32),
            "text": [[f"{label}, {t('expert')} {expert}" for expert in experts] for label in labels],
            "xgap": 1,
            "ygap": 1,
            "hoverongaps": False,
            "hovertemplate": "%{text}<br>"
            + t(
                "{picks} % of picks, {points} points from the mean of tasks<br>{weight} % of the weight",
                picks="%{customdata[0]:.1f}",
                points="%{z:+.1f}",
                weight="%{customdata[1]:.1f}",
            )
            + "<extra></extra>",
        },
    ]
    layout: dict[str, Any] = {
        "margin": {"l": 142, "r": 58, "t": 20, "b": 34},
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "bargap": 0.25,
        "coloraxis": {
            "cmin": -most,
            "cmax": most,
            "colorscale": diverging_scale(),
            "colorbar": {"title": {"text": t("points")}, "len": 0.85, "y": 0, "yanchor": "bottom", "nticks": 7},
        },
        "xaxis": across | {"anchor": "y", "title": {"text": t("expert")}, "nticks": 16},
        "xaxis2": across | {"anchor": "y2", "showticklabels": False},
        "yaxis": {
            "domain": [0, 0.85],
            "range": [len(rows) - 0.5, -0.5],
            "tickmode": "array",
            "tickvals": list(range(len(rows))),
            "ticktext": names,
            "tickfont": {"size": 10 if len(rows) <= 30 else 8.5},  # rows of 9 pixels on a page without scrolling
            "fixedrange": True,
        },
        "yaxis2": {"domain": [0.88, 1], "anchor": "x2", "ticksuffix": " %", "nticks": 3, "fixedrange": True},
        "shapes": [
            {
                "type": "line",
                "xref": "x2 domain",
                "x0": 0,
                "x1": 1,
                "yref": "y2",
                "y0": uniform,
                "y1": uniform,
                "line": {"dash": "dot", "width": 1.5},
            }
        ],
        "annotations": [
            note(t("mean of tasks"), xref="paper", yref="paper", x=0, y=1, xanchor="left", yanchor="bottom"),
            note(
                t("uniform<br>{share:.3g} %", share=uniform),
                xref="paper",
                yref="y2",
                x=1.01,
                y=uniform,
                xanchor="left",
                align="left",
            )
            | {"font": {"size": 10}},
        ],
    }
    layout["yaxis2"]["range"] = [0, max(2 * uniform, float(mean.max()) * 1.1)]
    return figure(height, data, layout)


def task_name(name: str) -> str:
    """A task's or family's name for an axis: bounded and escaped."""
    return escape(name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…")


def _rows(atlas: Atlas) -> tuple[list[str], list[int | None]]:
    """(label, task) of each line: a family's name, which has no task, and below it its tasks."""
    names: list[str] = []
    rows: list[int | None] = []
    for family in dict.fromkeys(atlas.families):
        tasks = [at for at, name in enumerate(atlas.families) if name == family]
        names += [f"<b>{task_name(family)}</b>", *(task_name(atlas.tasks[at]) for at in tasks)]
        rows += [None, *tasks]
    return names, rows


def _lines(values: NDArray[np.float64], rows: list[int | None]) -> NDArray[np.float64]:
    """Values [G, E] as lines [len(rows), E]; NaN in a family's line."""
    empty = np.full(values.shape[1], np.nan)
    return np.stack([empty if row is None else values[row] for row in rows])


def _label(atlas: Atlas, row: int | None, name: str) -> str:
    return name if row is None else f"{name} ({task_name(atlas.families[row])})"
