"""A RoutingEdit as the lean pass meets it: the masks of a layer's routers side by side, and which LoRA is off.

Axes: E experts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from molora.edits import Masks, RoutingEdit
from molora.grid import RouterGrid


@dataclass(frozen=True)
class Plan:
    """What one request changes; the default changes nothing."""

    masks: dict[int, tuple[Masks, Masks]] = field(default_factory=dict)
    """Layer -> those of gate and up [2, E], and of down [1, E]; a layer without an entry routes as it is"""
    attention: bool = True
    """False: the attention's LoRA adds nothing"""
    mlp: bool = True
    """False: plain LoRA on the MLP adds nothing; routed experts are dropped by masks instead"""

    @cached_property
    def tensors(self) -> dict[int, tuple[Tensor, Tensor]]:
        """The masks as kernels on a GPU take them."""
        return {layer: (masks_tensor(first), masks_tensor(second)) for layer, (first, second) in self.masks.items()}

    @cached_property
    def arrays(self) -> dict[int, tuple[NDArray[Any], NDArray[Any]]]:
        """The masks as compiled code takes them."""
        return {layer: (masks_array(first), masks_array(second)) for layer, (first, second) in self.masks.items()}

    @classmethod
    def of(cls, edit: RoutingEdit | None, grid: RouterGrid) -> Plan:
        """The edit must have been checked against the grid."""
        if edit is None:
            return cls()
        masks, count = {}, len(grid.projections)
        for row, layer in enumerate(grid.layer_indices):
            if any(edit.touches(layer, projection) for projection in grid.projections):
                device = grid.routers[row * count].weight.device
                each = [edit.masks(layer, name, grid.num_experts, device) for name in grid.projections]
                masks[layer] = Masks.stacked(each[:2]), Masks.stacked(each[2:])
        return cls(masks, not edit.switches_off("attention"), not edit.switches_off("experts"))


def masks_array(masks: Masks) -> NDArray[Any]:
    return masks_tensor(masks).numpy()


def masks_tensor(masks: Masks) -> Tensor:
    """Offset, kept (1 or 0), shift and sharpness [P, 4, E]."""
    sharpness = torch.as_tensor(masks.sharpness, device=masks.shift.device).expand_as(masks.shift)
    return torch.stack([masks.offset, masks.kept.float(), masks.shift, sharpness], dim=1)
