"""What MoLoRA is measured against: routers that are told the task, and routers that weigh all experts alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molora.layers import Router, Routing
from molora.wrap import wrapped_linears


class TaskRouter(Router):
    """Reads which task it is instead of the token: what MING-MOE does without.

    It is a `Router` whose input is the task, one-hot, so that picks, weights, training and files are the same.
    """

    task: Tensor | None = None
    """int64 [B] or [1], the tasks of the pass under way"""

    def forward(self, x: Tensor) -> Routing:
        if self.task is None:
            raise RuntimeError("A router that is told the task runs inside `told` alone.")
        told = F.one_hot(self.task.to(x.device), self.weight.shape[1])  # [B, S]
        return super().forward(told[:, None].expand(*x.shape[:-1], -1))  # [B, T, E]


class EvenRouter(Router):
    """Weighs every expert 1 / E, whatever it reads: the experts without the routing."""

    def __init__(self, router: Router) -> None:
        super().__init__(router.weight.shape[1], router.num_experts, top_k=router.num_experts)

    def forward(self, x: Tensor) -> Routing:
        logits = x.new_zeros(*x.shape[:-1], self.num_experts, dtype=torch.float32)
        ids = torch.arange(self.num_experts, device=x.device).expand_as(logits)
        return Routing(logits, ids, torch.full_like(logits, 1 / self.num_experts))


def tell_tasks(model: nn.Module, num_tasks: int) -> None:
    """Puts a fresh `TaskRouter` over `num_tasks` tasks into the place of every router of a wrapped model."""
    for linear in wrapped_linears(model).values():
        if (router := linear.router) is not None:
            told = TaskRouter(num_tasks, router.num_experts, router.top_k, router.selection)
            linear.router = told.to(router.weight.device)


def weigh_evenly(model: nn.Module) -> None:
    """Takes the routing out of a wrapped model: every router becomes an `EvenRouter`."""
    for linear in wrapped_linears(model).values():
        if linear.router is not None:
            linear.router = EvenRouter(linear.router).to(linear.router.weight.device)


@contextmanager
def told(model: nn.Module, task: Tensor) -> Iterator[None]:
    """Passes made inside are of the tasks [B] (or [1], for all rows); routers that read tokens take no notice."""
    routers = [module for module in model.modules() if isinstance(module, TaskRouter)]
    for router in routers:
        router.task = task
    try:
        yield
    finally:
        for router in routers:
            router.task = None
