"""Models whose routers are their own: found by their classes, read and edited as MoLoRA's are, one projection "mlp".

| family in transformers | weights | edits |
| --- | --- | --- |
| Mixtral | softmax over all experts, renormalised over the picked | all |
| OLMoE, FlexOlmo, Qwen2-MoE, Qwen3-MoE | softmax over all, renormalised if `norm_topk_prob` | all |
| gpt-oss | softmax over the picked | all |
| DeepSeek-V2 | softmax over all, groups, times `routed_scaling_factor` | all |
| DeepSeek-V3, dots1, GLM-4-MoE | sigmoid, groups, renormalised if `norm_topk_prob`, scaled likewise | all |
| any other `...TopKRouter` that gives (logits, weights, ids) | as the model gives them | drop |
| PEFT's X-LoRA | see `molora.native.xlora` | drop |

Shared experts, which every token passes and no router picks, are no part of the trace; `num_shared_experts` counts
them.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from molora.edits import Kind, RoutingEdit
from molora.errors import MoloraError
from molora.grid import RouterGrid
from molora.native.router import NativeRouter, RouterMethod, RouterModule, Seam
from molora.native.rules import rule_of
from molora.native.xlora import xlora_grid

PROJECTION = "mlp"

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_ROUTER = re.compile(r"(\w+?)(?:Text)?Top[Kk]Router")
_BLOCK = re.compile(r"(\w+?)(?:Text)?(?:Sparse)?Mo[Ee](?:Block)?")
_COUNTS = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
_SHARED = ("shared_expert", "shared_experts", "shared_mlp")


def native_grid(model: nn.Module) -> RouterGrid | None:
    """The model's own routers in the order of its layers; None if it has none."""
    if (xlora := xlora_grid(model)) is not None:
        return xlora
    config: Any = getattr(model, "config", None)
    found: dict[int, tuple[str, NativeRouter]] = {}
    for name, module in model.named_modules():
        layer = _LAYER.search(name)
        if layer and int(layer[1]) not in found and (router := _router_of(module, config)) is not None:
            found[int(layer[1])] = router
    if not found:
        return None
    layers = sorted(found)
    family, first = found[layers[0]]
    if any((router.num_experts, router.top_k) != (first.num_experts, first.top_k) for _, router in found.values()):
        raise MoloraError(f"{family} has layers of different numbers of experts; a trace holds only one number.")
    routers = [found[layer][1] for layer in layers]
    allowed: tuple[Kind, ...] = ("drop", "reroute", "force") if first.rule is not None else ("drop",)

    def refuse(edit: RoutingEdit) -> None:
        edit.check_kinds(family, allowed)
        for layer, router in zip(layers, routers, strict=True):
            if router.rule is not None:
                barred, forced = (edit.experts(kind, layer, PROJECTION, first.num_experts) for kind in _RANKING)
                router.rule.check(barred, forced, first.num_experts, f"in layer {layer}, {PROJECTION}")

    return RouterGrid(routers, layers, (PROJECTION,), first.num_experts, first.top_k, refuse=refuse)


_RANKING: tuple[Kind, Kind] = ("reroute", "force")


def num_shared_experts(model: nn.Module) -> int:
    """Experts of each layer that are always on; the model may keep them as one wide MLP."""
    if not any(name.rpartition(".")[2] in _SHARED for name, _ in model.named_modules()):
        return 0
    config: Any = model.config
    return int(next((count for name in _COUNTS if (count := getattr(config, name, None))), 1))


def _router_of(module: nn.Module, config: Any) -> tuple[str, NativeRouter] | None:
    """(family, adapter) of a router, or of a block that routes itself."""
    kind = type(module).__name__
    if (block := _BLOCK.fullmatch(kind)) and hasattr(type(module), RouterMethod.NAME):
        family, gate = block[1], getattr(module, "gate", None)
        seam: Seam = RouterMethod(module)
    elif router := _ROUTER.fullmatch(kind):
        family, gate, seam = router[1], module, RouterModule(module)
    else:
        return None
    weight, top_k = getattr(gate, "weight", None), getattr(module, "top_k", None)
    if not isinstance(weight, Tensor) or not isinstance(top_k, int):
        return None
    return family, NativeRouter(seam, weight, top_k, rule_of(family, config, gate, top_k))
