"""How each family of models picks and weighs its experts, for passes under an edit.

A rule computes, from the logits, what the model's own router computes, to the bit; only there the edit's offset joins
the ranking (-inf: cannot be picked, +inf: always is). Without an edit the model's own code runs and no rule does.
Shapes: N tokens, E experts, K picked, G groups of experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from molora.errors import MoloraError


class Rule(Protocol):
    def __call__(self, logits: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """(weights [N, K], ids [N, K]) from logits [N, E] and offset [E]."""
        ...

    def check(self, barred: set[int], forced: set[int], num_experts: int, where: str) -> None:
        """Raises MoloraError if the rule cannot honour both; that K experts remain is known."""
        ...


@dataclass(frozen=True)
class SoftmaxThenTopK:
    """Softmax over all experts, then the K likeliest (Mixtral, arXiv 2401.04088; OLMoE, arXiv 2409.02060; Qwen-MoE).

    A barred expert is left out of the softmax.
    """

    top_k: int
    renormalise: bool
    """Whether the K weights are made to sum to 1; otherwise they are the probabilities as they are"""

    def __call__(self, logits: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = (logits + offset.clamp(max=0)).softmax(-1, dtype=torch.float32)  # [N, E]
        ids = (probabilities + offset).topk(self.top_k, dim=-1).indices  # [N, K]
        weights = probabilities.gather(-1, ids)  # [N, K]
        return weights / weights.sum(-1, keepdim=True) if self.renormalise else weights, ids

    def check(self, barred: set[int], forced: set[int], num_experts: int, where: str) -> None:
        """Nothing is in the way."""


@dataclass(frozen=True)
class TopKThenSoftmax:
    """The K highest logits, then softmax over these alone (gpt-oss, arXiv 2508.10925)."""

    top_k: int

    def __call__(self, logits: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        ids = (logits + offset).topk(self.top_k, dim=-1).indices  # [N, K]
        return logits.gather(-1, ids).softmax(-1, dtype=logits.dtype), ids

    def check(self, barred: set[int], forced: set[int], num_experts: int, where: str) -> None:
        """Nothing is in the way."""


@dataclass(frozen=True)
class Grouped:
    """DeepSeek's: the best groups of experts first, then the K best experts of these groups.

    V2 (arXiv 2405.04434) scores by softmax and ranks a group by its best expert. V3 (arXiv 2412.19437) scores by
    sigmoid, ranks by score plus a bias that keeps the load even, and a group by its two best. Weights are the scores
    without the bias, renormalised if the config says so (V3), then scaled.
    """

    top_k: int
    groups: int
    kept_groups: int
    scale: float
    renormalise: bool
    bias: Tensor | None
    """float32 [E] for V3, None for V2"""

    def __call__(self, logits: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        if self.bias is None:
            scores = (logits + offset.clamp(max=0)).softmax(-1, dtype=torch.float32)  # [N, E]
            ranking = scores + offset  # [N, E]
        else:
            scores = logits.sigmoid()  # [N, E]
            ranking = scores + self.bias + offset  # [N, E]
        if self.groups > 1:
            ranking = ranking.masked_fill(self._shut(ranking), -torch.inf)
        ids = ranking.topk(self.top_k, dim=-1, sorted=False).indices  # [N, K]
        weights = scores.gather(-1, ids)  # [N, K]
        if self.renormalise:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return weights * self.scale, ids

    def _shut(self, ranking: Tensor) -> Tensor:
        """True for experts of groups that are not chosen, bool [N, E]."""
        inside = ranking.unflatten(-1, (self.groups, -1))  # [N, G, E/G]
        best = inside.amax(-1) if self.bias is None else inside.topk(2, dim=-1).values.sum(-1)  # [N, G]
        chosen = best.topk(self.kept_groups, dim=-1).indices  # [N, kept]
        shut = torch.ones_like(best, dtype=torch.bool).scatter(-1, chosen, False)  # [N, G]
        return shut.unsqueeze(-1).expand_as(inside).flatten(-2)

    def check(self, barred: set[int], forced: set[int], num_experts: int, where: str) -> None:
        """Raises MoloraError if forced experts lie in too many groups, or the groups a token may get hold too few."""
        if self.groups < 2:
            return
        size = num_experts // self.groups
        members = [set(range(at, at + size)) for at in range(0, num_experts, size)]
        if len(wanted := [group for group in members if group & forced]) > self.kept_groups:
            raise MoloraError(
                f"The edit forces experts of {len(wanted)} groups {where}; the model lets each token pick from "
                f"{self.kept_groups} of {self.groups} groups. Force experts of fewer groups."
            )
        least = 1 if self.bias is None else 2  # free experts without which a group is ranked last
        free = sorted(n for group in members if (n := len(group - barred)) >= least or group & forced)
        if sum(free[: self.kept_groups]) < self.top_k:
            raise MoloraError(
                f"The edit may leave fewer than {self.top_k} experts in the {self.kept_groups} of {self.groups} groups "
                f"that the model lets a token pick from {where}. Bar fewer experts of one group, or all of it."
            )


def rule_of(family: str, config: Any, gate: Any, top_k: int) -> Rule | None:
    """The rule of a family (its name in transformers, `Mixtral`), None if this project knows none."""
    if family == "Mixtral":
        return SoftmaxThenTopK(top_k, renormalise=True)
    if family in ("Olmoe", "FlexOlmo", "Qwen2Moe", "Qwen3Moe"):
        return SoftmaxThenTopK(top_k, bool(config.norm_topk_prob))
    if family == "GptOss":
        return TopKThenSoftmax(top_k)
    if family == "DeepseekV2":
        grouped = config.topk_method == "group_limited_greedy"
        groups, kept = (config.n_group, config.topk_group) if grouped else (1, 1)
        return Grouped(top_k, groups, kept, config.routed_scaling_factor, renormalise=False, bias=None)
    if family in ("DeepseekV3", "Dots1", "Glm4Moe"):
        return Grouped(
            top_k,
            config.n_group,
            config.topk_group,
            config.routed_scaling_factor,
            bool(config.norm_topk_prob),
            gate.e_score_correction_bias,
        )
    return None
