"""Load: how the picks spread over the experts, for prompt and answer apart, with the line of a uniform spread."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from molora import analysis
from molora.trace import ANSWER, PROMPT, TEMPLATE, RoutingTrace
from viz.figures.style import blank, figure, layer_axis, mark_edit, note
from viz.language import noted, t, tn
from viz.palette import expert_colours

SIDES = ((PROMPT, noted("prompt")), (ANSWER, noted("answer")))


def expert_load(trace: RoutingTrace, *, height: int = 500) -> go.Figure:
    """Draws `trace` [T, L, P, ...], averaged over its projections; narrow layers and projections with `trace.select`.

    Above: each expert's share of the picks, with the uniform share 1 / E as a line. Below: the same for each layer.
    Template tokens belong to neither side.
    """
    if not (trace.phase != TEMPLATE).any() or not trace.expert_ids.size:
        return blank(t("Nothing was routed."), height)
    experts = trace.num_experts
    names, colours, uniform = np.arange(experts), expert_colours(experts), 100 / experts
    layout: dict[str, Any] = {
        "margin": {"l": 44, "r": 66, "t": 24, "b": 38},
        "showlegend": False,
        "bargap": 0.25,
        "annotations": [],
        "shapes": [],
        "coloraxis": {
            "cmin": 0,
            "cmax": min(100.0, 4 * uniform),
            "colorscale": [(0, "rgba(128,128,128,0.03)"), (1, "#6b6b76")],
            "colorbar": {"title": {"text": t("share")}, "ticksuffix": " %", "len": 0.67, "y": 0, "yanchor": "bottom"},
        },
    }
    layers = trace.layer_indices.astype(str).tolist()
    data: list[dict[str, Any]] = []
    most = 2 * uniform
    for side, (phase, english) in enumerate(SIDES):
        name = t(english)
        part = trace.select(tokens=trace.phase == phase)
        by_layer = _percent(part)  # [L, E]
        mean = np.nan_to_num(by_layer.mean(axis=0))
        most = max(most, float(mean.max()))
        bars, cells = ("", "3") if side == 0 else ("2", "4")
        data += [
            {
                "type": "bar",
                "x": names,
                "y": mean.astype(np.float32),
                "xaxis": f"x{bars}",
                "yaxis": f"y{bars}",
                "marker": {"color": colours, "line": {"width": 0.5, "color": "#888888"}},
                "hovertemplate": f"{t('expert')} %{{x}}: %{{y:.1f}} %<extra></extra>",
            },
            {
                "type": "heatmap",
                "z": by_layer.astype(np.float32),
                "x": names,
                "y": layers,
                "coloraxis": "coloraxis",
                "xaxis": f"x{cells}",
                "yaxis": f"y{cells}",
                "xgap": 1,
                "hoverongaps": False,
                "hovertemplate": f"{t('layer')} %{{y}}, {t('expert')} %{{x}}: %{{z:.1f}} %<extra></extra>",
            },
        ]
        span = [0, 0.485] if side == 0 else [0.515, 1]
        across = {"domain": span, "range": [-0.5, experts - 0.5], "fixedrange": True}
        down = {"showticklabels": side == 0, "fixedrange": True}
        layout[f"xaxis{bars}"] = across | {"anchor": f"y{bars}", "showticklabels": False}
        layout[f"xaxis{cells}"] = across | {"anchor": f"y{cells}", "title": {"text": t("expert")}, "nticks": 16}
        layout[f"yaxis{bars}"] = down | {"domain": [0.7, 1], "anchor": f"x{bars}", "ticksuffix": " %", "nticks": 4}
        layout[f"yaxis{cells}"] = down | {
            "domain": [0, 0.67],
            "anchor": f"x{cells}",
            **layer_axis(trace),
            "title": {"text": t("layer") if side == 0 else ""},
            "nticks": 12,
        }
        layout["shapes"].append(
            {
                "type": "line",
                "xref": f"x{bars} domain",
                "x0": 0,
                "x1": 1,
                "yref": f"y{bars}",
                "y0": uniform,
                "y1": uniform,
                "line": {"dash": "dot", "width": 1.5},
            }
        )
        count = tn("{n} token", "{n} tokens", len(part)) if len(part) else t("nothing yet")
        words = t("{side}, {count}", side=name, count=count)
        layout["annotations"].append(
            note(words, xref="paper", yref="paper", x=span[0], y=1, xanchor="left", yanchor="bottom")
        )
    for axis in ("yaxis", "yaxis2"):
        layout[axis]["range"] = [0, most * 1.08]
    layout["annotations"].append(
        note(
            t("uniform<br>{share:.3g} %", share=uniform),
            xref="paper",
            x=1.005,
            y=uniform,
            yref="y2",
            xanchor="left",
            align="left",
            font={"size": 10},
        )
    )
    mark_edit(layout, trace)
    return figure(height, data, layout)


def _percent(part: RoutingTrace) -> np.ndarray:
    """Share of the picks in percent, averaged over projections [L, E]."""
    with np.errstate(invalid="ignore"):
        return analysis.load(part).mean(axis=1) * 100
