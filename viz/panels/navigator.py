"""Finds the way in a long trace: search, jump to the answer, the overview and its window; passes on what is chosen.

What is chosen is one small value, which the browser marks in the strip, the maps and the conversation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from molora.errors import MoloraError
from viz.answer_text import answer_rows, row_at, span
from viz.assets import js
from viz.figures.overview import overview
from viz.figures.style import blank, short
from viz.language import noted, t
from viz.panels.events import EVERY
from viz.panels.notice import Notice
from viz.panels.plot import plot
from viz.panels.wording import worded
from viz.search import find
from viz.session import Session
from viz.view import shown_tokens
from viz.window import around, chosen_move, moved

HEIGHT = 54


def _bar() -> str:
    def button(attributes: str, name: str, sign: str) -> str:
        return f'<button type="button" {attributes} aria-label="{name}" title="{name}">{sign}</button>'

    return (
        f'<input type="search" id="seek" maxlength="100" placeholder="{t("Find a token")}" autocomplete="off" '
        f'aria-label="{t("Find a token: Enter for the next, Shift and Enter for the one before")}">'
        + button('id="seek-back" data-seek="-1"', t("Previous match"), "↑")
        + button('id="seek-on" data-seek="1"', t("Next match"), "↓")
        + f'<button type="button" id="to-answer" title="{t("Chooses the first token of the answer")}">'
        f'{t("To the answer")}</button><span class="paging" role="group" aria-label="{t("Move the window")}">'
        + button('data-to="home"', t("First tokens"), "⇤")
        + button('data-to="back"', t("Earlier tokens"), "←")
        + button('data-to="on"', t("Later tokens"), "→")
        + button('data-to="end"', t("Last tokens"), "⇥")
        + "</span>"
    )


class Navigator:
    """`draw` gives one value for each of `outputs`."""

    def __init__(self) -> None:
        with gr.Row(elem_classes="navigator"):
            self.bar = worded(
                lambda: {"value": _bar()},
                gr.HTML,
                js_on_load=js("navigator"),
                elem_id="navigator",
                apply_default_css=False,
            )
            self.said = gr.HTML(
                "", html_template='<span role="status">${value}</span>', elem_id="found", apply_default_css=False
            )
        self.overview = plot(
            overview_of(Session()),
            name="overview",
            label=noted(
                "Overview of all tokens: the leading expert of each run of tokens; the frame is what the map shows"
            ),
        )
        self.selection = gr.HTML(
            "", js_on_load=js("selection"), elem_id="selection", elem_classes="unseen", apply_default_css=False
        )
        self.outputs = [self.overview, self.said, self.selection]

    @staticmethod
    def said_of(session: Session, found: str = "") -> str:
        """What was found, and which tokens the window shows."""
        shown = session.window
        if not shown.narrow:
            return found
        words = t(
            "tokens {first:,} to {last:,} of {count:,}",
            first=shown.first,
            last=shown.last - 1,
            count=shown.high - shown.low,
        )
        return f"{found} · {words}" if found else words

    @staticmethod
    def chosen(session: Session, streaming: bool) -> str:
        """What is chosen and shown, as JSON; `span` is where the token stands in question or answer."""
        row, trace, shown, place = session.selected, session.trace, session.window, session.edits.place
        return json.dumps(
            {
                "row": row,
                "layer": None if place is None else str(place[0]),
                "name": None if place is None else short(place[1]),
                "marked": session.chosen is not None or not streaming,
                "span": None if row is None or trace is None else span(trace, row),
                "when": session.newest.get("choice", 0),
                "narrow": shown.narrow,
                **shown._asdict(),
            }
        )

    def wire(
        self, state: gr.State, notice: Notice, draw: Callable[[Session, str], list[Any]], outputs: list[Any]
    ) -> None:
        """draw: values of `outputs` after a choice, with what was found in words."""

        def event(step: Callable[[Session, gr.EventData], str]) -> Callable[..., list[Any]]:
            def happened(session: Session, event: gr.EventData) -> list[Any]:
                try:
                    found = step(session, event)
                except MoloraError as error:
                    return [Notice.of(error), *[gr.skip()] * len(outputs)]
                return ["", *draw(session, found)]

            return happened

        page = [notice.html, *outputs]
        self.bar.seek(event(sought), state, page, **EVERY)
        self.bar.answer(event(to_answer), state, page, **EVERY)
        self.bar.move(event(paged), state, page, **EVERY)
        self.overview.cell(event(moved_to), state, page, **EVERY)


def overview_of(session: Session) -> go.Figure:
    """The figure of the session's whole trace."""
    trace, view, shown = session.trace, session.view, session.window
    if trace is None:
        return blank("", HEIGHT)
    return overview(view.cut(trace), show=view.show, window=(shown.first, shown.last), height=HEIGHT)


def sought(session: Session, event: gr.EventData) -> str:
    """Chooses the next match, and says which of how many it is."""
    text, step = getattr(event, "text", None), getattr(event, "step", None)
    if session.trace is None or not isinstance(text, str) or not text.strip() or step not in (-1, 0, 1):
        return ""
    rows = shown_tokens(session.trace, session.view.show).nonzero()[0]
    match = find(session.trace.token_text, rows, text, session.chosen, step)
    if match is None:
        return t("not found")
    _choose(session, match.row)
    return t("{number} of {matches}", number=match.number, matches=match.matches)


def to_answer(session: Session, _event: gr.EventData) -> str:
    """Chooses the answer's first token."""
    rows = [] if session.trace is None else answer_rows(session.trace).tolist()
    if not rows:
        raise MoloraError(t("There is no answer yet."))
    if session.view.show == "prompt":
        raise MoloraError(t("The answer is not shown now. Choose “both” or “answer” under Show."))
    _choose(session, rows[0])
    return ""


def paged(session: Session, event: gr.EventData) -> str:
    session.start = moved(session.window, chosen_move(getattr(event, "to", None)))
    return ""


def moved_to(session: Session, event: gr.EventData) -> str:
    """The window stands where the overview was clicked."""
    row = getattr(event, "row", None)
    if session.trace is not None and isinstance(row, int) and 0 <= row < len(session.trace):
        session.start = max(around(row), 0)
    return ""


def word(session: Session, event: gr.EventData) -> bool:
    """Chooses the token of a clicked character of the question or the answer; False if there is none."""
    at, part = getattr(event, "at", None), getattr(event, "part", None)
    if session.trace is None or not isinstance(at, int) or part not in ("question", "answer"):
        return False
    row = row_at(session.trace, at, part)
    if row is None or session.overtaken("choice", getattr(event, "when", None)):
        return False
    _choose(session, row)
    return True


def _choose(session: Session, row: int) -> None:
    session.choose(row)
    session.edits.place = None
