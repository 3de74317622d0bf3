"""The usual way to run a mixture of LoRA experts, for comparison: a loop over them that gathers each one's tokens.

N tokens, I in_features, O out_features, E experts, K picked, R rank.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molora.layers import MoloraLinear
from molora.wrap import wrapped_linears


class LoopLinear(nn.Module):
    """What a `MoloraLinear` with a router computes: finds the tokens of each expert with `where`, adds its part."""

    def __init__(self, linear: MoloraLinear) -> None:
        super().__init__()
        assert linear.router is not None
        self.base_layer, self.scaling, self.top_k = linear.base_layer, linear.scaling, linear.router.top_k
        self.router_weight, self.router_bias = linear.router.weight, linear.router.bias
        self.experts_A = nn.ParameterList(part.detach().clone() for part in linear.lora_A.split(linear.r))  # E x [R, I]
        self.experts_B = nn.ParameterList(
            part.detach().contiguous() for part in linear.lora_B.split(linear.r, dim=1)
        )  # E x [O, R]

    def forward(self, x: Tensor) -> Tensor:
        y = self.base_layer(x)  # [*, O]
        tokens = x.reshape(-1, x.shape[-1])  # [N, I]
        logits = F.linear(tokens.float(), self.router_weight.float(), self.router_bias.float())  # [N, E]
        picked, ids = logits.topk(self.top_k, dim=-1)  # [N, K]
        weights = (picked.softmax(dim=-1) * self.scaling).to(x.dtype)  # [N, K]
        added = torch.zeros(len(tokens), y.shape[-1], dtype=y.dtype, device=y.device)  # [N, O]
        for expert, (A, B) in enumerate(zip(self.experts_A, self.experts_B, strict=True)):
            at, slot = torch.where(ids == expert)
            part = F.linear(F.linear(tokens[at].to(A.dtype), A), B)  # [n, O]
            added[at] += (weights[at, slot, None] * part).to(y.dtype)
        return y + added.view_as(y)


def loop_over_experts(model: nn.Module, source: nn.Module) -> Any:
    """Puts loops into the place of the linears of `model`, a bare base, that carry MoLoRA in `source`; the attention's
    LoRA stays as it is in `source`. Returns `model`."""
    decoder: Any = model
    for name, linear in wrapped_linears(source).items():
        parent, _, leaf = name.rpartition(".")
        made = LoopLinear(linear) if linear.router is not None else linear
        setattr(decoder.get_submodule("model").get_submodule(parent), leaf, made)
    return decoder
