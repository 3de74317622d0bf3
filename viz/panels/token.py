"""The Token tab: one token in depth, every layer and projection with its weights."""

from __future__ import annotations

from typing import Any

import gradio as gr
import plotly.graph_objects as go

from viz.figures.style import blank
from viz.figures.token import token_title, token_weights
from viz.panels.plot import packed, plot
from viz.session import Session

HEIGHT = 500


class TokenPanel:
    """Shows all projections whatever the view says; layers follow the view."""

    def __init__(self) -> None:
        self.title = gr.HTML("", elem_id="token-title", elem_classes="token-title", apply_default_css=False)
        self.plot = plot(self.figure(Session()), name="token", label="The selected token: weight of experts by layer")
        self.outputs = [self.title, self.plot]

    def draw(self, session: Session) -> list[Any]:
        row, trace = session.selected, session.trace
        title = "" if row is None or trace is None else token_title(trace, row)
        return [title, packed(self.figure(session))]

    @staticmethod
    def figure(session: Session) -> go.Figure:
        if session.trace is None or session.selected is None:
            return blank("Choose a token in the strip or in the map.", HEIGHT)
        layers = session.view.layers
        trace = session.trace.select(layers=None if layers is None else list(layers))
        return token_weights(trace, session.selected, height=HEIGHT)
