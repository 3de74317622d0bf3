"""The Compare tab: a second run of the same conversation, or a second trace, beside the one on the page."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from molora.compare import Comparison
from molora.errors import MoloraError
from viz.coming import Coming
from viz.figures.compare import divergence_map, window_part
from viz.figures.difference import text_difference
from viz.figures.edit_words import edit_words
from viz.figures.style import blank
from viz.language import noted, t
from viz.opened import said
from viz.panels.events import MODEL, QUICK
from viz.panels.notice import Notice
from viz.panels.opening import Opening
from viz.panels.plot import packed, plot
from viz.panels.wording import button, worded
from viz.second import Other, comparison
from viz.second_run import AGAIN, OTHERWISE, choices, plan, run
from viz.session import Session
from viz.view import Shape

HEIGHT = 330


class ComparePanel:
    """For a model without routers it only says so, and `outputs` is empty."""

    def __init__(self, shape: Shape) -> None:
        self.outputs: list[Any] = []
        if not shape.projections:
            worded(
                lambda: {"said": t("This model has no routers, so there is nothing to compare.")},
                gr.HTML,
                html_template='<div class="no-atlas">${said}</div>',
                elem_id="compare",
                apply_default_css=False,
            )
            return
        experts = shape.num_experts
        with gr.Row(elem_classes="controls", elem_id="compare"):
            self.what = worded(
                lambda: {"label": t("Second run"), "choices": choices(experts)},
                gr.Dropdown,
                value=choices(experts)[0][1],
                elem_id="compare-what",
            )
            self.temperature = worded(
                lambda: {"label": t("Temperature")},
                gr.Number,
                0.7,
                minimum=0,
                maximum=2,
                step=0.05,
                visible=False,
                elem_id="compare-temperature",
            )
            self.seed = worded(
                lambda: {"label": t("Seed")},
                gr.Number,
                1,
                precision=0,
                minimum=0,
                maximum=2**31 - 1,
                visible=False,
                elem_id="compare-seed",
            )
            self.question = worded(
                lambda: {"label": t("Question")},
                gr.Textbox,
                lines=1,
                max_lines=1,
                visible=False,
                elem_id="compare-question",
            )
            self.start = button(lambda: t("Run"), "compare-run")
            self.cancel = button(lambda: t("Cancel"), "compare-cancel", visible=False)
            self.opening = Opening("second", noted("Open second trace"))
        self.title = gr.HTML(
            "",
            html_template='<div role="status">${value}</div>',
            elem_id="compare-title",
            elem_classes="token-title",
            apply_default_css=False,
        )
        self.map = plot(
            blank(t(_EMPTY), HEIGHT),
            name="compare-map",
            label=noted("Divergence of two runs: aligned tokens across, layers down, and each layer's mean"),
        )
        self.text = gr.HTML("", elem_id="compare-text", apply_default_css=False)
        self.outputs = [self.title, self.map, self.text, self.start, self.cancel]

    def draw(self, session: Session, progress: str = "") -> list[Any]:
        """progress: of a second run under way."""
        if not self.outputs:
            return []
        planned, view, height = session.planned, session.view, HEIGHT
        buttons = [gr.update(visible=planned is None), gr.update(visible=planned is not None)]
        if planned is not None:
            words = escape(t("Second run, {what}", what=planned.words))
            line = f"<b>{words}</b>: {escape(progress or t('waiting for the model'))}"
            return [line, packed(blank(t("The second run is under way."), height)), "", *buttons]
        if session.trace is None or session.other is None:
            return ["", packed(blank(t(_EMPTY), height)), "", *buttons]
        other = session.other
        try:
            found, line = comparison(session.trace, other, view)
        except MoloraError as error:
            return [_name(other), packed(blank(escape(str(error)), height)), "", *buttons]
        figure = packed(self._map(session, found, texts_once=True))
        return [f"{_name(other)} {line}", figure, _answers(_first_answer(session), other.answer), *buttons]

    @staticmethod
    def figure(session: Session) -> go.Figure:
        """The map alone."""
        if session.trace is None or session.other is None:
            return blank(t(_EMPTY), HEIGHT)
        try:
            return ComparePanel._map(session, comparison(session.trace, session.other, session.view)[0])
        except MoloraError as error:
            return blank(escape(str(error)), HEIGHT)

    @staticmethod
    def _map(session: Session, found: Comparison, texts_once: bool = False) -> go.Figure:
        """Of the tokens in the window."""
        show, shown = session.view.show, session.window
        part = window_part(found, show, shown.first, shown.last) if shown.narrow else None
        return divergence_map(found, show=show, height=HEIGHT, part=part, texts_once=texts_once)

    def wire(self, coming: Coming, state: gr.State, notice: Notice) -> None:
        """A run is two events, as an answer is: it is planned at once, then it waits for the model's turn."""
        if not self.outputs:
            return
        page = [notice.html, *self.outputs]

        def planned(session: Session, *chosen: Any) -> list[Any]:
            try:
                session.planned = plan(session, *chosen)
            except MoloraError as error:
                return [Notice.of(error), *[gr.skip()] * len(self.outputs)]
            return ["", *self.draw(session)]

        def made(session: Session) -> Iterator[list[Any]]:
            if session.planned is None:  # refused, or cancelled before its turn
                yield [gr.skip()] * len(page)
                return
            refused = ""
            try:
                for progress in run(coming.engine, session):
                    if session.planned is not None:
                        yield [gr.skip(), self.draw(session, progress)[0], *[gr.skip()] * (len(page) - 2)]
            except MoloraError as error:
                refused = Notice.of(error)
            yield [refused, *self.draw(session)]

        def cancelled(session: Session) -> list[Any]:
            session.planned = None
            return self.draw(session)

        def opened(session: Session, event: gr.EventData) -> list[Any]:
            try:
                if session.trace is None:
                    raise MoloraError(t("Ask something, or open a first trace: the second one stands beside it."))
                trace, name = Opening.read(session, event)
            except MoloraError as error:
                return [Notice.of(error), *[gr.skip()] * len(self.outputs)]
            answers = [text for role, text in said(trace) if role == "assistant"]
            words = t("file {name}", name=name[:60])
            session.planned, session.other = None, Other(trace, answers[-1] if answers else "", words)
            return ["", *self.draw(session)]

        chosen = [self.what, self.temperature, self.seed, self.question]
        self.what.input(_asked, self.what, chosen[1:], **QUICK)
        start = gr.on([self.start.click, self.question.submit], planned, [state, *chosen], page, **QUICK)
        start.success(made, state, page, api_visibility="private", **MODEL)
        self.cancel.click(cancelled, state, self.outputs, **QUICK)
        self.opening.button.opened(opened, state, page, **QUICK)


_EMPTY = noted("Ask something, choose what the second run shall be, and press Run.")


def _asked(what: str) -> list[Any]:
    """Only the boxes that the choice needs."""
    return [gr.update(visible=what == AGAIN)] * 2 + [gr.update(visible=what == OTHERWISE)]


def _name(other: Other) -> str:
    """Safe HTML: what the second run is, and marked if it was edited."""
    edited = escape(t("edited: {edit}", edit=edit_words(other.trace)[:120]))
    mark = f' <span class="mark">{edited}</span>' if other.trace.edit else ""
    return f"<b>{escape(t('Second: {what}', what=other.words))}</b>{mark}"


def _answers(first: str, second: str) -> str:
    """Safe HTML: the difference of the answers, in a box that scrolls, under what its marks mean."""
    return (
        f'<div class="caption">{t("Answers:")} <i>[-</i><del>{t("only the first")}</del><i>-]</i> '
        f"<i>{{+</i><ins>{t('only the second')}</ins><i>+}}</i></div>"
        f'<div class="scroller" tabindex="0" role="region" aria-label="{t("Difference of the answers")}" dir="auto">'
        f"{text_difference(first, second)}</div>"
    )


def _first_answer(session: Session) -> str:
    answers = [turn[1] for turn in session.kept() if turn[0] == "assistant"]
    return answers[-1] if answers else ""
