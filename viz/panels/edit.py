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
from viz.figures.edit_words import one_rule
from viz.figures.effects import sweep, token_changes
from viz.figures.style import blank, short
from viz.intervention import FOR_ALL, strongest
from viz.language import noted, t
from viz.panels.controls import layer_offers
from viz.panels.events import EVERY, QUICK
from viz.panels.notice import Notice
from viz.panels.plot import packed, plot
from viz.panels.wording import button, worded
from viz.session import Session
from viz.view import Shape, parse_layers

CHANGE_HEIGHT, SWEEP_HEIGHT = 210, 180

_KINDS = {
    "drop": noted("drop"),
    "reroute": noted("reroute"),
    "force": noted("force"),
    "uniform": noted("uniform gates"),
    "experts_off": noted("all experts off"),
    "attention_off": noted("attention LoRA off"),
}


class EditPanel:
    """`draw` gives one value for each of `outputs`; what runs the model is wired where answers are."""

    def __init__(self, shape: Shape, top_k: int) -> None:
        """Shape and picks of each router are the loaded model's; edits are for it, whatever trace is shown."""
        self.shape, self.top_k = shape, top_k
        with gr.Row(elem_classes="controls edit-rule"):
            self.kind = worded(
                lambda: {"label": t("Change"), "choices": [(t(label), kind) for kind, label in _KINDS.items()]},
                gr.Dropdown,
                value="drop",
                elem_id="edit-kind",
            )
            self.experts = worded(
                lambda: {"label": t("Experts")},
                gr.Dropdown,
                list(range(shape.num_experts)),
                value=[],
                multiselect=True,
                elem_id="edit-experts",
            )
            self.layers = worded(
                lambda: {"label": t("Layers"), "choices": layer_offers(shape)},
                gr.Dropdown,
                value="all",
                allow_custom_value=True,
                elem_id="edit-layers",
            )
            names = [(short(name), short(name)) for name in shape.projections]
            self.projection = worded(
                lambda: {"label": t("Projection"), "choices": [(t("all"), "all"), *names]},
                gr.Dropdown,
                value="all",
                elem_id="edit-projection",
            )
            self.add = button(lambda: t("Add"), "edit-add")
        with gr.Row(elem_classes="edit-run"):
            self.rules = gr.HTML(self._rules(Session()), elem_id="edit-rules", apply_default_css=False)
            self.undo = button(lambda: t("Undo"), "edit-undo")
            self.clear = button(lambda: t("Clear rules"), "edit-clear")
        with gr.Row(elem_classes="edit-run"):
            self.again = button(lambda: t("Answer again"), "edit-again")
            self.go_on = button(lambda: t("From the chosen token"), "edit-go-on")
            self.sweep = button(lambda: t("Sweep: each expert off"), "edit-sweep")
            self.cancel = button(lambda: t("Cancel"), "edit-cancel", visible=False)
            self.progress = gr.HTML("", elem_id="edit-progress", apply_default_css=False)
        self.changes = plot(
            self._changes(Session()), name="edit-changes", label=noted("Change of each answer token's log-probability")
        )
        self.effects = plot(
            self._effects(Session()),
            name="edit-effects",
            label=noted("Effect of each expert switched off on the answer"),
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
            raise MoloraError(
                t(
                    "There is no projection {name!r}; choose one of {known}.",
                    name=str(projection)[:20],
                    known=", ".join(known),
                )
            )
        names = (known[projection],) if projection in known else None
        return parse_layers(str(layers or ""), self.shape.layers), names

    def switch_off(self, session: Session) -> str:
        """Adds the rule that `here` offers and says it. Raises MoloraError where nothing is offered."""
        found = here(session)
        if found is None or session.opened:
            raise MoloraError(
                t("Click a cell of the map first: its token's top expert can then be switched off there.")
            )
        expert, layer, projection = found
        self._append(session, "drop", [expert], (layer,), (projection,))
        rule = one_rule(session.edits.rules[-1])
        return t("Added: {rule}. The Edit tab makes the answer again.", rule=rule)

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
        rules = "".join(f"<li>{escape(one_rule(rule))}</li>" for rule in session.edits.rules)
        empty = t("No rule yet. Drop: an expert adds nothing. Reroute: it cannot be picked. Force: it always is.")
        return f"<ol>{rules}</ol>" if rules else f'<p class="empty">{empty}</p>'

    def _progress(self, session: Session) -> str:
        edits, most = session.edits, self.shape.num_experts
        if not edits.sweeping:
            return ""
        done = len(edits.effects)
        said = t("{done} of {most} experts", done=done, most=most)
        return f'<progress max="{most}" value="{done}"></progress> {said}'

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
            text = t("Answer again under a rule: how likely the tokens<br>of the first answer then are appears here.")
            return blank(text, CHANGE_HEIGHT)
        answer = edits.original.phase == ANSWER
        texts = [text for text, kept in zip(edits.original.token_text, answer, strict=True) if kept]
        return token_changes(texts, edits.change, edit=edits.words, height=CHANGE_HEIGHT)

    def _effects(self, session: Session) -> go.Figure:
        edits = session.edits
        if not edits.effects:
            text = t("Sweep: each expert off in turn, in the<br>layers and projection chosen above.")
            return blank(text, SWEEP_HEIGHT)
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
