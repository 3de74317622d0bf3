"""PEFT's X-LoRA (arXiv 2402.07148): one classifier scales several LoRA adapters, for each token and each LoRA linear.

The adapters are the experts, and a "projection" is a linear that carries them: the scalings act on every targeted
linear of a layer, so each has a row of its own. Without `layerwise_scalings` the rows of a token are all alike, as the
model applies them. K is `top_k_lora`, or all adapters where it is not set.

X-LoRA reads every text twice (the classifier looks at the last hidden state of a first pass) and cannot keep a cache,
so each pass reads all tokens anew, as PEFT's own `generate` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from molora.edits import RoutingEdit
from molora.errors import MoloraError
from molora.grid import Handle, RouterGrid
from molora.layers import Routing
from molora.native.edited import EditedRouter
from molora.native.hooks import Handles, on_method

_LINEAR = re.compile(r"(?:^|\.)layers\.(\d+)\.(?:\w+\.)*(\w+)$")
_SCALINGS = "get_maybe_topk_scalings"


def xlora_grid(model: nn.Module) -> RouterGrid | None:
    """The linears of a `PeftModel` with X-LoRA; None for any other model."""
    tuner: Any = getattr(model, "base_model", None)
    if getattr(tuner, "internal_xlora_classifier", None) is None:
        return None
    found: dict[int, dict[str, XLoraRouter]] = {}
    for name, module in model.named_modules():
        layer = getattr(getattr(module, "forward", None), "__self__", None)
        if hasattr(layer, _SCALINGS) and (match := _LINEAR.search(name)):
            found.setdefault(int(match[1]), {})[match[2]] = XLoraRouter(tuner, layer)
    layers = sorted(found)
    projections = tuple(found[layers[0]]) if layers else ()
    if not layers or any(tuple(found[layer]) != projections for layer in layers):
        raise MoloraError(
            "This X-LoRA does not adapt the same linears in every layer that it adapts, which a trace cannot hold. "
            "Use adapters whose target_modules are names of linears, without layers_to_transform."
        )
    routers = [found[layer][projection] for layer in layers for projection in projections]
    first = routers[0]

    def refuse(edit: RoutingEdit) -> None:
        edit.check_kinds("X-LoRA", ("drop",))

    return RouterGrid(routers, layers, projections, first.num_experts, first.top_k, uses_cache=False, refuse=refuse)


class XLoraRouter(EditedRouter):
    """The classifier as one LoRA linear meets it.

    logits: float32, as the classifier's last linear gives them, before temperature and softmax.
    weights: the scalings that the linear applies, after its top-k, before `global_scaling_weight` and each adapter's
    own alpha / r. They sum to 1 only with `enable_softmax` and without `top_k_lora`, or with `enable_softmax_topk`.
    """

    def __init__(self, tuner: Any, layer: Any) -> None:
        """`tuner`: peft's XLoraModel; `layer`: its XLoraLinearLayer."""
        self._tuner, self._layer = tuner, layer
        self._classifier: Any = tuner.internal_xlora_classifier
        self.num_experts: int = self._classifier.n_classes
        self.top_k: int = min(self._classifier.config.top_k_lora or self.num_experts, self.num_experts)

    @property
    def weight(self) -> Tensor:
        return self._classifier.layers[-1].weight

    def _hooked(self) -> Handle:
        return on_method(self._layer, _SCALINGS, self._edited, first=True)

    def register_forward_hook(self, hook: Callable[..., Any]) -> Handle:
        logits: list[Tensor] = []

        def keep(_linear: nn.Module, _args: Any, output: Tensor) -> None:
            logits[:] = [self._own(output)]

        def after(args: tuple[Any, ...], scalings: Tensor) -> None:
            if self._applies(args):
                hook(self, (), self._routing(logits[0], scalings))

        return Handles(
            (
                self._classifier.layers[-1].register_forward_hook(keep),
                on_method(self._layer, _SCALINGS, after),
            )
        )

    def _applies(self, args: tuple[Any, ...]) -> bool:
        """False in the first pass, whose scalings are made up to ask the classifier."""
        return args[0] is self._tuner.internal_xlora_scalings

    def _own(self, output: Tensor) -> Tensor:
        """The classifier's output [B, N, E] or [B, N, linears * E] -> this linear's logits [B, N, E]."""
        if not self._classifier.config.layerwise_scalings:
            return output
        return output.unflatten(-1, (-1, self.num_experts))[..., self._layer.layer_number, :]

    def _routing(self, logits: Tensor, scalings: Tensor) -> Routing:
        weights, ids = scalings.float().topk(self.top_k, dim=-1)  # [B, N, K]
        if self._masks is not None:
            ids = ids.masked_fill(weights == 0, -1)
        return Routing(logits.float(), ids, weights)

    def _edited(self, args: tuple[Any, ...], scalings: Tensor) -> Tensor | None:
        if self._masks is None or not self._applies(args):
            return None
        return scalings.masked_fill(~self._masks.kept, 0)  # [B, N, E]
