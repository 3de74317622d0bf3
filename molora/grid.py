"""The routers of a model, in reading order: MoLoRA's, or those that the model has of its own.

The recorder and the edits know a router only as a `RoutingSource`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from molora.config import EXPERT_PROJECTIONS, ExpertSelection
from molora.edits import Masks, RoutingEdit
from molora.layers import Router
from molora.wrap import wrapped_linears


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

    @classmethod
    def of(cls, model: nn.Module) -> RouterGrid:
        """A model without routers has a grid of no layers and no projections."""
        from molora.native import native_grid

        found: dict[int, dict[str, Router]] = {}
        for name, linear in wrapped_linears(model).items():
            if linear.router is not None:
                found.setdefault(int(name.split(".")[1]), {})[name.rpartition(".")[2]] = linear.router
        if not found:
            return native_grid(model) or cls([], [], (), 0, 0)
        routers = [found[layer][projection] for layer in sorted(found) for projection in EXPERT_PROJECTIONS]
        return cls(routers, sorted(found), EXPERT_PROJECTIONS, routers[0].num_experts, routers[0].top_k)

    def check(self, edit: RoutingEdit) -> None:
        """Raises MoloraError for what the model does not have or does not allow."""
        edit.check(self.num_experts, self.top_k, self.layer_indices, self.projections)
        if self.refuse is not None:
            self.refuse(edit)
