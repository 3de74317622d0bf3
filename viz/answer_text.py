"""The answer's words in the conversation and their tokens in the trace. Pure.

Offsets count characters of the answer's text.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from molora.trace import ANSWER, RoutingTrace
from viz.session import Session


def answer_rows(trace: RoutingTrace) -> NDArray[np.int64]:
    """Rows of the last answer [A], which follow each other."""
    rows = (trace.phase == ANSWER).nonzero()[0]
    breaks = (np.diff(rows) > 1).nonzero()[0]
    return rows[breaks[-1] + 1 :] if len(breaks) else rows


def answer_turn(session: Session) -> int | None:
    """Which turn says what the trace answers; None if none says it word for word."""
    if session.trace is None:
        return None
    text = "".join(session.trace.token_text[row] for row in answer_rows(session.trace).tolist())
    for at in range(len(session.turns) - 1, -1, -1):
        turn = session.turns[at]
        if turn.role == "assistant" and turn.opened == bool(session.opened):
            return at if text and turn.content.startswith(text) else None
    return None


def span(trace: RoutingTrace, row: int) -> tuple[int, int] | None:
    """Where a token's text stands in the answer: (first character, one past the last); None outside of the answer."""
    rows = answer_rows(trace)
    if not len(rows) or not rows[0] <= row <= rows[-1]:
        return None
    start = sum(len(trace.token_text[before]) for before in range(int(rows[0]), row))
    return start, start + len(trace.token_text[row])


def row_at(trace: RoutingTrace, offset: int) -> int | None:
    """The token that a character of the answer belongs to; None past the last token that was read."""
    rows = answer_rows(trace)
    ends = np.cumsum([len(trace.token_text[row]) for row in rows.tolist()])
    place = int(np.searchsorted(ends, offset, side="right"))
    return int(rows[place]) if offset >= 0 and place < len(rows) else None
