"""The token strip of the window, with its legend: choose a token by click, touch or arrow keys."""

from __future__ import annotations

from typing import Any

import gradio as gr

from viz.assets import js
from viz.figures.legend import expert_legend
from viz.figures.strip import token_strip
from viz.language import t
from viz.panels.wording import worded
from viz.session import Session


class StripPanel:
    """Its event: `pick`, with `row`."""

    def __init__(self, num_experts: int) -> None:
        self.legend = worded(
            lambda: {"caption": t("Tokens, each in the colour of its top expert")},
            gr.HTML,
            self.head(num_experts),
            html_template='<span class="caption">${caption}</span>${value}',
            elem_classes="strip-head",
            apply_default_css=False,
        )
        self.strip = gr.HTML(
            self.draw(Session())[0],
            html_template='<div class="scroller">${value}</div>',
            js_on_load=js("strip"),
            elem_id="strip",
            apply_default_css=False,
        )
        self.outputs = [self.strip]

    @staticmethod
    def head(num_experts: int) -> str:
        """The legend's value: colours for so many experts."""
        return expert_legend(num_experts)

    def draw(self, session: Session) -> list[Any]:
        if session.trace is None:
            return [f'<p class="empty">{t("Every token of the question and the answer will stand here.")}</p>']
        view, shown = session.view, session.window
        trace = view.cut(session.trace.select(tokens=slice(shown.first, shown.last)))
        return [token_strip(trace, show=view.show, selected=session.selected, offset=shown.first)]
