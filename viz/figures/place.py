"""Where a conversation sits among the tasks of an atlas: a bar a task, the nearest first."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from molora import analysis
from molora.atlas.analysis import place
from molora.atlas.data import Atlas, Part
from molora.errors import MoloraError
from molora.trace import ANSWER, PROMPT, RoutingTrace
from viz.figures.atlas import task_name
from viz.figures.style import blank, figure
from viz.language import t
from viz.view import Show

_BARS = 8
_NEAREST, _OTHER = "#6b6b76", "rgba(128,128,128,0.45)"


def task_place(atlas: Atlas, trace: RoutingTrace | None, *, show: Show = "both", height: int = 220) -> go.Figure:
    """Draws how near the conversation's routing is to each task's mean, at most eight tasks.

    Nearness is the cosine of the two routings after the tasks' mean is taken off (`atlas_analysis.similarity`). The
    routing is of the prompt's tokens, or of the answer's with `show` "answer". Atlas and trace are cut alike before.
    """
    side: Part = "answer" if show == "answer" else "prompt"
    if trace is None:
        return blank(t("Ask something to see it here."), height)
    part = trace.select(tokens=trace.phase == (ANSWER if side == "answer" else PROMPT))
    if not len(part):
        return blank(t("No token of the {side} has been read yet.", side=t(side)), height)
    near = place(analysis.load(part), atlas, side)  # [G]
    order = [at for at in np.argsort(-near)[:_BARS] if not np.isnan(near[at])]
    if not order:
        raise MoloraError(t("The conversation's routing has other layers, projections or experts than the atlas."))
    names = [task_name(atlas.tasks[at]) for at in order]
    values = near[order].astype(np.float32)
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": list(range(len(order))),
        "customdata": [f"{name} ({task_name(atlas.families[at])})" for name, at in zip(names, order, strict=True)],
        "marker": {"color": [_NEAREST, *[_OTHER] * (len(order) - 1)]},
        "text": [f"{value:.2f}" for value in values],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": "%{customdata}<br>"
        + t("cosine {value} of the {side}'s routing and the task's", value="%{x:.2f}", side=t(side))
        + "<extra></extra>",
    }
    low = min(0.0, float(values.min()))
    return figure(
        height,
        [bars],
        {
            "margin": {"l": 142, "r": 10, "t": 4, "b": 34},
            "bargap": 0.25,
            "xaxis": {
                "title": {"text": t("likeness of the {side}", side=t(side))},
                "range": [low - 0.4 if low < 0 else 0, 1.2],
                "tickvals": [-1, -0.5, 0, 0.5, 1],
                "fixedrange": True,
            },
            "yaxis": {
                "range": [_BARS - 0.5, -0.5],
                "tickmode": "array",
                "tickvals": list(range(len(order))),
                "ticktext": names,
                "fixedrange": True,
            },
        },
    )
