"""One token in depth: experts x layers, a block a projection. Picked experts in their colour, the rest in grey.

A picked cell's lightness is the weight it was applied with; a grey cell's darkness is what the router gave it.
"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from molora import analysis
from molora.trace import RoutingTrace
from viz import palette
from viz.figures.map import weight_level
from viz.figures.style import PHASES, blank, figure, layer_axis, mark_edit, note, short, visible
from viz.language import t

GREYS = 6


def token_weights(
    trace: RoutingTrace, token: int, *, compact: bool = False, written: bool = True, height: int | None = None
) -> go.Figure:
    """Draws row `token` of `trace` [T, L, P, ...].

    compact: layers across and experts down, to stand under the map; otherwise layers down.
    written: each picked cell's weight stands in it, unless compact; otherwise picked cells carry a dot, so that colour
    is never the only sign.
    """
    height = height or (126 if compact else 440)
    if not 0 <= token < len(trace) or not trace.expert_ids.size:
        return blank(t("Choose a token in the strip or in the map."), height)
    experts, blocks = trace.num_experts, len(trace.projections)
    levels = palette.weight_levels(experts)
    colours = [palette.lightened(c, n / (levels - 1)) for c in palette.expert_colours(experts) for n in range(levels)]
    greys = [f"rgba(128,128,128,{0.04 + 0.4 * step / (GREYS - 1):.2f})" for step in range(GREYS)]
    scale = palette.discrete_scale([*colours, *greys, palette.MISSING])
    layout: dict[str, Any] = {
        "margin": {"l": 44, "r": 10, "t": 20, "b": 32 if compact else 36},
        "showlegend": False,
        "annotations": [],
        "coloraxis": {"cmin": -0.5, "cmax": len(colours) + GREYS + 0.5, "colorscale": scale, "showscale": False},
    }
    data = []
    share = analysis.probabilities(trace.select(tokens=slice(token, token + 1)))[0]  # [L, P, E]
    gap = 0.01 if compact else 0.015
    for block, projection in enumerate(trace.projections):
        number, name = "" if block == 0 else str(block + 1), escape(short(projection))
        weights = _applied(trace, token, block)  # [L, E]
        data += _cells(trace, weights, share[:, block], name, number, compact, written and not compact, levels)
        layers = layer_axis(trace) | ({"range": [-0.5, trace.num_layers - 0.5]} if compact else {})
        numbers = {"range": [experts - 0.5, -0.5] if compact else [-0.5, experts - 0.5]}
        across, down = (layers, numbers) if compact else (numbers, layers)
        layout[f"xaxis{number}"] = {
            **across,
            "domain": [block / blocks + gap * (block > 0), (block + 1) / blocks - gap * (block < blocks - 1)],
            "title": {"text": t("layer") if compact else t("expert")},
            "anchor": f"y{number}",
            "nticks": 5 if compact else 16,
        }
        layout[f"yaxis{number}"] = {
            **down,
            "title": {"text": (t("expert") if compact else t("layer")) if block == 0 else ""},
            "anchor": f"x{number}",
            "nticks": 10 if compact else 32 if height >= 400 else 16,
            "showticklabels": block == 0,
            **({"matches": "y"} if block else {}),
        }
        layout["annotations"].append(
            note(name, xref=f"x{number} domain", yref="paper", x=0, y=1, xanchor="left", yanchor="bottom")
        )
    if not compact:  # under the map, which says it
        mark_edit(layout, trace)
    return figure(height, data, layout)


def token_title(trace: RoutingTrace, token: int) -> str:
    """Safe HTML: which token the figure is of."""
    phase, text = t(PHASES[int(trace.phase[token])]), escape(visible(trace.token_text[token]))
    return t("Token {token} <b>{text}</b>, {phase}", token=token, text=text, phase=phase)


def _applied(trace: RoutingTrace, token: int, block: int) -> NDArray[np.float32]:
    """The applied weight of every expert [L, E]; NaN where it was not picked."""
    weights = np.full((trace.num_layers, trace.num_experts), np.nan, np.float32)
    ids = trace.expert_ids[token, :, block]  # [L, K]
    layer, slot = (ids >= 0).nonzero()
    weights[layer, ids[layer, slot]] = trace.expert_weights[token, layer, block, slot]
    return weights


def _codes(weights: NDArray[np.float32], share: NDArray[np.float32], levels: int, top_k: int) -> NDArray[np.uint16]:
    """Colour codes [L, E]: expert * levels + lightness where picked, then the greys, then "missing"."""
    experts = weights.shape[1]
    hue = np.arange(experts)[None] * levels + _lightness(weights, top_k, levels)
    grey = experts * levels + np.clip(np.nan_to_num(share) * 2 * GREYS, 0, GREYS - 1).astype(np.int64)
    codes = np.where(np.isnan(weights), np.where(np.isnan(share), experts * levels + GREYS, grey), hue)
    return codes.astype(np.uint16)


def _cells(
    trace: RoutingTrace,
    weights: NDArray[np.float32],
    share: NDArray[np.float32],
    name: str,
    number: str,
    compact: bool,
    written: bool,
    levels: int,
) -> list[dict[str, Any]]:
    """One block: the cells, and on each picked one its weight in figures (written) or a dot."""
    layers, experts = trace.layer_indices.astype(str), np.arange(trace.num_experts)
    codes = _codes(weights, share, levels, trace.top_k)  # [L, E]
    percent = np.rint(np.nan_to_num(np.stack([weights, share], axis=-1)) * 100).astype(np.uint8)  # [L, E, 2]
    at = np.argwhere(~np.isnan(weights))  # rows of (layer, expert)
    across, down = experts[at[:, 1]], layers[at[:, 0]]
    applied = weights[at[:, 0], at[:, 1]]
    columns, rows = experts, layers
    full = palette.expert_colours(trace.num_experts)
    inks = [
        palette.text_colour(palette.lightened(full[expert], level / (levels - 1)))
        for expert, level in zip(at[:, 1], _lightness(applied, trace.top_k, levels), strict=True)
    ]
    look: dict[str, Any]
    if compact:
        codes, percent = codes.T, percent.transpose(1, 0, 2)
        across, down, columns, rows = down, across, rows, columns
    if written:
        texts = [f"{weight * 100:.0f}" for weight in applied]
        look = {"mode": "text", "text": texts, "textfont": {"size": 9, "color": inks}}
    else:
        look = {"mode": "markers", "marker": {"size": 3, "color": inks}}
    axes = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
    layer, expert = ("x", "y") if compact else ("y", "x")
    return [
        {
            "type": "heatmap",
            "z": np.ascontiguousarray(codes),
            "x": columns,
            "y": rows,
            "coloraxis": "coloraxis",
            "customdata": np.ascontiguousarray(percent),
            "xgap": 1,
            "ygap": 1,
            "name": name,
            **axes,
            "hovertemplate": f"{name}, {t('layer')} %{{{layer}}}, {t('expert')} %{{{expert}}}<br>"
            + t("applied with {share} %", share="%{customdata[0]}")
            + f"<br>{t('router gave it {share} %', share='%{customdata[1]}')}<extra></extra>",
        },
        {"type": "scatter", "x": across, "y": down, "hoverinfo": "skip", **axes, **look},
    ]


def _lightness(weights: NDArray[np.float32], top_k: int, levels: int) -> NDArray[np.int64]:
    """0 to levels - 1, over the whole range of weights: the second pick may be as weak as it likes."""
    if top_k < 2:
        return np.full(weights.shape, levels - 1)
    return weight_level(weights, 1, levels)
