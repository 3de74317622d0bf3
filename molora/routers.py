"""Finds the routers of a model: MoLoRA's, or those that it has of its own."""

from __future__ import annotations

from torch import nn

from molora.config import EXPERT_PROJECTIONS
from molora.grid import RouterGrid
from molora.layers import Router
from molora.native import native_grid
from molora.wrap import wrapped_linears


def grid_of(model: nn.Module) -> RouterGrid:
    """A model without routers has a grid of no layers and no projections."""
    found: dict[int, dict[str, Router]] = {}
    for name, linear in wrapped_linears(model).items():
        if linear.router is not None:
            found.setdefault(int(name.split(".")[1]), {})[name.rpartition(".")[2]] = linear.router
    if not found:
        return native_grid(model) or RouterGrid([], [], (), 0, 0)
    routers = [found[layer][projection] for layer in sorted(found) for projection in EXPERT_PROJECTIONS]
    return RouterGrid(routers, sorted(found), EXPERT_PROJECTIONS, routers[0].num_experts, routers[0].top_k)
