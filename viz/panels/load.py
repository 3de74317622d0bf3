"""The Load tab: how the picks spread over the experts, and one expert in depth, prompt and answer apart."""

from __future__ import annotations

from typing import Any

import gradio as gr
import plotly.graph_objects as go

from viz.assets import js
from viz.figures.expert import expert_chips, expert_layers, expert_tokens
from viz.figures.load import expert_load
from viz.figures.style import blank
from viz.language import noted, t
from viz.panels.plot import packed, plot
from viz.panels.wording import worded
from viz.session import Session

HEIGHT, EXPERT_HEIGHT = 500, 210


class LoadPanel:
    """Events: `cell` of the plot, with `row`, an expert; `expert` of the chips; `pick` of the table, with `row`."""

    def __init__(self) -> None:
        self.chips = worded(
            lambda: {"label": t("Look closer at expert")},
            gr.HTML,
            "",
            html_template='<span id="chips-label">${label}</span>'
            '<div role="group" aria-labelledby="chips-label">${value}</div>',
            js_on_load=js("expert"),
            elem_id="chips",
            apply_default_css=False,
        )
        with gr.Row(elem_id="loads"):
            with gr.Column(min_width=320):
                self.plot = plot(
                    self.figure(Session()), name="load", label=noted("Load: share of picks by expert and layer")
                )
            with gr.Column(min_width=320, visible=False) as self.closer:
                self.title = gr.HTML("", elem_id="expert-title", elem_classes="token-title", apply_default_css=False)
                self.layers = plot(
                    blank("", EXPERT_HEIGHT),
                    name="expert-layers",
                    label=noted("The expert's share by layer and projection"),
                )
                self.tokens = gr.HTML("", js_on_load=js("expert"), elem_id="expert-tokens", apply_default_css=False)
        self.outputs = [self.chips, self.plot, self.closer, self.title, self.layers, self.tokens]

    def draw(self, session: Session) -> list[Any]:
        figure, trace = packed(self.figure(session)), session.trace
        if trace is None or not trace.expert_ids.size:
            return ["", figure, gr.update(visible=False), *[gr.skip()] * 3]
        expert = session.expert if session.expert is not None and session.expert < trace.num_experts else None
        chips = expert_chips(trace.num_experts, expert)
        if expert is None:
            return [chips, figure, gr.update(visible=False), *[gr.skip()] * 3]
        cut = session.view.cut(trace)
        return [
            chips,
            figure,
            gr.update(visible=True),
            t("Expert <b>{expert}</b>, by layer and projection", expert=expert),
            packed(expert_layers(cut, expert, height=EXPERT_HEIGHT)),
            expert_tokens(cut, expert, show=session.view.show, selected=session.selected),
        ]

    @staticmethod
    def chosen(session: Session, expert: object) -> None:
        """Shows the expert in depth; the one that is shown already goes."""
        if isinstance(expert, int) and session.trace is not None and 0 <= expert < session.trace.num_experts:
            session.expert = None if expert == session.expert else expert

    @staticmethod
    def figure(session: Session) -> go.Figure:
        if session.trace is None:
            return blank(t("Nothing has been read yet."), HEIGHT)
        return expert_load(session.view.cut(session.trace), height=HEIGHT)
