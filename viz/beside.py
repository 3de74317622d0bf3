"""What stands beside an answer, for a report: what an edit did to it, what each expert does, and a second run."""

from __future__ import annotations

from html import escape

from molora.errors import MoloraError
from molora.trace import ANSWER
from viz.figures.compare import divergence_map, window_part
from viz.figures.difference import text_difference
from viz.figures.edit_words import edit_words
from viz.figures.effects import sweep, token_changes
from viz.language import t
from viz.report import Beside
from viz.second import comparison
from viz.session import Session


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
    title = t("The first answer beside the edited one")
    return Beside("edit-changes", title, html, t("Change of each token's log-probability under the edit"), figure)


def _swept(session: Session) -> Beside | None:
    edits = session.edits
    if not edits.effects or edits.original is None:
        return None
    figure = sweep(edits.effects, edits.original.num_experts, where=edits.swept(), height=240)
    title = t("Each expert switched off in turn")
    return Beside("edit-effects", title, "", t("Effect on the answer's likelihood"), figure)


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
    edited = escape(t("edited: {edit}", edit=edit_words(other.trace)[:400]))
    edit = f" <b>{edited}</b>" if other.trace.edit else ""
    html = f'<p class="soft">{line}</p>{_texts(answers[-1] if answers else "", other.answer)}'
    title = escape(t("Second run: {what}", what=other.words)) + edit
    caption = t("Divergence of the two runs: aligned tokens across, layers down")
    return Beside("compare-map", title, html, caption, figure)


def _texts(first: str, second: str) -> str:
    said = t("What only the first answer says stands in [- -], what only the second says in {+ +}.")
    return f'<p class="soft">{said}</p><div class="difference" dir="auto">{text_difference(first, second)}</div>'
