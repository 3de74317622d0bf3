"""A short message over the page, for what could not be done. It goes by itself.

`gr.Warning` reaches the browser only from queued events, and what only looks at a trace must not wait in the queue.
"""

from __future__ import annotations

from html import escape

import gradio as gr

from viz.assets import js


class Notice:
    def __init__(self) -> None:
        self.html = gr.HTML(
            "",
            html_template='<div role="alert">${value}</div>',
            js_on_load=js("notice"),
            elem_id="notice",
            apply_default_css=False,
        )

    @staticmethod
    def of(error: Exception | str) -> str:
        """Its value: the escaped message."""
        return escape(str(error))
