"""The Load tab: how the picks spread over the experts, prompt and answer apart."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from viz.figures.load import expert_load
from viz.figures.style import blank
from viz.panels.plot import packed, plot
from viz.session import Session

HEIGHT = 525


class LoadPanel:
    def __init__(self) -> None:
        self.plot = plot(self.figure(Session()), name="load", label="Load: share of picks by expert and layer")
        self.outputs = [self.plot]

    def draw(self, session: Session) -> list[Any]:
        return [packed(self.figure(session))]

    @staticmethod
    def figure(session: Session) -> go.Figure:
        if session.trace is None:
            return blank("Nothing has been read yet.", HEIGHT)
        return expert_load(session.view.cut(session.trace), height=HEIGHT)
