"""Two runs side by side: how far their routers lie apart for every token, layer and projection, and on the mean.

The map's columns are the aligned tokens; a token that only one run read is a gap.
"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from molora.compare import Comparison, changed_picks, mean
from molora.trace import ANSWER, PROMPT
from viz import palette
from viz.figures.edit_words import edit_words
from viz.figures.style import blank, figure, layer_axis, mark, note, short, visible
from viz.language import t, tn
from viz.view import Show

_LEAST = 0.01
"""bits that the scale reaches at least: rounding must not look like a difference"""
_MAP, _BARS = [0, 0.8], [0.825, 1]


def divergence_map(
    found: Comparison, *, show: Show = "both", height: int = 360, part: slice | None = None, texts_once: bool = False
) -> go.Figure:
    """Draws the divergence [A, L, P], a block a projection, and beside each layer its mean over the tokens shown.

    Faint is no difference, full the largest one; a gap is neither. Raises nothing for runs without a
    common token; it says so.

    part: columns to draw of those that `show` keeps; colours and means stay those of all of them.
    texts_once: each token's text comes once and not for every layer; only the page reads that.
    """
    kept = shown_rows(found, show)
    if not (kept & found.alignment.both).any() or not found.bits.size:
        return blank(t("The two runs have no token of this kind in common."), height)
    bits = found.bits[kept]  # [A, L, P]
    first, last, _ = (part or slice(None)).indices(len(bits))
    rows = found.alignment.rows[kept][first:last]
    texts = [escape(visible(text)) for text in type(found.alignment)(rows).text(found.one, found.other)]
    layers, projections = found.one.layer_indices.astype(str).tolist(), found.one.projections
    means = mean(bits, 0)  # [L, P]
    blocks = len(projections)
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "margin": {"l": 44, "r": 60, "t": 20, "b": 34},
        "showlegend": False,
        "bargap": 0.15,
        "shapes": [],
        "annotations": [note(t("mean"), xref="paper", yref="paper", x=_BARS[0], y=1, xanchor="left", yanchor="bottom")],
        "coloraxis": {
            "cmin": 0,
            "cmax": max(_LEAST, float(np.nanmax(bits))),
            "colorscale": palette.strength_scale(),
            "colorbar": {"title": {"text": t("bits")}, "nticks": 5},
        },
        "xaxis": {"domain": _MAP, "range": [first - 0.5, last - 0.5], "title": {"text": t("aligned token")}},
        "xaxis2": {
            "domain": _BARS,
            "range": [0, max(_LEAST, float(np.nanmax(means))) * 1.05],
            "title": {"text": t("bits")},
            "fixedrange": True,
            "nticks": 3,
        },
    }
    for block, projection in enumerate(projections):
        number = "" if block == 0 else str(block + 1)
        name = escape(short(projection))
        data += [
            {
                "type": "heatmap",
                "z": np.ascontiguousarray(bits[first:last, :, block].T),
                "x0": first,
                "dx": 1,
                "y": layers,
                "text": [texts] * (1 if texts_once else len(layers)),
                "coloraxis": "coloraxis",
                "yaxis": f"y{number}",
                "name": short(projection),
                "hoverongaps": False,
                "hovertemplate": "<b>%{text}</b><br>"
                + t("layer {layer}, {projection}", layer="%{y}", projection=name)
                + f"<br>{t('{bits} bits apart', bits='%{z:.3f}')}<extra></extra>",
            },
            {
                "type": "bar",
                "orientation": "h",
                "x": np.nan_to_num(means[:, block]).astype(np.float32),
                "y": layers,
                "xaxis": "x2",
                "yaxis": f"y{number}",
                "marker": {"color": palette.STRENGTH},
                "hovertemplate": t("layer {layer}, {projection}", layer="%{y}", projection=name)
                + f"{t(': ')}{t('{bits} bits on the mean', bits='%{x:.3f}')}<extra></extra>",
            },
        ]
        top = 1 - block / blocks
        layout[f"yaxis{number}"] = {
            "domain": [max(top - 1 / blocks + (0.012 if block < blocks - 1 else 0), 0), top],
            "title": {"text": short(projection)},
            **layer_axis(found.one),
            "nticks": max(4, 12 // blocks),
            **({"matches": "y"} if block else {}),
        }
    layout["xaxis"]["anchor"] = layout["xaxis2"]["anchor"] = f"y{blocks if blocks > 1 else ''}"
    layout["uirevision"] = f"{show} {first} {','.join(layers)} {','.join(projections)}"
    layout["meta"] = {"columns": rows[:, 0].tolist(), "from": first}  # rows of the first run; -1 for none
    _mark_answer(layout, _phases(found)[kept], first, last)
    mark(layout, _edits(found))
    return figure(height, data, layout)


def comparison_line(found: Comparison, *, show: Show = "both") -> str:
    """Safe HTML of one line: tokens in common, mean divergence, where it is largest, picks that differ."""
    kept = shown_rows(found, show)
    mine, theirs = found.alignment.rows[kept].T
    both = int((found.alignment.both & kept).sum())
    words = [
        tn("<b>{n}</b> token in both runs", "<b>{n}</b> tokens in both runs", both)
        + t(
            ", {first} only in the first, {second} only in the second",
            first=int((theirs < 0).sum()),
            second=int((mine < 0).sum()),
        )
    ]
    if both and found.bits.size:
        means = mean(found.bits[kept], 0)  # [L, P]
        at = np.unravel_index(int(np.nan_to_num(means).argmax()), means.shape)
        alignment = type(found.alignment)(found.alignment.rows[kept])
        picks = mean(changed_picks(found.one, found.other, alignment))
        words.append(t("<b>{bits:.3f}</b> bits apart on the mean", bits=float(mean(means))))
        words.append(
            t(
                "most in layer {layer}, {projection} ({bits:.3f})",
                layer=found.one.layer_indices[at[0]],
                projection=escape(short(found.one.projections[at[1]])),
                bits=means[at],
            )
        )
        if not np.isnan(picks):
            words.append(t("<b>{share:.0%}</b> of picks differ", share=float(picks)))
    return " · ".join(words)


def shown_rows(found: Comparison, show: Show) -> NDArray[np.bool_]:
    """Which rows of the alignment `show` keeps [A]."""
    if show == "both":
        return np.ones(len(found.alignment), bool)
    return _phases(found) == (PROMPT if show == "prompt" else ANSWER)


def window_part(found: Comparison, show: Show, first: int, last: int) -> slice:
    """The `part` of the map that has the first run's rows from `first` to before `last`, and what the second alone
    read between them; at its ends all that lies beyond them."""
    mine = found.alignment.rows[shown_rows(found, show), 0]
    held = ((mine >= first) & (mine < last)).nonzero()[0]
    if not len(held):
        return slice(0, len(mine))
    before, after = (mine[: held[0]] >= 0).any(), (mine[held[-1] + 1 :] >= 0).any()
    return slice(int(held[0]) if before else 0, int(held[-1]) + 1 if after else len(mine))


def _phases(found: Comparison) -> NDArray[np.uint8]:
    return found.alignment.phase(found.one, found.other)


def _edits(found: Comparison) -> str:
    """Of both runs, in words; "" if neither was edited."""
    first, second = edit_words(found.one), edit_words(found.other)
    sides = [t("first run edited: {edit}", edit=first)] if first else []
    sides += [t("second run edited: {edit}", edit=second)] if second else []
    return t("; ").join(sides)


def _mark_answer(layout: dict[str, Any], phases: NDArray[np.uint8], first: int, last: int) -> None:
    """A line where the answer begins, and the word beside it, if it is among the columns that are drawn."""
    start = int((phases == ANSWER).argmax()) if (phases == ANSWER).any() else -1
    if start <= 0 or not first <= start < last:
        return
    line = {"type": "line", "x0": start - 0.5, "x1": start - 0.5, "y0": 0, "y1": 1.05, "yref": "paper"}
    layout["shapes"].append(line | {"layer": "above", "line": {"width": 2}})
    layout["annotations"].append(
        note(t("answer"), x=start - 0.5, xanchor="left", xshift=4, yref="paper", y=1, yanchor="bottom")
    )
