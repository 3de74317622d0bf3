"""What an edit does to an answer: a bar for each of its tokens, and a bar for each expert switched off in turn.

Both show changes of log-probability in nats: red is likelier, blue is less likely, and zero is in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from molora.effects import Effect
from viz.figures.style import blank, figure, note, visible
from viz.language import t
from viz.palette import diverging_scale, expert_colours

_TOKEN_CHARACTERS = 14
_WORDS_CHARACTERS = 90
_NAMED_TOKENS = 48
"""With more, the axis names every second, third, ... token; the hover text names each."""
_NAMED_EXPERTS = 24
_LEAST = 0.01
"""Nats; smaller changes do not fill the scale."""


def token_changes(texts: Sequence[str], change: NDArray[np.float32], *, edit: str = "", height: int = 230) -> go.Figure:
    """A bar for each token of the original answer: its log-probability under the edit minus that without.

    texts: of the A tokens; change: [A] in nats; edit: in words, written over the bars. Raises ValueError naming both
    sizes if they differ.
    """
    if len(texts) != len(change):
        raise ValueError(f"{len(texts)} tokens and {len(change)} changes; there must be one for each.")
    if not len(change):
        return blank(t("The answer has no token to score."), height)
    names = [_shortened(visible(text), _TOKEN_CHARACTERS) for text in texts]
    most = max(float(np.abs(change).max()), _LEAST)
    rows = np.arange(len(change))
    every = -(-len(change) // _NAMED_TOKENS)
    data = [
        {
            "type": "bar",
            "x": rows,
            "y": change.astype(np.float32),
            "marker": {
                "color": change.astype(np.float32),
                "coloraxis": "coloraxis",
                "line": {"width": 0.5, "color": "#888888"},
            },
            "customdata": [escape(name) for name in names],
            "hovertemplate": "%{customdata}<br>" + t("{change} nats", change="%{y:+.3f}") + "<extra></extra>",
        }
    ]
    said = t(
        "mean {mean:+.3f} nats a token, largest {most:+.3f}",
        mean=change.mean(),
        most=change[np.abs(change).argmax()],
    )
    layout: dict[str, Any] = {
        "margin": {"l": 48, "r": 16, "t": 40 if edit else 24, "b": 66},
        "bargap": 0.15,
        "coloraxis": {"cmin": -most, "cmax": most, "colorscale": diverging_scale(), "showscale": False},
        "xaxis": {
            "range": [-0.5, len(change) - 0.5],
            "tickmode": "array",
            "tickvals": rows[::every].tolist(),
            "ticktext": [escape(name) for name in names[::every]],
            "tickangle": -60,
        },
        "yaxis": {"range": [-1.1 * most, 1.1 * most], "title": {"text": t("nats")}, "nticks": 6, "tickformat": "+.2~f"},
        "shapes": [_zero()],
        "annotations": [_head(said, edit)],
    }
    return figure(height, data, layout)


def sweep(effects: Sequence[Effect], num_experts: int, *, where: str = "", height: int = 200) -> go.Figure:
    """A bar for each expert: the mean change in nats a token while it is off; those not tried yet have none.

    where: the layers and projections that they were switched off in, in words.
    """
    if not effects:
        return blank(t("No expert has been switched off yet."), height)
    means = np.array([effect.mean for effect in effects], np.float32)
    experts = [effect.expert for effect in effects]
    colours = expert_colours(num_experts)
    most = max(float(np.abs(means).max()), _LEAST)
    data = [
        {
            "type": "bar",
            "x": experts,
            "y": means,
            "marker": {"color": [colours[expert] for expert in experts], "line": {"width": 0.5, "color": "#888888"}},
            "text": [f"{mean:+.3f}" for mean in means] if num_experts <= _NAMED_EXPERTS else None,
            "textposition": "outside",
            "cliponaxis": False,
            "hovertemplate": t("expert {expert} off: {change} nats a token", expert="%{x}", change="%{y:+.4f}")
            + "<extra></extra>",
        }
    ]
    layout: dict[str, Any] = {
        "margin": {"l": 48, "r": 16, "t": 40 if where else 24, "b": 34},
        "bargap": 0.25,
        "xaxis": {"range": [-0.5, num_experts - 0.5], "title": {"text": t("expert switched off")}, "dtick": 1}
        | ({} if num_experts <= _NAMED_EXPERTS else {"dtick": None, "nticks": 16}),
        "yaxis": {"range": [-1.3 * most, 1.3 * most], "title": {"text": t("nats")}, "nticks": 6, "tickformat": "+.2~f"},
        "shapes": [_zero()],
        "annotations": [_head(t("mean change of the answer's tokens with one expert off"), where)],
    }
    return figure(height, data, layout)


def _head(said: str, mark: str) -> dict[str, Any]:
    """What is shown, and in a line over it the edit, so that every picture of the figure says it too."""
    words = t("edited: {edit}", edit=_shortened(mark, _WORDS_CHARACTERS))
    line = f"<b>{escape(words)}</b><br>" if mark else ""
    return note(line + said, xref="paper", yref="paper", x=0, y=1, xanchor="left", yanchor="bottom", align="left")


def _zero() -> dict[str, Any]:
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"width": 1}}


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
