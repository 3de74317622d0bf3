"""Downloads, in one menu: trace, table, summary, the figure at hand, and a report that holds them all.

Files are made in memory and saved by the browser: nothing a visitor typed is written to the server's disk.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from molora.analysis import summarize
from molora.export import write_csv
from molora.trace import RoutingTrace
from viz.assets import js
from viz.beside import beside
from viz.language import noted, t
from viz.panels.atlas import AtlasPanel
from viz.panels.compare import ComparePanel
from viz.panels.edit import EditPanel
from viz.panels.events import QUICK
from viz.panels.load import LoadPanel
from viz.panels.map import MapPanel
from viz.panels.notice import Notice
from viz.panels.token import TokenPanel
from viz.panels.wording import worded
from viz.report import report
from viz.session import Session

_ITEMS = {
    "report": (noted("Report"), ".html", noted("question, answer, figures, settings and the trace in one page")),
    "npz": (noted("Trace"), ".npz", noted("every number, for numpy, and to open here again")),
    "csv": (noted("Table"), ".csv", noted("a row for each expert picked")),
    "json": (noted("Summary"), ".json", noted("load and entropy by phase and layer")),
    "html": (noted("Figure"), ".html", noted("the open tab's, to zoom and hover")),
    "svg": (noted("Figure"), ".svg", noted("the open tab's, for print")),
    "png": (noted("Figure"), ".png", noted("the open tab's, as it is on the screen")),
}


class Downloads:
    """The button and its menu; their event is `save`, with `file`, one of the kinds above."""

    def __init__(self, atlas: AtlasPanel) -> None:
        self.menu = worded(
            lambda: {"said": _menu()},
            gr.HTML,
            "",
            html_template="${said}",
            js_on_load=js("download"),
            elem_classes="choice",
            apply_default_css=False,
        )
        self._makers: dict[str, Callable[[Session], str]] = {
            "report": report_file,
            "npz": trace_file,
            "csv": table_file,
            "json": summary_file,
            "html": partial(figure_file, atlas=atlas),
            "svg": partial(picture, kind="svg"),
            "png": partial(picture, kind="png"),
        }

    def wire(self, state: gr.State, notice: Notice) -> None:
        self.menu.save(self._save, state, [self.menu, notice.html], **QUICK)

    def _save(self, session: Session, event: gr.EventData) -> list[Any]:
        make = self._makers.get(str(event.file))
        if session.trace is None or make is None:
            return [gr.skip(), Notice.of(t("There is nothing to save yet: ask something first."))]
        return [make(session), ""]


def _menu() -> str:
    items = "".join(
        f'<button type="button" id="save-{kind}" data-file="{kind}" title="{t(title)}">{t(what)} '
        f"<b>{suffix}</b></button>"
        for kind, (what, suffix, title) in _ITEMS.items()
    )
    return (
        '<button type="button" id="download" aria-expanded="false" aria-controls="download-menu">'
        f'{t("Download")} <span aria-hidden="true">▾</span></button>'
        f'<div id="download-menu" role="group" aria-label="{t("Files")}" hidden>{items}</div>'
    )


def trace_file(session: Session) -> str:
    """This and the other files need a session with a trace."""
    buffer = io.BytesIO()
    _trace(session).save(buffer)
    return _file("molora-trace.npz", "application/octet-stream", buffer.getvalue())


def table_file(session: Session) -> str:
    buffer = io.BytesIO()
    write_csv(_trace(session), buffer)
    return _file("molora-table.csv", "text/csv", buffer.getvalue())


def summary_file(session: Session) -> str:
    text = json.dumps(summarize(_trace(session)), ensure_ascii=False, indent=1)
    return _file("molora-summary.json", "application/json", text.encode())


def report_file(session: Session) -> str:
    """What was said, the whole trace, and what stands beside the answer, with the page's token and colour."""
    trace, view = _trace(session), session.view
    page = report(trace, session.kept(), selected=session.selected, colour=view.colour, beside=beside(session))
    return _file("molora-report.html", "text/html", page.encode())


def figure_file(session: Session, atlas: AtlasPanel) -> str:
    """The figure of the open tab, with plotly.js inside."""
    page = standalone(current_figure(session, atlas), f"MoLoRA Lens, {session.tab}")
    return _file(f"molora-{session.tab}.html", "text/html", page.encode())


def picture(session: Session, kind: str) -> str:
    """The browser draws the figure that it shows."""
    return json.dumps({"name": f"molora-{session.tab}.{kind}", "kind": kind, "content": None})


def current_figure(session: Session, atlas: AtlasPanel) -> go.Figure:
    if session.tab == "atlas":
        return atlas.figure(session)
    if session.tab == "edit":
        return EditPanel.figure(session)
    if session.tab == "compare":
        return ComparePanel.figure(session)
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


def _trace(session: Session) -> RoutingTrace:
    assert session.trace is not None
    return session.trace


def _file(name: str, kind: str, content: bytes) -> str:
    return json.dumps({"name": name, "kind": kind, "content": base64.b64encode(content).decode()})
