"""The routing map: tokens across, layers down, a block a projection; colour is top expert, its weight, or entropy.

Cells are one `go.Heatmap` a block in small integers, so that 512 tokens of 90 routers stay below 250 KB on the wire.
"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from molora import analysis
from molora.trace import ANSWER, RoutingTrace
from viz import palette
from viz.figures.mark import cell_mark, layer_groups, least_height, token_mark
from viz.figures.style import blank, figure, layer_axis, mark_edit, note, short, visible
from viz.language import t
from viz.view import Colour, Show, shown_tokens

ENTROPY_STEPS = 250
"""Entropy travels as a whole number of 1/250, one byte a cell; 251 is "missing"."""


def routing_map(
    trace: RoutingTrace,
    *,
    colour: Colour = "expert",
    show: Show = "both",
    selected: int | None = None,
    place: tuple[int, str] | None = None,
    offset: int = 0,
    length: int | None = None,
    hover: bool = True,
    texts_once: bool = False,
    height: int = 360,
) -> go.Figure:
    """Draws `trace` [T, L, P, ...]; narrow layers and projections with `trace.select`.

    offset: the number of the first row, where `trace` is a part of a longer one; all other rows count from 0 there.
    length: how many tokens the axis holds, so that nothing moves while an answer grows (default: those there are).
    hover: whether each cell carries its picked experts, their weights and its entropy; leave it out while streaming.
    texts_once: one row of texts in each block, for a page that repeats it for every layer itself.
    selected: a row to mark; place: layer and projection of the cell to mark in it. Raises nothing for an empty trace;
    it says so in the figure.
    """
    kept = shown_tokens(trace, show)
    if not kept.any() or not trace.expert_ids.size:
        return blank(t("No token of this kind was routed."), height)
    blocks = len(trace.projections)
    codes, axis = _codes(trace, colour)
    codes[~kept] = axis["cmax"]
    rows = kept.nonzero()[0]
    first = offset + (0 if show == "both" else int(rows[0]))
    last = offset + (int(rows[-1]) + 1 if show == "prompt" else max(length or 0, len(trace)))
    layers = trace.layer_indices.astype(str).tolist()
    # The cells' scale ends in "missing", which the bar must not show: a scatter without points carries the bar.
    bar, cells = axis.pop("bar"), axis | {"showscale": False}
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "x": [None],
            "y": [None],
            "hoverinfo": "skip",
            "showlegend": False,
            "marker": {"color": [0], "coloraxis": "coloraxis2"},
        }
    ]
    notes, shapes = layer_groups(trace)
    margin: dict[str, Any] = {"l": 44, "r": 92 if notes else 60, "t": 20, "b": 34}
    if notes:
        bar["colorbar"] |= {"x": 1, "xpad": 34}  # pixels: room for the names of the groups
        margin["autoexpand"] = False
    layout: dict[str, Any] = {"margin": margin, "coloraxis": cells, "coloraxis2": bar}
    for block, projection in enumerate(trace.projections):
        number = "" if block == 0 else str(block + 1)
        data.append(
            {
                "type": "heatmap",
                "z": np.ascontiguousarray(codes[:, :, block].T),
                "x0": offset,
                "dx": 1,
                "y": layers,
                "coloraxis": "coloraxis",
                "xaxis": "x",
                "yaxis": f"y{number}",
                "name": short(projection),
                **_hover(trace, block, hover, 1 if texts_once else trace.num_layers),
            }
        )
        top = 1 - block / blocks
        layout[f"yaxis{number}"] = {
            "domain": [max(top - 1 / blocks + (0.012 if block < blocks - 1 else 0), 0), top],
            "title": {"text": short(projection)},
            **layer_axis(trace),
            "nticks": max(4, 12 // blocks),
            **({"matches": "y"} if block else {}),
        }
    layout["xaxis"] = {
        "range": [first - 0.5, last - 0.5],
        "anchor": f"y{blocks if blocks > 1 else ''}",
        "title": {"text": t("token")},
    }
    # The reader's zoom holds for as long as the axes mean the same.
    layout["uirevision"] = f"{show} {offset} {','.join(layers)} {','.join(trace.projections)}"
    layout["annotations"], layout["shapes"] = _marks(trace, first, last, offset)
    layout["annotations"] += notes
    layout["shapes"] += shapes
    mark_edit(layout, trace)
    least = least_height(trace, layout["margin"]["t"] + layout["margin"]["b"])
    layout["meta"] = {"rows": [offset, offset + len(trace)], "least": least}
    if selected is not None and offset <= selected < offset + len(trace) and kept[selected - offset]:
        layout["shapes"] += [token_mark(selected), *cell_mark(trace, selected, place)]
    return figure(max(height, least), data, layout)


def _codes(trace: RoutingTrace, colour: Colour) -> tuple[NDArray[Any], dict[str, Any]]:
    """The cells [T, L, P] as small integers, and the colour axis that reads them.

    Its highest code, `cmax`, is "missing" and is clear; its entry "bar" is the axis of the colour bar.
    """
    if colour == "entropy":
        share = analysis.entropy(trace)
        codes = np.where(np.isnan(share), ENTROPY_STEPS + 1, np.rint(share * ENTROPY_STEPS)).astype(np.uint8)
        end = ENTROPY_STEPS / (ENTROPY_STEPS + 1)
        stops = palette.entropy_scale()
        bar = {"cmin": 0, "cmax": 1, "colorscale": stops, "colorbar": {"title": {"text": t("entropy")}, "nticks": 5}}
        scale = [*((at * end, shade) for at, shade in stops), (end, palette.MISSING), (1, palette.MISSING)]
        return codes, {"cmin": 0, "cmax": ENTROPY_STEPS + 1, "colorscale": scale, "bar": bar}
    experts = trace.num_experts
    colours = list(palette.expert_colours(experts))
    levels = palette.weight_levels(experts) if colour == "weight" else 1
    top = trace.expert_ids[..., 0].astype(np.int64)  # [T, L, P]
    if levels > 1:
        colours = [palette.lightened(full, level / (levels - 1)) for full in colours for level in range(levels)]
        top = np.where(top < 0, top, top * levels + weight_level(trace.expert_weights[..., 0], trace.top_k, levels))
    size = len(colours)  # the code of "missing"
    every = -(-experts // 16)  # at most 16 numbers beside the bar
    ticks = {
        "title": {"text": t("expert") if levels == 1 else t("weight")},
        "tickmode": "array",
        "tickvals": [number * levels + (levels - 1) / 2 for number in range(0, experts, every)],
        "ticktext": [str(number) for number in range(0, experts, every)],
    }
    bar = {"cmin": -0.5, "cmax": size - 0.5, "colorscale": palette.discrete_scale(colours), "colorbar": ticks}
    scale = palette.discrete_scale([*colours, palette.MISSING])
    codes = np.where(top < 0, size, top).astype(np.uint8 if size < 256 else np.uint16)
    return codes, {"cmin": 0, "cmax": size, "colorscale": scale, "bar": bar}


def weight_level(weights: NDArray[Any], top_k: int, levels: int) -> NDArray[Any]:
    """The lightness step, 0 to levels - 1, of the strongest weight, which lies between 1 / K and 1."""
    least = 1 / top_k if top_k > 1 else 0.0
    share = (np.nan_to_num(weights) - least) / (1 - least)
    return np.clip((share * levels).astype(np.int64), 0, levels - 1)


def _hover(trace: RoutingTrace, block: int, hover: bool, text_rows: int) -> dict[str, Any]:
    """Percentages in one byte each [L, T, 2K + 1]; the token's text comes with it."""
    if not hover:
        return {"hoverinfo": "none"}
    ids = trace.expert_ids[:, :, block].astype(np.int16)  # [T, L, K]
    weights = np.rint(np.nan_to_num(trace.expert_weights[:, :, block]) * 100)
    share = analysis.entropy(trace.select(projections=[trace.projections[block]]))  # [T, L, 1]
    cells = np.concatenate([ids, weights, np.rint(np.nan_to_num(share) * 100)], axis=2).transpose(1, 0, 2)
    kind = np.int8 if trace.num_experts <= 128 else np.int16
    top_k = trace.top_k
    expert = t("expert")
    picks = "<br>".join(f"{expert} %{{customdata[{k}]}} · %{{customdata[{top_k + k}]}} %" for k in range(top_k))
    where = t("layer {layer}, {projection}", layer="%{y}", projection=escape(short(trace.projections[block])))
    entropy = t("entropy {share} % of uniform", share=f"%{{customdata[{2 * top_k}]}}")
    row = [escape(visible(text)) for text in trace.token_text]
    return {
        "customdata": np.ascontiguousarray(cells.astype(kind)),
        "text": [row] * text_rows,
        "hovertemplate": f"<b>%{{text}}</b> · {t('token')} %{{x}}<br>{where}<br>{picks}<br>{entropy}<extra></extra>",
    }


def _marks(
    trace: RoutingTrace, first: int, last: int, offset: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A line where the answer begins, with a word on either side: annotations, shapes."""
    answer = (trace.phase == ANSWER).nonzero()[0]
    start = offset + int(answer[0]) if len(answer) else last
    notes, shapes = [], []
    look = {"yref": "paper", "y": 1, "yanchor": "bottom"}
    between = first < start < last
    if between:  # on either side of the line; a short prompt's word reaches into the margin
        notes = [
            note(t("prompt"), x=start - 0.5, xanchor="right", xshift=-4, **look),
            note(t("answer"), x=start - 0.5, xanchor="left", xshift=4, **look),
        ]
    else:
        notes = [note(t("prompt") if start > first else t("answer"), x=first - 0.5, xanchor="left", **look)]
    if between:
        shapes.append(
            {
                "type": "line",
                "x0": start - 0.5,
                "x1": start - 0.5,
                "y0": 0,
                "y1": 1.05,
                "yref": "paper",
                "layer": "above",
                "line": {"width": 2},
            }
        )
    return notes, shapes
