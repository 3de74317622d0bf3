"""Marks on the routing map: the chosen token's column, the chosen cell in it, and lines between groups of layers."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from molora.trace import RoutingTrace
from viz.figures.style import note, short
from viz.language import t

_GROUP = 10
_FEW_LAYERS = 12
_LEAST_CELL = 2
"""Pixels that a cell of the map is high at least."""


def token_mark(row: int) -> dict[str, Any]:
    """A frame around a token's column."""
    return {
        "type": "rect",
        "name": "token",
        "x0": row - 0.5,
        "x1": row + 0.5,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "layer": "above",
    }


def cell_mark(trace: RoutingTrace, row: int, place: tuple[int, str] | None) -> list[dict[str, Any]]:
    """A frame around one cell; place: layer and projection, both as the trace calls them. Empty for what it has not."""
    layers = trace.layer_indices.tolist()
    if place is None or place[0] not in layers or place[1] not in trace.projections:
        return []
    at, block = layers.index(place[0]), trace.projections.index(place[1])
    box = {
        "type": "rect",
        "name": "cell",
        "x0": row - 0.5,
        "x1": row + 0.5,
        "y0": at - 0.5,
        "y1": at + 0.5,
        "yref": f"y{block + 1 if block else ''}",
        "layer": "above",
    }
    return [box | {"line": {"width": 5, "color": "#ffffff"}}, box | {"line": {"width": 2.5, "color": "#000000"}}]


def layer_groups(trace: RoutingTrace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Lines between every ten layers of a deep model, and which they are, at the right edge: annotations, shapes."""
    if trace.num_layers <= _FEW_LAYERS:
        return [], []
    layers = trace.layer_indices.astype(np.int64)
    parts = np.split(np.arange(len(layers)), (np.diff(layers // _GROUP) > 0).nonzero()[0] + 1)
    notes, shapes = [], []
    for block in range(len(trace.projections)):
        axis = f"y{block + 1 if block else ''}"
        for part in parts:
            first, last = int(part[0]), int(part[-1])
            words = f"{layers[first]}–{layers[last]}" if first < last else str(layers[first])
            where = {"xref": "paper", "x": 1, "xanchor": "left", "yref": axis, "y": (first + last) / 2}
            notes.append(note(words, **where, xshift=2, font={"size": 9}))
            if first:
                line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1.005, "y0": first - 0.5, "y1": first - 0.5}
                shapes.append(line | {"yref": axis, "layer": "above", "line": {"width": 1}, "opacity": 0.7})
    return notes, shapes


def least_height(trace: RoutingTrace, around: int) -> int:
    """Pixels that a map of the trace needs at least; around: those of its margins."""
    blocks = len(trace.projections)
    return around + trace.num_layers * blocks * _LEAST_CELL + 4 * blocks


def cell_words(trace: RoutingTrace, row: int, place: tuple[int, str] | None) -> str:
    """Safe HTML: layer, projection and the picks with their weights; "" for a cell that the trace has not."""
    layers = trace.layer_indices.tolist()
    if place is None or place[0] not in layers or place[1] not in trace.projections:
        return ""
    at = (row, layers.index(place[0]), trace.projections.index(place[1]))
    picks = [
        f"{t('expert')} <b>{expert}</b> {weight:.0%}"
        for expert, weight in zip(trace.expert_ids[at].tolist(), trace.expert_weights[at].tolist(), strict=True)
        if expert >= 0
    ]
    where = t("layer {layer}, {projection}", layer=place[0], projection=escape(short(place[1])))
    return f"{where}{t(': ')}{', '.join(picks) or t('no pick')}"
