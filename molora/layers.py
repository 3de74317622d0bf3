"""The mixture of low-rank experts on one frozen linear: exact, of static shape, without a loop over experts.

Shapes: * any leading axes, I in_features, O out_features, E experts, K picked, R rank.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molora.config import ExpertSelection, LoraConfig
from molora.edits import Masks


class Routing(NamedTuple):
    """What a router decided; `Recorder` reads it from a forward hook."""

    logits: Tensor
    """float32 [*, E]"""
    expert_ids: Tensor
    """int64 [*, K], strongest first; -1 for a slot that an edit switched off"""
    weights: Tensor
    """float32 [*, K], softmax over the picked logits: each row sums to 1, but for slots switched off, which are 0"""


def choose(scores: Tensor, logits: Tensor, top_k: int, masks: Masks | None) -> tuple[Tensor, Tensor]:
    """The picks and their weights as `Routing` has them, both [*, K].

    `scores` [*, E] rank the experts: the logits themselves, or draws. The masks are [E], or any shape that expands
    to that of the logits.
    """
    ranked = scores + masks.offset if masks else scores
    values, ids = ranked.topk(top_k, dim=-1)  # [*, K]
    if ranked is logits:
        return ids, values.softmax(dim=-1)
    picked = logits.gather(-1, ids)  # [*, K]
    if masks:
        picked = picked + masks.shift.expand_as(logits).gather(-1, ids)  # [*, K]
    picked, order = picked.sort(dim=-1, descending=True)  # not ranked by logit alone; strongest first all the same
    ids = ids.gather(-1, order)
    weights = (picked * masks.sharpness if masks else picked).softmax(dim=-1)  # [*, K]
    if masks:
        off = ~masks.kept.expand_as(logits).gather(-1, ids)  # [*, K]
        ids, weights = ids.masked_fill(off, -1), weights.masked_fill(off, 0)
    return ids, weights


class Router(nn.Module):
    """Scores the experts for each token and picks K of them.

    The logits are float32 from the product on, whatever the input: near ties flip experts in bf16.
    """

    generator: torch.Generator | None = None
    """Source of randomness for "sampling"; None means torch's own."""
    masks: Masks | None = None
    """An edit of the pass under way; None leaves the routing as it is."""

    def __init__(self, in_features: int, num_experts: int, top_k: int, selection: ExpertSelection = "top_k") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, in_features, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(num_experts, dtype=torch.float32))
        self.num_experts, self.top_k, self.selection = num_experts, top_k, selection
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Routing:
        with torch.autocast(x.device.type, enabled=False) if self.training else nullcontext():
            logits = F.linear(x.float(), self.weight.float(), self.bias.float())  # [*, E]
        return Routing(logits, *choose(self._drawn(logits), logits, self.top_k, self.masks))

    def _drawn(self, logits: Tensor) -> Tensor:
        """Scores whose top K are the picks. Logits plus Gumbel noise rank as K draws without replacement from
        softmax(logits) do (Gumbel top-k trick, arXiv 1903.06059), on the device and without synchronisation."""
        if self.selection != "sampling":
            return logits
        return logits - torch.empty_like(logits).exponential_(generator=self.generator).log()

    def extra_repr(self) -> str:
        return f"num_experts={self.num_experts}, top_k={self.top_k}, selection={self.selection}"


class MoloraLinear(nn.Module):
    """y = W x + sum_j w_j * scaling * B[id_j] A[id_j] x over the picked experts (MING-MOE, arXiv 2404.09027, eq. 4-6).

    Wraps any linear, quantized or not, and never touches it. With one expert there is no router: plain LoRA.
    The experts lie side by side, so that two products serve them all; an expert that is not picked is masked
    before the second one, so that not even its overflow (inf) reaches the sum.
    """

    active: bool = True
    """False leaves the base alone: an edit of the pass under way."""

    def __init__(
        self,
        base_layer: nn.Linear,
        num_experts: int,
        top_k: int,
        lora: LoraConfig,
        selection: ExpertSelection = "top_k",
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        """`base_layer`: plain or quantized (bitsandbytes' linears are `nn.Linear`s too); dtype and device are those of
        the adapter."""
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        self.in_features, self.out_features = base_layer.in_features, base_layer.out_features
        self.num_experts, self.r, self.scaling = max(num_experts, 1), lora.r, lora.scaling
        rows = self.num_experts * self.r
        self.lora_A = nn.Parameter(torch.empty(rows, self.in_features, dtype=dtype, device=device))  # [E*R, I]
        self.lora_B = nn.Parameter(torch.zeros(self.out_features, rows, dtype=dtype, device=device))  # [O, E*R]
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.dropout = nn.Dropout(lora.dropout) if lora.dropout else nn.Identity()
        self.router = (
            Router(self.in_features, num_experts, top_k, selection).to(device=device) if num_experts > 1 else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.base_layer(x)  # [*, O]
        if not self.active:
            return y
        h = F.linear(self.dropout(x).to(self.lora_A.dtype), self.lora_A)  # [*, E*R]
        if self.router is None:
            h = h * self.scaling
        else:
            routing = self.router(x)
            h = h.unflatten(-1, (self.num_experts, self.r))  # [*, E, R]
            h = gated(h, routing.expert_ids, routing.weights * self.scaling).flatten(-2)  # [*, E*R]
        if y.dtype != h.dtype or torch.is_autocast_enabled(x.device.type):
            return y + F.linear(h, self.lora_B).to(y.dtype)
        rows, h = y.reshape(-1, self.out_features), h.reshape(-1, h.shape[-1])  # [N, O], [N, E*R]
        if torch.is_grad_enabled():
            return torch.addmm(rows, h, self.lora_B.T).reshape(y.shape)
        return rows.addmm_(h, self.lora_B.T).view(y.shape)  # in place: the output is the widest tensor here

    def extra_repr(self) -> str:
        return f"num_experts={self.num_experts}, r={self.r}, scaling={self.scaling:g}"


def gated(h: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """h [*, E, R] times the weights [*, K] of the picked experts; 0 for the others, even where they overflow."""
    ids = ids.clamp_min(0)  # a slot switched off adds its weight, 0, to some expert
    gates = weights.new_zeros(h.shape[:-1]).scatter_add(-1, ids, weights).to(h.dtype).unsqueeze(-1)  # [*, E, 1]
    return h.masked_fill(gates == 0, 0) * gates
