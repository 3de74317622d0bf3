"""Words in the conversation and their tokens in the trace: of the last question and of its answer. Pure.

Offsets count characters of the question's or the answer's text.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from molora.trace import ANSWER, PROMPT, RoutingTrace
from viz.session import Session

Part = Literal["question", "answer"]


def answer_rows(trace: RoutingTrace) -> NDArray[np.int64]:
    """Rows of the last answer [A], which follow each other."""
    return _last_run((trace.phase == ANSWER).nonzero()[0])


def question_rows(trace: RoutingTrace) -> NDArray[np.int64]:
    """Rows of the last thing asked [Q], which follow each other."""
    rows, answered = (trace.phase == PROMPT).nonzero()[0], answer_rows(trace)
    return _last_run(rows[rows < answered[0]] if len(answered) else rows)


def linked_turns(session: Session) -> dict[int, Part]:
    """Which turns say the trace's question and answer; none that does not say it word for word."""
    trace, found = session.trace, dict[int, Part]()
    if trace is None:
        return found
    answer, question = (_text(trace, rows) for rows in (answer_rows(trace), question_rows(trace)))
    for at in range(len(session.turns) - 1, -1, -1):
        turn = session.turns[at]
        if turn.opened != bool(session.opened):
            continue
        if turn.role == "assistant" and not found:
            if answer and not turn.content.startswith(answer):
                break
            found |= {at: "answer"} if answer else {}
        elif turn.role == "user":
            same = bool(question) and turn.content == question
            found |= {at: "question"} if same else {}
            if same or found:
                break
    return found


def span(trace: RoutingTrace, row: int) -> tuple[Part, int, int] | None:
    """Where a token's text stands: part, first character, one past the last; None outside of question and answer."""
    for part, rows in _parts(trace).items():
        if len(rows) and rows[0] <= row <= rows[-1]:
            start = sum(len(trace.token_text[before]) for before in range(int(rows[0]), row))
            return part, start, start + len(trace.token_text[row])
    return None


def row_at(trace: RoutingTrace, offset: int, part: Part = "answer") -> int | None:
    """The token that a character of the part belongs to; None past the last token that was read."""
    rows = _parts(trace)[part]
    ends = np.cumsum([len(trace.token_text[row]) for row in rows.tolist()])
    place = int(np.searchsorted(ends, offset, side="right"))
    return int(rows[place]) if offset >= 0 and place < len(rows) else None


def _parts(trace: RoutingTrace) -> dict[Part, NDArray[np.int64]]:
    return {"question": question_rows(trace), "answer": answer_rows(trace)}


def _last_run(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    breaks = (np.diff(rows) > 1).nonzero()[0]
    return rows[breaks[-1] + 1 :] if len(breaks) else rows


def _text(trace: RoutingTrace, rows: NDArray[np.int64]) -> str:
    return "".join(trace.token_text[row] for row in rows.tolist())
