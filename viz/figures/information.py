"""How much a pick tells of the task: normalised mutual information by layer, a line a projection, over its baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from molora.atlas.analysis import information
from molora.atlas.data import Atlas, Part
from viz.figures.style import blank, figure, short
from viz.language import t

_DASHES = ("solid", "dash", "dot")
_LINE, _BAND = "#7c7c86", "rgba(128,128,128,0.28)"


def task_information(
    atlas: Atlas,
    *,
    part: Part = "both",
    layers: tuple[int, ...] | None = None,
    projections: tuple[str, ...] | None = None,
    height: int = 240,
) -> go.Figure:
    """Draws every layer of `atlas`; `layers` are marked on their lines, `projections` (None: all) have lines.

    The band is the baseline, task names shuffled over prompts: from 0 to the highest of the shufflings and projections.
    """
    if not atlas.picks.size or not atlas.prompt_counts(part).any():
        return blank(t("The atlas has no token of this kind."), height)
    known = information(atlas, part)
    shown = [at for at, name in enumerate(atlas.projections) if projections is None or name in projections]
    numbers = atlas.layer_indices.astype(int)
    band: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "x": numbers,
        "y": known.shuffled_max[:, shown].max(axis=1).astype(np.float32),
        "name": t("shuffled"),
        "showlegend": False,
        "fill": "tozeroy",
        "fillcolor": _BAND,
        "line": {"width": 0},
        "hovertemplate": t("layer {layer}: at most {nmi} with shuffled tasks", layer="%{x}", nmi="%{y:.3f}")
        + "<extra></extra>",
    }
    lines = [
        {
            "type": "scatter",
            "mode": "lines+markers" if layers else "lines",
            "x": numbers,
            "y": known.nmi[:, at].astype(np.float32),
            "name": short(atlas.projections[at]),
            "line": {"color": _LINE, "width": 1.5, "dash": _DASHES[at % len(_DASHES)]},
            "marker": {"color": _LINE, "size": [6 if layers and layer in layers else 0 for layer in numbers]},
            "hovertemplate": f"{short(atlas.projections[at])}, {t('layer')} %{{x}}: %{{y:.3f}}<extra></extra>",
        }
        for at in shown
    ]
    most = float(max(known.nmi[:, shown].max(), known.shuffled_max[:, shown].max()))
    return figure(
        height,
        [band, *lines],
        {
            "margin": {"l": 44, "r": 6, "t": 22, "b": 34},
            "xaxis": {
                "title": {"text": t("layer")},
                "fixedrange": True,
                "range": [numbers[0] - 0.5, numbers[-1] + 0.5],
            },
            "yaxis": {"title": {"text": t("NMI")}, "fixedrange": True, "range": [0, most * 1.08 or 1], "nticks": 5},
            "showlegend": True,
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": 1,
                "yanchor": "bottom",
                "bgcolor": "rgba(0,0,0,0)",
                "font": {"size": 10},
                "itemclick": False,
                "itemdoubleclick": False,
            },
        },
    )
