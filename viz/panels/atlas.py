"""The Atlas tab: which experts each task picks, how much a pick tells of the task, and where this conversation sits."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import plotly.graph_objects as go

from molora.atlas.analysis import recovery
from molora.atlas.data import Atlas, find_atlas
from molora.errors import MoloraError
from viz.figures.atlas import task_map
from viz.figures.information import task_information
from viz.figures.place import task_place
from viz.figures.style import blank
from viz.language import noted, t
from viz.panels.plot import packed, plot
from viz.panels.wording import worded
from viz.session import Session
from viz.view import View

if TYPE_CHECKING:
    from molora.engine import EngineInfo

MAP_HEIGHT, PLACE_HEIGHT, INFORMATION_HEIGHT = 470, 215, 230
_NO_ATLAS = noted(
    "There is no atlas of this model yet. This command makes one from held-out prompts of every task; start the page "
    "again to see it: "
)


def atlas_of(info: EngineInfo, folder: Path) -> Atlas | str:
    """The atlas that was made with the loaded adapter, or safe HTML of why there is none."""
    if not info.top_k:
        return noted("This model has no routers, so there is no atlas of it.")
    try:
        found = find_atlas(info.adapter_sha256, folder, info.base)
    except MoloraError as error:
        return escape(str(error))
    command = f"python -m molora.atlas --model {info.model} --data DATA"
    return found or f"{_NO_ATLAS}<code>{escape(command)}</code>"


class AtlasPanel:
    """Layers, projection and Show follow the view. Without an atlas it says how to get one, and `outputs` is empty."""

    def __init__(self, atlas: Atlas | str) -> None:
        self.atlas = atlas
        self.outputs: list[gr.HTML] = []
        if isinstance(atlas, str):
            worded(
                lambda: {"said": atlas.replace(_NO_ATLAS, t(_NO_ATLAS)) if atlas.startswith(_NO_ATLAS) else t(atlas)},
                gr.HTML,
                html_template='<div class="no-atlas">${said}</div>',
                elem_id="atlas",
                apply_default_css=False,
            )
            return
        title, *figures = self._drawn(atlas, Session())
        self.title = gr.HTML(title, elem_id="atlas-title", elem_classes="token-title", apply_default_css=False)
        with gr.Row(elem_id="atlas"):
            with gr.Column(scale=6, min_width=300):
                _caption(noted("Picks beside the mean of tasks; one layer shows the most"))
                tasks = plot(
                    figures[0], name="task-map", label=noted("Atlas: tasks by experts, share of picks beside the mean")
                )
            with gr.Column(scale=4, min_width=260):
                _caption(noted("This conversation among the tasks, the nearest first"))
                near = plot(
                    figures[1],
                    name="task-place",
                    label=noted("Likeness of this conversation's routing to each task's"),
                )
                _caption(noted("Mutual information of task and pick; grey: shuffled"))
                known = plot(
                    figures[2],
                    name="task-nmi",
                    label=noted("Normalised mutual information by layer and projection"),
                )
        self.outputs = [self.title, tasks, near, known]

    def draw(self, session: Session) -> list[Any]:
        if isinstance(self.atlas, str):
            return []
        title, *figures = self._drawn(self.atlas, session)
        return [title, *map(packed, figures)]

    def figure(self, session: Session) -> go.Figure:
        """The map alone."""
        if isinstance(self.atlas, str):
            return blank(t("There is no atlas of this model."), MAP_HEIGHT)
        return task_map(_cut(self.atlas, session), part=session.view.show, height=MAP_HEIGHT)

    def _drawn(self, atlas: Atlas, session: Session) -> tuple[str, go.Figure, go.Figure, go.Figure]:
        view = _view(atlas, session)
        try:
            trace = None if session.trace is None else session.view.cut(session.trace)
            adapter = None if trace is None else trace.meta.get("adapter_sha256")
            if adapter not in (None, atlas.meta.get("adapter_sha256")):
                raise MoloraError(t("This trace is of another model than the atlas."))
            near = task_place(_cut(atlas, session), trace, show=view.show, height=PLACE_HEIGHT)
        except MoloraError as error:
            near = blank(escape(str(error)), PLACE_HEIGHT)
        known = task_information(
            atlas, part=view.show, layers=view.layers, projections=view.projections, height=INFORMATION_HEIGHT
        )
        return _title(atlas, session), self.figure(session), near, known


def _cut(atlas: Atlas, session: Session) -> Atlas:
    """For the layers and projections of the view."""
    view = _view(atlas, session)
    return atlas.select(
        layers=None if view.layers is None else list(view.layers),
        projections=None if view.projections is None else list(view.projections),
    )


def _view(atlas: Atlas, session: Session) -> View:
    """The session's; all of the atlas where that chooses what only a trace out of a file has."""
    view = session.view
    layers, projections = set(view.layers or ()), set(view.projections or ())
    if layers <= set(atlas.layer_indices.tolist()) and projections <= set(atlas.projections):
        return view
    return replace(view, layers=None, projections=None)


def _title(atlas: Atlas, session: Session) -> str:
    """Safe HTML: what the atlas was made of, and how often a prompt's routing gives its task away."""
    show = session.view.show
    told = recovery(atlas, show)
    said = t("{tasks} tasks, {prompts} held-out prompts.", tasks=len(atlas.tasks), prompts=len(atlas.labels))
    if told.prompts:
        what = {
            "both": t("One prompt's routing, with its answer's,"),
            "prompt": t("One prompt's routing"),
            "answer": t("One answer's routing"),
        }[show]
        said += t(
            " {what} gives its task away: <b>{accuracy:.0%}</b> right, chance {chance:.0%}.",
            what=what,
            accuracy=told.accuracy,
            chance=told.chance,
        )
    return said


def _caption(text: str) -> None:
    worded(
        lambda: {"said": t(text)},
        gr.HTML,
        html_template='<span class="caption">${said}</span>',
        elem_classes="strip-head",
        apply_default_css=False,
    )
