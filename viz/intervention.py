"""What a visitor changes in the routing, and what came of it: rules, the answer they are held against, effects.

Holds no tensor and knows no user interface.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from molora.effects import Effect
from molora.errors import MoloraError
from molora.trace import RoutingTrace
from viz.figures.edit_words import one_rule
from viz.figures.style import short
from viz.language import t
from viz.view import Shape

if TYPE_CHECKING:  # torch, which drawing does not need
    from molora.edits import RoutingEdit, Rule

Task = Literal["again", "sweep"]
MAX_RULES = 24
FOR_ALL = ("uniform", "experts_off", "attention_off")
"""Changes that are not of some experts"""


@dataclass
class Intervention:
    """A visitor's; lives in their Session."""

    rules: list[Rule] = field(default_factory=list)
    original: RoutingTrace | None = None
    """Of the answer that edited ones are held against; None: the trace at hand is the original"""
    change: NDArray[np.float32] | None = None
    """[A] for the original answer's tokens, in nats, under `words`"""
    words: str = ""
    effects: list[Effect] = field(default_factory=list)
    where: tuple[tuple[int, ...] | None, tuple[str, ...] | None] = (None, None)
    """Layers and projections of the sweep; None means all"""
    sweeping: bool = False
    place: tuple[int, str] | None = None
    """Layer and projection of the cell that was clicked last"""
    task: Task | None = None
    """Asked for and not begun yet"""
    begun: tuple[int, ...] = ()
    """Ids that the next answer begins with"""

    def forget(self) -> None:
        """The answer is gone; the rules stay."""
        self.original, self.change, self.words, self.effects, self.place = None, None, "", [], None

    def swept(self) -> str:
        """What the sweep changes, in words."""
        from molora.edits import Rule

        where = one_rule(Rule("drop", (0,), *self.where)).removeprefix(one_rule(Rule("drop", (0,))))
        return t("one expert off") + where

    def edit(self) -> RoutingEdit:
        from molora.edits import RoutingEdit

        return RoutingEdit(tuple(self.rules))

    def add(
        self,
        kind: str,
        experts: object,
        layers: tuple[int, ...] | None,
        projections: tuple[str, ...] | None,
        shape: Shape,
        top_k: int,
    ) -> None:
        """One more rule. Raises MoloraError, and changes nothing, for what the model has not or cannot do.

        kind: of a rule, or "experts_off". Those of `FOR_ALL` name no experts, and "attention_off" no place either.
        """
        from molora.edits import RoutingEdit
        from molora.rules import read_edit

        if kind in FOR_ALL:
            kind, experts = ("drop" if kind == "experts_off" else kind), None
        elif not isinstance(experts, list) or not experts:
            raise MoloraError(t("Choose at least one expert for the rule."))
        if len(self.rules) >= MAX_RULES:
            raise MoloraError(t("There are {count} rules already; undo some first.", count=MAX_RULES))
        if kind == "attention_off" and (layers is not None or projections is not None):
            raise MoloraError(t("The attention LoRA is switched off as a whole: choose all layers and projections."))
        given = {"kind": kind, "experts": experts, "layers": layers, "projections": projections}
        rules = [*self.rules, *read_edit([given]).rules]
        RoutingEdit(tuple(rules)).check(shape.num_experts, top_k, list(shape.layers), shape.projections)
        self.rules = rules

    def undo(self) -> None:
        """Takes the last rule back. Raises MoloraError without one."""
        if not self.rules:
            raise MoloraError(t("There is no rule to undo."))
        self.rules = self.rules[:-1]


def strongest(trace: RoutingTrace, row: int, place: tuple[int, str]) -> int | None:
    """The expert that one router picked first for a token; None where it has not run."""
    layer, projection = place
    layers = trace.layer_indices.tolist()
    if layer not in layers or projection not in trace.projections or not trace.top_k:
        return None
    expert = int(trace.expert_ids[row, layers.index(layer), trace.projections.index(projection), 0])
    return expert if expert >= 0 else None


def place_of(trace: RoutingTrace, layer: object, projection: object) -> tuple[int, str] | None:
    """Layer and projection of a clicked cell, as a request names them; None for what the trace has not."""
    names = {short(name): name for name in trace.projections}
    if not isinstance(layer, str) or not isinstance(projection, str) or projection not in names:
        return None
    at = {str(number): number for number in trace.layer_indices.tolist()}.get(layer)
    return None if at is None else (at, names[projection])
