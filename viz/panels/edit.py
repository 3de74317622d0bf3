"""The Edit tab: rules for the routing, the answer made again under them, and what they do to its likelihood."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from molora.errors import MoloraError
from molora.trace import ANSWER
from viz.again import prepare
from viz.figures.effects import sweep, token_changes
from viz.figures.style import blank, short
from viz.intervention import FOR_ALL, strongest
from viz.panels.events import EVERY, QUICK
from viz.panels.notice import Notice
from viz.panels.plot import packed, plot
from viz.session import Session
from viz.view import Shape, layer_choices, parse_layers

CHANGE_HEIGHT, SWEEP_HEIGHT = 210, 180

_KINDS = [
    ("drop", "drop"),
    ("reroute", "reroute"),
    ("force", "force"),
    ("uniform gates", "uniform"),
    ("all experts off", "experts_off"),
    ("attention LoRA off", "attention_off"),
]
_NO_RULES = "No rule yet. Drop: an expert adds nothing. Reroute: it cannot be picked. Force: it always is."


class EditPanel:
    """`draw` gives one value for each of `outputs`; what runs the model is wired where answers are."""

    def __init__(self, shape: Shape, top_k: int) -> None:
        """Shape and picks of each router are the loaded model's; edits are for it, whatever trace is shown."""
        self.shape, self.top_k = shape, top_k
        with gr.Row(elem_classes="controls edit-rule"):
            self.kind = gr.Dropdown(_KINDS, value="drop", label="Change", elem_id="edit-kind")
            self.experts = gr.Dropdown(
                list(range(shape.num_experts)), value=[], multiselect=True, label="Experts", elem_id="edit-experts"
            )
            self.layers = gr.Dropdown(
                layer_choices(shape.layers),
                value="all",
                label="Layers",
                allow_custom_value=True,
                elem_id="edit-layers",
            )
            names = ["all", *map(short, shape.projections)]
            self.projection = gr.Dropdown(names, value="all", label="Projection", elem_id="edit-projection")
            self.add = gr.Button("Add", size="sm", min_width=0, scale=0, elem_id="edit-add")
        with gr.Row(elem_classes="edit-run"):
            self.rules = gr.HTML(self._rules(Session()), elem_id="edit-rules", apply_default_css=False)
            self.undo = gr.Button("Undo", size="sm", min_width=0, scale=0, elem_id="edit-undo")
            self.clear = gr.Button("Clear rules", size="sm", min_width=0, scale=0, elem_id="edit-clear")
        with gr.Row(elem_classes="edit-run"):
            self.again = gr.Button("Answer again", size="sm", min_width=0, scale=0, elem_id="edit-again")
            self.go_on = gr.Button("From the chosen token", size="sm", min_width=0, scale=0, elem_id="edit-go-on")
            self.sweep = gr.Button("Sweep: each expert off", size="sm", min_width=0, scale=0, elem_id="edit-sweep")
            self.cancel = gr.Button("Cancel", size="sm", min_width=0, scale=0, elem_id="edit-cancel", visible=False)
            self.progress = gr.HTML("", elem_id="edit-progress", apply_default_css=False)
        self.changes = plot(
            self._changes(Session()), name="edit-changes", label="Change of each answer token's log-probability"
        )
        self.effects = plot(
            self._effects(Session()), name="edit-effects", label="Effect of each expert switched off on the answer"
        )
        self.tasks = (
            (self.again, self._prepare_again),
            (self.go_on, partial(self._prepare_again, from_chosen=True)),
            (self.sweep, self._prepare_sweep),
        )
        self.outputs = [self.rules, self.progress, self.cancel, self.changes, self.effects]

    def draw(self, session: Session) -> list[Any]:
        return [
            self._rules(session),
            self._progress(session),
            gr.update(visible=session.edits.sweeping),
            packed(self._changes(session)),
            packed(self._effects(session)),
        ]

    def wire(self, state: gr.State, notice: Notice) -> None:
        outputs = [notice.html, *self.outputs]
        choices = [self.kind, self.experts, self.layers, self.projection]
        self.kind.input(_named, self.kind, self.experts, **EVERY)
        self.add.click(self._add, [state, *choices], outputs, **QUICK)
        self.undo.click(self._undo, state, outputs, **QUICK)
        self.clear.click(self._clear, state, outputs, **QUICK)

    def places(
        self, layers: str | None, projection: str | None
    ) -> tuple[tuple[int, ...] | None, tuple[str, ...] | None]:
        """The choices as layers and projections; None means all. Raises MoloraError for what the model has not."""
        known = {short(name): name for name in self.shape.projections}
        if projection not in (None, "all", *known):
            raise MoloraError(f"There is no projection {str(projection)[:20]!r}; choose one of {', '.join(known)}.")
        names = (known[projection],) if projection in known else None
        return parse_layers(str(layers or ""), self.shape.layers), names

    def switch_off(self, session: Session) -> str:
        """Adds the rule that `here` offers and says it. Raises MoloraError where nothing is offered."""
        found = here(session)
        if found is None or session.opened:
            raise MoloraError("Click a cell of the map first: its token's top expert can then be switched off there.")
        expert, layer, projection = found
        self._append(session, "drop", [expert], (layer,), (projection,))
        return f"Added: {session.edits.rules[-1]}. The Edit tab makes the answer again."

    def _prepare_again(
        self, session: Session, _layers: str | None, _projection: str | None, from_chosen: bool = False
    ) -> None:
        prepare(session, "again", from_chosen=from_chosen)

    def _prepare_sweep(self, session: Session, layers: str | None, projection: str | None) -> None:
        where = self.places(layers, projection)
        prepare(session, "sweep")
        session.edits.where = where

    def _append(self, session: Session, kind: str, experts: Any, layers: Any, projections: Any) -> None:
        session.edits.add(kind, experts, layers, projections, self.shape, self.top_k)

    def _add(self, session: Session, kind: str, experts: Any, layers: str | None, projection: str | None) -> list[Any]:
        try:
            self._append(session, kind, experts, *self.places(layers, projection))
        except MoloraError as error:
            return [Notice.of(error), *[gr.skip()] * len(self.outputs)]
        return ["", *self.draw(session)]

    def _undo(self, session: Session) -> list[Any]:
        try:
            session.edits.undo()
        except MoloraError as error:
            return [Notice.of(error), *[gr.skip()] * len(self.outputs)]
        return ["", *self.draw(session)]

    def _clear(self, session: Session) -> list[Any]:
        session.edits.rules = []
        return ["", *self.draw(session)]

    @staticmethod
    def _rules(session: Session) -> str:
        rules = "".join(f"<li>{escape(str(rule))}</li>" for rule in session.edits.rules)
        return f"<ol>{rules}</ol>" if rules else f'<p class="empty">{_NO_RULES}</p>'

    def _progress(self, session: Session) -> str:
        edits, most = session.edits, self.shape.num_experts
        if not edits.sweeping:
            return ""
        done = len(edits.effects)
        return f'<progress max="{most}" value="{done}"></progress> {done} of {most} experts'

    @staticmethod
    def figure(session: Session) -> go.Figure:
        """The changes of the answer's tokens; the sweep where there are none."""
        edits = session.edits
        if edits.change is None and edits.effects and edits.original is not None:
            return sweep(edits.effects, edits.original.num_experts, where=edits.swept(), height=SWEEP_HEIGHT)
        return EditPanel._changes(session)

    @staticmethod
    def _changes(session: Session) -> go.Figure:
        edits = session.edits
        if edits.change is None or edits.original is None:
            text = "Answer again under a rule: how likely the tokens<br>of the first answer then are appears here."
            return blank(text, CHANGE_HEIGHT)
        answer = edits.original.phase == ANSWER
        texts = [text for text, kept in zip(edits.original.token_text, answer, strict=True) if kept]
        return token_changes(texts, edits.change, edit=edits.words, height=CHANGE_HEIGHT)

    def _effects(self, session: Session) -> go.Figure:
        edits = session.edits
        if not edits.effects:
            return blank("Sweep: each expert off in turn, in the<br>layers and projection chosen above.", SWEEP_HEIGHT)
        return sweep(edits.effects, self.shape.num_experts, where=edits.swept(), height=SWEEP_HEIGHT)


def _named(kind: str) -> Any:
    """The box of experts, for changes that name some."""
    return gr.update(visible=kind not in FOR_ALL)


def here(session: Session) -> tuple[int, int, str] | None:
    """Expert, layer and projection that can be switched off: the chosen token's first pick in the clicked cell."""
    place, row = session.edits.place, session.chosen
    if session.trace is None or place is None or row is None or row >= len(session.trace):
        return None
    expert = strongest(session.trace, row, place)
    return None if expert is None else (expert, *place)
