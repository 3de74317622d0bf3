"""The Token tab: one token's two readings side by side, by the row that read it and by the row that predicted it."""

from __future__ import annotations

from typing import Any

import gradio as gr
import plotly.graph_objects as go

from molora.trace import RoutingTrace
from viz.figures.reading import token_readings
from viz.figures.style import blank
from viz.figures.token import token_title, token_weights
from viz.language import noted, t
from viz.panels.plot import packed, plot
from viz.session import Session

HEIGHT = 330
_LAYERS, _EXPERTS = 32, 10
"""Up to so many, a cell has room for its weight in figures."""
_MARGIN = noted("Margin: the router probability of the weakest expert picked less that of the runner-up.")


class TokenPanel:
    """Layers and projections follow the view."""

    def __init__(self) -> None:
        self.title = gr.HTML("", elem_id="token-title", elem_classes="token-title", apply_default_css=False)
        with gr.Row(elem_id="readings"):
            with gr.Column(min_width=320):
                self.read = gr.HTML("", elem_id="token-read", apply_default_css=False)
                self.plot = plot(
                    self.figure(Session()),
                    name="token",
                    label=noted("The selected token, read: weight of experts by layer"),
                )
            with gr.Column(min_width=320):
                self.predicted = gr.HTML("", elem_id="token-predicted", apply_default_css=False)
                self.before = plot(
                    blank("", HEIGHT),
                    name="token-before",
                    label=noted("The row before, which predicted the selected token: weight of experts by layer"),
                )
        self.outputs = [self.title, self.read, self.plot, self.predicted, self.before]

    def draw(self, session: Session) -> list[Any]:
        row, trace = session.selected, session.trace and session.view.cut(session.trace)
        figure = packed(self.figure(session))
        if row is None or trace is None:
            return ["", "", figure, "", packed(blank("", HEIGHT))]
        read, predicted = token_readings(trace, row)
        before = self._weights(trace, row - 1) if row else blank("", HEIGHT)
        return [f"{token_title(trace, row)}{t('. ')}{t(_MARGIN)}", read, figure, predicted, packed(before)]

    @staticmethod
    def figure(session: Session) -> go.Figure:
        """Of the reading."""
        if session.trace is None or session.selected is None:
            return blank(t("Choose a token in the strip or in the map."), HEIGHT)
        return TokenPanel._weights(session.view.cut(session.trace), session.selected)

    @staticmethod
    def _weights(trace: RoutingTrace, row: int) -> go.Figure:
        room = trace.num_layers <= _LAYERS and trace.num_experts <= _EXPERTS
        return token_weights(trace, row, written=room, height=HEIGHT)
