"""The routing column: controls, token strip, tabs, summary, downloads. Redraws only what can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from html import escape
from threading import Lock
from typing import Any

import gradio as gr

from molora.atlas.data import Atlas
from molora.errors import MoloraError
from viz.figures.summary import summary_line
from viz.intervention import place_of
from viz.language import t
from viz.panels.atlas import AtlasPanel
from viz.panels.compare import ComparePanel
from viz.panels.controls import Controls
from viz.panels.downloads import Downloads
from viz.panels.edit import EditPanel
from viz.panels.events import EVERY, QUICK
from viz.panels.load import LoadPanel
from viz.panels.map import MapPanel
from viz.panels.navigator import Navigator, overview_of, paged, word
from viz.panels.notice import Notice
from viz.panels.opening import Opening
from viz.panels.plot import packed
from viz.panels.strip import StripPanel
from viz.panels.token import TokenPanel
from viz.panels.wording import worded
from viz.panels.words import Words
from viz.session import Session, Tab
from viz.view import Shape

_NOW = "(session, _, ...choices) => [session, performance.now(), ...choices]"
"""Sends with a choice when it was made."""


class RoutingPanel:
    """`draw` gives one value for each of `outputs`."""

    def __init__(
        self,
        layers: Sequence[int],
        num_experts: int,
        projections: tuple[str, ...],
        atlas: Atlas | str = "",
        top_k: int = 2,
    ) -> None:
        """atlas: the model's, or why there is none; top_k: picks of each router."""
        self.shape = Shape(tuple(layers), projections, num_experts)
        self._turn = Lock()  # choices are answered in turn, so that no answer overtakes a later one
        self.controls = Controls(self.shape)
        self.strip = StripPanel(num_experts)
        self.navigator = Navigator()
        self.since = gr.Number(0, visible=False)
        with gr.Tabs(elem_classes="tabs"):
            with worded(lambda: {"label": t("Map")}, gr.Tab, id="map") as map_tab:
                self.map = MapPanel()
            with worded(lambda: {"label": t("Token")}, gr.Tab, id="token") as token_tab:
                self.token = TokenPanel()
            with worded(lambda: {"label": t("Load")}, gr.Tab, id="load") as load_tab:
                self.load = LoadPanel()
            with worded(lambda: {"label": t("Edit")}, gr.Tab, id="edit") as edit_tab:
                self.edit = EditPanel(self.shape, top_k)
            with worded(lambda: {"label": t("Compare")}, gr.Tab, id="compare") as compare_tab:
                self.compare = ComparePanel(self.shape)
            with worded(lambda: {"label": t("Atlas")}, gr.Tab, id="atlas") as atlas_tab:
                self.atlas = AtlasPanel(atlas)
        self.tabs: dict[Tab, gr.Tab] = {
            "map": map_tab,
            "token": token_tab,
            "load": load_tab,
            "edit": edit_tab,
            "compare": compare_tab,
            "atlas": atlas_tab,
        }
        with gr.Row(elem_classes="foot"):
            self.summary = gr.HTML("", elem_id="summary", apply_default_css=False)
            with gr.Row(elem_classes="files"):
                self.words = Words()
                self.opening = Opening()
                self.downloads = Downloads(self.atlas)
        panels = (self.strip, self.map, self.token, self.load, self.edit, self.compare, self.atlas)
        drawn = [*(output for panel in panels for output in panel.outputs), self.summary, *self.navigator.outputs]
        self.outputs = [*drawn, *self.controls.outputs, self.strip.legend]

    def draw(
        self,
        session: Session,
        streaming: bool | None = None,
        tab: Tab | None = None,
        *,
        choice: bool = False,
        found: str = "",
    ) -> list[Any]:
        """Only one tab is drawn, the open one or the one that is just being opened.

        choice: only what is chosen, or the window, has changed: what shows the same as before is not sent again.
        found: what a search found, in words.
        """
        fitted = self._fit(session)
        session = copy(session)  # an answer may be running: every figure shows the same moment
        session.tab = tab or session.tab
        streaming = session.running if streaming is None else streaming
        shown, now = session.window, (session.trace, session.view, session.opened, streaming)

        def stays(part: str, *of: Any) -> bool:
            """Whether a part of the page shows what it is drawn of already."""
            same = choice and session.drawn.get(part) == of
            session.drawn[part] = of
            return same

        strip = [gr.skip()] if stays("strip", *now, shown) else self.strip.draw(session)
        tabs: list[Any] = []
        for name, outputs, drawn in (
            ("map", self.map.outputs, lambda: self.map.draw(session, streaming, not stays("map", *now, shown))),
            ("token", self.token.outputs, lambda: self.token.draw(session)),
            ("load", self.load.outputs, lambda: self.load.draw(session)),
            ("edit", self.edit.outputs, lambda: self.edit.draw(session)),
            ("compare", self.compare.outputs, lambda: self.compare.draw(session)),
            ("atlas", self.atlas.outputs, lambda: self.atlas.draw(session)),
        ):
            skipped = name != session.tab or (choice and name not in ("map", "token", "load", "compare"))
            skipped = skipped or (name == "compare" and stays("compare", *now, shown, session.other, session.planned))
            tabs += [gr.skip()] * len(outputs) if skipped else drawn()
        line = gr.skip() if stays("summary", *now) else self._line(session)
        whole: Any = gr.skip()
        if not stays("overview", *now, shown.narrow):
            whole = packed(overview_of(session)) if shown.narrow else ""
        said = self.navigator.said_of(session, found)
        return [*strip, *tabs, line, whole, said, self.navigator.chosen(session, streaming), *fitted]

    @staticmethod
    def _line(session: Session) -> str:
        line = ""
        if session.trace is not None:
            line = summary_line(session.view.cut(session.trace), show=session.view.show)
        if session.opened:
            line = f'<b class="mark">{escape(session.opened)}</b>{line}'
        return line

    def _fit(self, session: Session) -> list[Any]:
        """Controls and legend for the trace at hand, where they are for one of another shape."""
        shape = self.shape if session.trace is None else Shape.of(session.trace)
        if shape == (session.shape or self.shape):
            return [gr.skip()] * 3
        session.shape = shape
        session.view = replace(session.view, layers=None, projections=None)
        return [*self.controls.offered(shape), StripPanel.head(shape.num_experts)]

    def reworded(self, session: Session) -> list[Any]:
        """After the language has changed: all that is drawn, and what the choices are called."""
        shape = session.shape or self.shape
        return [*self.draw(session)[:-3], *self.controls.reworded(shape), StripPanel.head(shape.num_experts)]

    def wire(self, state: gr.State, notice: Notice) -> None:
        """Every choice redraws at once, also while an answer streams."""
        for control in self.controls.inputs:
            choices = [state, self.since, *self.controls.inputs]
            control.input(self._chosen, choices, [notice.html, *self.outputs], js=_NOW, **EVERY)
        for name, tab in self.tabs.items():
            tab.select(self._opener(name), [state, self.since], self.outputs, js=_NOW, **EVERY)
        self.strip.strip.pick(self._picked, state, self.outputs, **EVERY)
        self.map.map.cell(self._picked, state, self.outputs, **EVERY)
        if self.compare.outputs:
            self.compare.map.cell(self._matched, state, [notice.html, *self.outputs], **EVERY)
        self.map.map.turn(self._paged, state, self.outputs, **EVERY)
        self.navigator.wire(state, notice, self._found, self.outputs)
        self.load.tokens.pick(self._picked, state, self.outputs, **EVERY)
        self.load.chips.expert(self._expert, state, self.outputs, **EVERY)
        self.load.plot.cell(self._expert, state, self.outputs, **EVERY)
        self.words.wire(state)
        self.map.here.click(self._off, state, [notice.html, *self.outputs], **QUICK)
        self.edit.wire(state, notice)
        self.downloads.wire(state, notice)

    def _chosen(self, session: Session, since: float | None, *choices: Any) -> list[Any]:
        with self._turn:
            if session.overtaken("view", since):
                return [gr.skip()] * (len(self.outputs) + 1)
            try:
                self.controls.changed(session, *choices)
            except MoloraError as error:
                return [Notice.of(error), *[gr.skip()] * len(self.outputs)]
            return ["", *self.draw(session)]

    def _opener(self, name: Tab) -> Any:
        def opened(session: Session, since: float | None) -> list[Any]:
            with self._turn:
                if session.overtaken("tab", since):
                    return [gr.skip()] * len(self.outputs)
                session.tab = name
                return self.draw(session)

        return opened

    def _picked(self, session: Session, event: gr.EventData) -> list[Any]:
        row = event.row
        if session.trace is None or not isinstance(row, int) or not 0 <= row < len(session.trace):
            return [gr.skip()] * len(self.outputs)
        with self._turn:
            if session.overtaken("choice", getattr(event, "when", None)):
                return [gr.skip()] * len(self.outputs)
            session.choose(row)
            session.edits.place = place_of(session.trace, getattr(event, "y", None), getattr(event, "name", None))
            return self.draw(session, choice=True)

    def _matched(self, session: Session, event: gr.EventData) -> list[Any]:
        """After a click on the comparison, whose column may be no token of the first run."""
        if event.row == -1:
            said = t("Only the second run has this token, so there is none to choose in the first.")
            return [said, *[gr.skip()] * len(self.outputs)]
        return ["", *self._picked(session, event)]

    def _found(self, session: Session, found: str) -> list[Any]:
        return self.draw(session, choice=True, found=found)

    def _paged(self, session: Session, event: gr.EventData) -> list[Any]:
        if getattr(event, "to", None) in ("back", "on"):
            paged(session, event)
        return self.draw(session, choice=True)

    def said(self, session: Session, event: gr.EventData) -> list[Any]:
        """After a click on a word of the question or the answer."""
        with self._turn:
            return self.draw(session, choice=True) if word(session, event) else [gr.skip()] * len(self.outputs)

    def _expert(self, session: Session, event: gr.EventData) -> list[Any]:
        """From a chip or from a column of the load."""
        self.load.chosen(session, getattr(event, "expert", getattr(event, "row", None)))
        return self.draw(session)

    def _off(self, session: Session) -> list[Any]:
        try:
            said = self.edit.switch_off(session)
        except MoloraError as error:
            said = str(error)
        return [Notice.of(said), *self.draw(session)]
