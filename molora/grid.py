"""The routers of a model in reading order, as the recorder and the edits know them: as `RoutingSource`s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from molora.config import ExpertSelection
from molora.edits import Masks, RoutingEdit


class Handle(Protocol):
    def remove(self) -> None: ...


class RoutingSource(Protocol):
    """What can be watched and edited: this project's `Router`, or the adapter of a model's own router."""

    selection: ExpertSelection
    generator: torch.Generator | None
    masks: Masks | None

    @property
    def weight(self) -> Tensor:
        """[E, I], on the router's device"""
        ...

    def register_forward_hook(self, hook: Callable[..., Any]) -> Handle:
        """`hook(router, args, routing)` after each of its passes, with a `Routing` of shape [1, N, ...]."""
        ...


class RouterGrid(NamedTuple):
    """The routers of a model in reading order, layer by layer, projection by projection."""

    routers: Sequence[RoutingSource]
    """L * P"""
    layer_indices: list[int]
    """The model's own numbers; layers without a router are left out"""
    projections: tuple[str, ...]
    num_experts: int
    top_k: int
    uses_cache: bool = True
    """False: the model reads all tokens anew in each pass, and the last rows of a routing are the new ones"""
    refuse: Callable[[RoutingEdit], None] | None = None
    """Raises MoloraError for an edit that these routers do not allow, beyond what `RoutingEdit.check` refuses"""

    def check(self, edit: RoutingEdit) -> None:
        """Raises MoloraError for what the model does not have or does not allow."""
        edit.check(self.num_experts, self.top_k, self.layer_indices, self.projections)
        if self.refuse is not None:
            self.refuse(edit)
