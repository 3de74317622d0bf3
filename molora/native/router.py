"""One router of a model that has its own, met as this project's `Router` is: watched by hooks, changed by masks.

The model's modules are never replaced; what an edit changes passes through hooks that come off after each pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from molora.edits import Masks
from molora.errors import MoloraError
from molora.grid import Handle
from molora.layers import Routing
from molora.native.edited import EditedRouter
from molora.native.hooks import on_method
from molora.native.rules import Rule


class Decision(NamedTuple):
    """What a router hands to its experts, in the model's own order and dtypes."""

    logits: Tensor
    """[N, E]"""
    weights: Tensor
    """[N, K]"""
    expert_ids: Tensor
    """int64 [N, K]"""


DecisionHook = Callable[[Decision], Decision | None]


class Seam(Protocol):
    """Where a model's routing shows."""

    def listen(self, hook: DecisionHook, *, first: bool = False) -> Handle:
        """`first`: before the hooks that are there, which then see what it made of the decision."""
        ...


class RouterModule:
    """A module whose output is (logits, weights, ids), as transformers' routers are; some had ids before weights."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def listen(self, hook: DecisionHook, *, first: bool = False) -> Handle:
        def after(module: nn.Module, _args: Any, output: Any) -> Any:
            if not isinstance(output, tuple) or len(output) != 3 or output[1].shape != output[2].shape:
                raise MoloraError(
                    f"{type(module).__name__} does not give (logits, weights, ids), so its routing cannot be read. "
                    "Its family is not supported with this version of transformers."
                )
            logits, weights, ids = output
            swapped = weights.dtype == torch.int64
            changed = hook(Decision(logits, ids, weights) if swapped else Decision(logits, weights, ids))
            if changed is None:
                return None
            return (changed.logits, changed.expert_ids, changed.weights) if swapped else tuple(changed)

        return self._module.register_forward_hook(after, prepend=first)


class RouterMethod:
    """A block that routes in a method of its own, `route_tokens_to_experts(logits) -> (ids, weights)`, as DeepSeek's
    did before transformers gave them routers."""

    NAME = "route_tokens_to_experts"

    def __init__(self, block: nn.Module) -> None:
        self._block = block

    def listen(self, hook: DecisionHook, *, first: bool = False) -> Handle:
        def after(args: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | None:
            ids, weights = output
            changed = hook(Decision(args[-1].flatten(0, -2), weights, ids))
            return None if changed is None else (changed.expert_ids, changed.weights)

        return on_method(self._block, self.NAME, after, first=first)


class NativeRouter(EditedRouter):
    """Reads a `Decision` as a `Routing`.

    logits: float32, as the router's product gives them, before softmax or sigmoid, bias and groups.
    weights: what each expert's output is multiplied with, as the model computed it: renormalised, scaled or neither.
    Ids are put in the order of their weights, strongest first; under an edit a slot switched off is -1 with weight 0.
    """

    def __init__(self, seam: Seam, weight: Tensor, top_k: int, rule: Rule | None) -> None:
        """`weight`: of the router, [E, I]; without a `rule` only the dropping of experts is possible."""
        self._seam, self.weight, self.top_k, self.rule = seam, weight, top_k, rule
        self.num_experts = weight.shape[0]
        self._known: tuple[Masks, bool] | None = None

    def _hooked(self) -> Handle:
        return self._seam.listen(self._edited, first=True)

    def register_forward_hook(self, hook: Callable[..., Any]) -> Handle:
        def after(decision: Decision) -> None:
            hook(self, (), self._routing(decision))

        return self._seam.listen(after)

    def _routing(self, decision: Decision) -> Routing:
        weights, order = decision.weights.float().sort(dim=-1, descending=True, stable=True)  # [N, K]
        ids = decision.expert_ids.gather(-1, order)  # [N, K]
        if self._masks is not None:
            ids = ids.masked_fill(~self._masks.kept[ids], -1)
        return Routing(decision.logits.float()[None], ids[None], weights[None])

    def _edited(self, decision: Decision) -> Decision | None:
        masks = self._masks
        if masks is None:
            return None
        logits, weights, ids = decision
        if self.rule is not None and self._reranks(masks):
            new, ids = self.rule(logits, masks.offset)
            weights = new.to(weights.dtype)
        return Decision(logits, weights.masked_fill(~masks.kept[ids], 0), ids)

    def _reranks(self, masks: Masks) -> bool:
        """Whether the masks bar or force an expert; looked up once an edit, as it waits for the device."""
        if self._known is None or self._known[0] is not masks:
            self._known = (masks, bool(masks.offset.any()))
        return self._known[1]
