"""Puts MoLoRA on the FFN projections and LoRA on the attention of a Hugging Face decoder, in place."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import nn

from molora.config import EXPERT_PROJECTIONS, MoloraConfig
from molora.errors import MoloraError
from molora.layers import MoloraLinear

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.(.+)$")


def wrap(model: nn.Module, config: MoloraConfig, dtype: torch.dtype | None = None) -> nn.Module:
    """Replaces the linears that `config` names by `MoloraLinear`s around them; everything else is frozen.

    `dtype` is the adapter's (None: torch's default). Each adapter lies on its linear's device. Returns `model`.
    Raises MoloraError, before anything is changed, if the model has no gated MLP or lacks a named linear.
    """
    sites = list(_sites(model, config))
    model.requires_grad_(False)
    for parent, name, num_experts in sites:
        linear = getattr(parent, name)
        lora = config.experts if num_experts > 1 else config.attention
        device = next(linear.parameters()).device
        wrapped = MoloraLinear(linear, num_experts, config.top_k, lora, config.expert_selection, dtype, device)
        setattr(parent, name, wrapped)
    return model


def wrapped_linears(model: nn.Module) -> dict[str, MoloraLinear]:
    """`layers.0.mlp.gate_proj` -> its MoloraLinear, in the model's order."""
    found = {}
    for name, module in model.named_modules():
        match = _LAYER.search(name)
        if match and isinstance(module, MoloraLinear):
            found[f"layers.{match[1]}.{match[2]}"] = module
    return found


def _sites(model: nn.Module, config: MoloraConfig) -> Iterator[tuple[nn.Module, str, int]]:
    """(parent, name of the linear, number of experts) for each linear to wrap."""
    layers = {name: module for name, module in model.named_modules() if re.search(r"(?:^|\.)layers\.\d+$", name)}
    if not layers:
        raise MoloraError(f"{type(model).__name__} has no decoder layers named 'layers.N'; it cannot carry MoLoRA.")
    expected = [*config.target_modules, *(EXPERT_PROJECTIONS if config.has_routers else ())]
    for layer_name, layer in layers.items():
        found = {}
        for name, module in layer.named_modules():
            parent, _, leaf = name.rpartition(".")
            if leaf in expected:
                if isinstance(module, MoloraLinear):
                    raise MoloraError(f"{layer_name}.{name} is wrapped already; load the base model anew.")
                if leaf in found:
                    raise MoloraError(
                        f"{layer_name} has more than one {leaf}: the base is a mixture of experts itself, and which of "
                        "them should carry MoLoRA is not defined. Choose a base with one gated MLP a layer."
                    )
                found[leaf] = (layer.get_submodule(parent), leaf)
        for leaf in expected:
            if leaf not in found:
                raise MoloraError(
                    f"{type(model).__name__} has no {leaf} in {layer_name}; MoLoRA needs a gated MLP with "
                    f"{', '.join(EXPERT_PROJECTIONS)} and the attention linears {', '.join(config.target_modules)}. "
                    "Choose a base of the Qwen2, Qwen3, Llama or Mistral kind."
                )
            experts = config.num_experts if leaf in EXPERT_PROJECTIONS and config.has_routers else 1
            yield *found[leaf], experts
