"""Downloads: the trace as .npz, its summary as .json, the figure as HTML that works offline.

Files are made in memory and saved by the browser: nothing a visitor typed is written to the server's disk.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from molora.analysis import summarize
from viz.assets import js
from viz.panels.atlas import AtlasPanel
from viz.panels.events import QUICK
from viz.panels.load import LoadPanel
from viz.panels.map import MapPanel
from viz.panels.notice import Notice
from viz.panels.token import TokenPanel
from viz.session import Session


class Downloads:
    def __init__(self, atlas: AtlasPanel) -> None:
        self._atlas = atlas
        with gr.Row(elem_classes="downloads"):
            self.npz = gr.Button("Trace .npz", size="sm", elem_id="save-npz", min_width=0)
            self.json = gr.Button("Summary .json", size="sm", elem_id="save-json", min_width=0)
            self.html = gr.Button("Figure .html", size="sm", elem_id="save-html", min_width=0)
        self.file = gr.HTML(
            "", html_template="", js_on_load=js("download"), elem_classes="unseen", apply_default_css=False
        )

    def wire(self, state: gr.State, notice: Notice) -> None:
        def figure(session: Session) -> str:
            return figure_file(session, self._atlas)

        for button, make in ((self.npz, trace_file), (self.json, summary_file), (self.html, figure)):
            button.click(_saver(make), state, [self.file, notice.html], **QUICK)


def _saver(make: Callable[[Session], str]) -> Callable[[Session], list[Any]]:
    def save(session: Session) -> list[Any]:
        if session.trace is None:
            return [gr.skip(), Notice.of("There is nothing to save yet: ask something first.")]
        return [make(session), ""]

    return save


def trace_file(session: Session) -> str:
    """The files need a session with a trace."""
    assert session.trace is not None
    buffer = io.BytesIO()
    session.trace.save(buffer)
    return _file("molora-trace.npz", "application/octet-stream", buffer.getvalue())


def summary_file(session: Session) -> str:
    assert session.trace is not None
    text = json.dumps(summarize(session.trace), ensure_ascii=False, indent=1)
    return _file("molora-summary.json", "application/json", text.encode())


def figure_file(session: Session, atlas: AtlasPanel) -> str:
    """The figure of the open tab, with plotly.js inside."""
    page = standalone(current_figure(session, atlas), f"MoLoRA Lens, {session.tab}")
    return _file(f"molora-{session.tab}.html", "text/html", page.encode())


def current_figure(session: Session, atlas: AtlasPanel) -> go.Figure:
    if session.tab == "atlas":
        return atlas.figure(session)
    if session.tab == "token":
        return TokenPanel.figure(session)
    return LoadPanel.figure(session) if session.tab == "load" else MapPanel.figure(session, False)


def standalone(drawn: go.Figure, title: str) -> str:
    """One HTML file that needs no network."""
    framed = go.Figure(drawn)
    framed.layout.height = None
    framed.layout.margin.t = 40
    return framed.to_html(
        include_plotlyjs=True,
        full_html=True,
        default_height="92vh",
        config={"displaylogo": False, "showSendToCloud": False, "plotlyServerURL": ""},
    ).replace("<head>", f"<head><title>{title}</title>", 1)


def _file(name: str, kind: str, content: bytes) -> str:
    return json.dumps({"name": name, "kind": kind, "content": base64.b64encode(content).decode()})
