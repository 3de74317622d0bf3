"""The Map tab: the routing map, and under it the selected token."""

from __future__ import annotations

from typing import Any

import gradio as gr
import plotly.graph_objects as go

from viz.figures.map import routing_map
from viz.figures.mark import cell_words
from viz.figures.style import blank, short
from viz.figures.token import token_title, token_weights
from viz.language import noted, t
from viz.panels.edit import here
from viz.panels.plot import packed, plot
from viz.session import Session
from viz.window import SIZE

MAP_HEIGHT, GLANCE_HEIGHT = 360, 126


class MapPanel:
    """The map's events: `turn`, and `cell`, with `row`, `y` and `name` (layer and projection). `here` offers to switch
    off what the clicked cell picked first."""

    def __init__(self) -> None:
        self.map = plot(
            self.figure(Session(), False),
            name="map",
            label=noted("Routing map: tokens across, layers down, colour by expert. Arrow keys move the chosen cell"),
            keys=True,
        )
        with gr.Row(elem_classes="map-token"):
            self.title = gr.HTML(
                "",
                html_template='<span role="status">${value}</span>',
                elem_id="map-title",
                elem_classes="token-title",
                apply_default_css=False,
            )
            self.here = gr.Button("", size="sm", min_width=0, scale=0, elem_id="edit-here", visible=False)
        self.glance = plot(
            blank("", GLANCE_HEIGHT),
            name="glance",
            label=noted("The selected token: experts by layer, picked ones marked"),
        )
        self.outputs = [self.map, self.title, self.glance, self.here]

    def draw(self, session: Session, streaming: bool, with_map: bool = True) -> list[Any]:
        """with_map: False leaves the map on the screen as it is; the browser moves the marks in it."""
        figure = packed(self.figure(session, streaming, texts_once=True)) if with_map else gr.skip()
        row, trace = session.selected, session.trace
        if row is None or trace is None:
            return [figure, "", packed(blank("", GLANCE_HEIGHT)), gr.update(visible=False)]
        one = trace.select(tokens=slice(row, row + 1))
        glance = packed(token_weights(session.view.cut(one), 0, compact=True, height=GLANCE_HEIGHT))
        words = cell_words(trace, row, session.edits.place)
        title = f"{token_title(trace, row)}{' · ' if words else ''}{words}"
        return [figure, title, glance, self._here(session)]

    @staticmethod
    def _here(session: Session) -> Any:
        found = None if session.opened else here(session)
        if found is None:
            return gr.update(visible=False)
        expert, layer, projection = found
        words = t(
            "Switch off expert {expert} in layer {layer}, {projection}",
            expert=expert,
            layer=layer,
            projection=short(projection),
        )
        return gr.update(visible=True, value=words)

    @staticmethod
    def figure(session: Session, streaming: bool, texts_once: bool = False) -> go.Figure:
        """The map alone. While streaming, cells carry no hover texts and the axis keeps its length."""
        if session.trace is None:
            return blank(t("Ask something: the routing of every token appears here."), MAP_HEIGHT)
        view, shown = session.view, session.window
        length = min(session.length, shown.first + SIZE) - shown.first if streaming and session.length else None
        return routing_map(
            view.cut(session.trace.select(tokens=slice(shown.first, shown.last))),
            colour=view.colour,
            show=view.show,
            hover=not streaming,
            texts_once=texts_once,
            height=MAP_HEIGHT,
            selected=session.chosen if streaming else session.selected,
            place=session.edits.place,
            offset=shown.first,
            length=length,
        )
