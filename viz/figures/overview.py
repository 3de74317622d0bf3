"""The overview of a long trace: the dominant expert of each run of tokens, a few rows high.

The window that the map shows is a frame in it. At most `BINS` values a row, whatever the trace's length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from molora.trace import ANSWER, RoutingTrace
from viz import palette
from viz.figures.style import blank, figure, short
from viz.language import t
from viz.view import Show, shown_tokens

BINS = 600


def overview(
    trace: RoutingTrace, *, show: Show = "both", window: tuple[int, int] | None = None, height: int = 54
) -> go.Figure:
    """Draws `trace` [T, L, P, ...]: tokens across, projections down, each in three rows of layers from six layers on.

    window: first row and one past the last of what the map shows. Raises nothing for an empty trace; it says so.
    """
    kept = shown_tokens(trace, show)
    if not kept.any() or not trace.expert_ids.size:
        return blank(t("No token of this kind was routed."), height)
    rows = kept.nonzero()[0]
    low, high = int(rows[0]), int(rows[-1]) + 1
    size = -(-(high - low) // BINS)
    groups = 3 if trace.num_layers >= 6 else 1
    found = dominant(trace.select(tokens=slice(low, high)), kept[low:high], size, groups)  # [P * G, B]
    experts, middle = trace.num_experts, groups // 2
    layout: dict[str, Any] = {
        "margin": {"l": 44, "r": 92, "t": 3, "b": 16},
        "showlegend": False,
        "coloraxis": {
            "cmin": -0.5,
            "cmax": experts - 0.5,
            "colorscale": palette.discrete_scale(list(palette.expert_colours(experts))),
            "showscale": False,
        },
        "xaxis": {"range": [low - 0.5, high - 0.5], "fixedrange": True, "nticks": 10},
        "yaxis": {
            "range": [len(found) - 0.5, -0.5],
            "fixedrange": True,
            "tickmode": "array",
            "tickvals": [at * groups + middle for at in range(len(trace.projections))],
            "ticktext": [short(projection) for projection in trace.projections],
        },
        "dragmode": False,
        "shapes": [],
        "meta": {"window": True},
    }
    answer = (trace.phase == ANSWER).nonzero()[0]
    if len(answer) and low < int(answer[0]) < high:
        line = {"type": "line", "x0": int(answer[0]) - 0.5, "x1": int(answer[0]) - 0.5, "y0": -0.06, "y1": 1.06}
        layout["shapes"].append(line | {"yref": "paper", "layer": "above", "line": {"width": 2, "dash": "dot"}})
    if window is not None:
        layout["shapes"].append(frame(*window))
    data = {
        "type": "heatmap",
        "z": found,
        "x0": low + (size - 1) / 2,
        "dx": size,
        "coloraxis": "coloraxis",
        "hoverongaps": False,
        "hovertemplate": t("token {token}: mostly expert {expert}", token="%{x:.0f}", expert="%{z}")
        + "<extra></extra>",
    }
    return figure(height, [data], layout)


def frame(first: int, last: int) -> dict[str, Any]:
    """The shape around the window's tokens."""
    return {
        "type": "rect",
        "name": "window",
        "x0": first - 0.5,
        "x1": last - 0.5,
        "y0": -0.04,
        "y1": 1.04,
        "yref": "paper",
        "layer": "above",
        "line": {"width": 2},
    }


def dominant(trace: RoutingTrace, kept: NDArray[np.bool_], size: int, groups: int) -> NDArray[np.float32]:
    """The expert with the most weight for each run of `size` tokens in each third of the layers [P * groups, B].

    NaN where nothing was picked, or no token is kept. Runs end with the trace.
    """
    tokens, layers, projections, _ = trace.expert_ids.shape
    bins, experts = -(-tokens // size), trace.num_experts
    run = np.arange(tokens) // size  # [T]
    group = np.concatenate(
        [np.full(len(part), at) for at, part in enumerate(np.array_split(np.arange(layers), groups))]
    )
    sums = np.zeros((projections, groups, bins, experts), np.float32)
    for at in range(projections):
        ids = trace.expert_ids[:, :, at].astype(np.int64)  # [T, L, K]
        cells = (group[None, :, None] * bins + run[:, None, None]) * experts + ids
        picked = (ids >= 0) & kept[:, None, None]
        weights = trace.expert_weights[:, :, at][picked]
        counted = np.bincount(cells[picked], weights=weights, minlength=groups * bins * experts)
        sums[at] = counted.reshape(groups, bins, experts)
    best = sums.argmax(axis=-1).astype(np.float32)  # [P, G, B]
    best[sums.max(axis=-1) <= 0] = np.nan
    return best.reshape(projections * groups, bins)
