"""The loss of a training run, step by step, with its running mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from viz.figures.style import blank, figure

_WINDOW = 9


def loss_curve(losses: Sequence[tuple[int, float]], *, height: int = 320) -> go.Figure:
    """Draws (step, loss) pairs as `training.json` holds them: each value as a dot, their running mean as a line."""
    if not losses:
        return blank("No losses were logged.", height)
    steps, values = (np.asarray(column, np.float32) for column in zip(*losses, strict=True))
    width = min(_WINDOW, len(values))
    mean = np.convolve(values, np.full(width, 1 / width), mode="valid")
    dots = {"mode": "markers", "x": steps, "y": values, "name": "logged", "marker": {"color": "#a1a1aa", "size": 4}}
    line = {
        "mode": "lines",
        "x": np.convolve(steps, np.full(width, 1 / width), mode="valid"),
        "y": mean,
        "name": f"mean of {width}",
        "line": {"color": "#0072B2", "width": 2},
    }
    return figure(
        height,
        [{"type": "scatter", **dots}, {"type": "scatter", **line}],
        {
            "margin": {"l": 48, "r": 16, "t": 12, "b": 40},
            "xaxis": {"title": {"text": "step"}},
            "yaxis": {"title": {"text": "loss, balance term included"}, "rangemode": "tozero"},
            "legend": {"x": 1, "xanchor": "right", "y": 1},
        },
    )
