"""What stands beside an answer, for a report: what an edit did to it, what each expert does, and a second run."""

from __future__ import annotations

from html import escape

from molora.errors import MoloraError
from molora.trace import ANSWER
from viz.figures.compare import divergence_map, window_part
from viz.figures.difference import text_difference
from viz.figures.effects import sweep, token_changes
from viz.report import Beside
from viz.second import comparison
from viz.session import Session

_FIRST, _SECOND = "[-first-]", "{+second+}"


def beside(session: Session) -> list[Beside]:
    """All there is at hand, in the order of the tabs; nothing without a trace."""
    made = [_edited(session), _swept(session), _second(session)]
    return [part for part in made if part is not None]


def _edited(session: Session) -> Beside | None:
    """The first answer beside the edited one, and what the edit did to each of its tokens."""
    edits = session.edits
    if edits.change is None or edits.original is None:
        return None
    answers = edits.original.phase == ANSWER
    texts = [text for text, kept in zip(edits.original.token_text, answers, strict=True) if kept]
    figure = token_changes(texts, edits.change, edit=edits.words, height=260)
    told = [turn for turn in session.turns if turn.role == "assistant" and not turn.opened]
    first = next((turn.content for turn in reversed(told) if not turn.aside), "")
    html = _texts(first, told[-1].content) if told and told[-1].aside else ""
    title = "The first answer beside the edited one"
    return Beside("edit-changes", title, html, "Change of each token's log-probability under the edit", figure)


def _swept(session: Session) -> Beside | None:
    edits = session.edits
    if not edits.effects or edits.original is None:
        return None
    figure = sweep(edits.effects, edits.original.num_experts, where=edits.swept(), height=240)
    return Beside("edit-effects", "Each expert switched off in turn", "", "Effect on the answer's likelihood", figure)


def _second(session: Session) -> Beside | None:
    """As the Compare tab shows it; nothing for runs that cannot be compared."""
    other, view, shown = session.other, session.view, session.window
    if session.trace is None or other is None:
        return None
    try:
        found, line = comparison(session.trace, other, view)
    except MoloraError:
        return None
    part = window_part(found, view.show, shown.first, shown.last) if shown.narrow else None
    figure = divergence_map(found, show=view.show, height=420, part=part)
    answers = [turn[1] for turn in session.kept() if turn[0] == "assistant"]
    edit = f" <b>edited: {escape(other.trace.edit[:400])}</b>" if other.trace.edit else ""
    html = f'<p class="soft">{line}</p>{_texts(answers[-1] if answers else "", other.answer)}'
    title = f"Second run: {escape(other.words)}{edit}"
    return Beside("compare-map", title, html, "Divergence of the two runs: aligned tokens across, layers down", figure)


def _texts(first: str, second: str) -> str:
    return (
        f'<p class="soft">What only one answer says: {_FIRST} {_SECOND}</p>'
        f'<div class="difference" dir="auto">{text_difference(first, second)}</div>'
    )
