"""A trace as a table in long form: one row for each expert that was picked. Knows numpy and csv only.

Axes: T tokens, L layers, P projections, K picked; N rows, at most T * L * P * K.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from molora.analysis import PHASE_NAMES
from molora.trace import RoutingTrace

COLUMNS = ("token", "text", "phase", "layer", "projection", "rank", "expert", "weight")

_SLICE = 64
"""Tokens that are turned into rows at a time, so that a long trace is never in memory as text."""

_FORMULA = re.compile(r"\s*[-=+@'＝＋－＠]|[\t\r\n]")
"""How a text begins that a spreadsheet would compute instead of showing."""


def long_form(trace: RoutingTrace) -> dict[str, NDArray[Any]]:
    """Column name -> values [N], in the order token, layer, projection, rank; a DataFrame takes it as it is.

    token: the trace's row; text: what it adds; phase: template, prompt or answer; layer: the model's own number; rank:
    1 for the strongest pick; weight: what was really applied. A slot without a pick (the router has not run, or an
    edit switched it off) has no row.
    """
    at = np.argwhere(trace.expert_ids >= 0)  # [N, 4]
    token, layer, projection, slot = at.T
    picked = (token, layer, projection, slot)
    phases = np.array([PHASE_NAMES[value] for value in sorted(PHASE_NAMES)], object)
    return {
        "token": token,
        "text": _texts(trace.token_text)[token],
        "phase": phases[trace.phase[token]],
        "layer": trace.layer_indices[layer],
        "projection": _texts(trace.projections)[projection],
        "rank": slot + 1,
        "expert": trace.expert_ids[picked],
        "weight": trace.expert_weights[picked],
    }


def write_csv(trace: RoutingTrace, path: str | Path | IO[bytes]) -> None:
    """Writes `long_form` as CSV (RFC 4180) in UTF-8 with a header, and `edit` as last column.

    A text that a spreadsheet would take for a formula gets one apostrophe in front, and so does one that begins with an
    apostrophe: taking one leading apostrophe off every text gives the tokens back. `edit` says in words what was
    changed in the routing; it is empty for a trace without an edit.
    """
    if isinstance(path, (str, Path)):
        with Path(path).open("wb") as file:
            write_csv(trace, file)
        return
    # A text with half a character in it (a lone surrogate) must not stop the export.
    text = io.TextIOWrapper(path, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
    rows = csv.writer(text)
    rows.writerow([*COLUMNS, "edit"])
    edit = plain(trace.edit)
    for first in range(0, len(trace), _SLICE):
        part = trace.select(tokens=slice(first, first + _SLICE))
        part.token_text = [plain(piece) for piece in part.token_text]
        columns = long_form(part)
        columns["token"] += first
        columns["weight"] = columns["weight"].astype("U16")  # the shortest figures that give the same float32 again
        rows.writerows(zip(*(columns[name].tolist() for name in COLUMNS), [edit] * len(columns["token"]), strict=True))
    text.detach()  # the file stays open: it is the caller's


def plain(text: str) -> str:
    """The text as a spreadsheet shows it and never computes it."""
    return "'" + text if _FORMULA.match(text) else text


def _texts(texts: Any) -> NDArray[Any]:
    """An object array [len(texts)]; numpy alone would make room in every cell for the longest."""
    cells = np.empty(len(texts), object)
    cells[:] = texts
    return cells
