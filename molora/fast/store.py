"""Which models the lean pass fits, and the one copy of its weights that all requests to a model share."""

from __future__ import annotations

from collections.abc import Iterator
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM

from molora.fast.gpu import fused_step
from molora.fast.levels import multiplies_bfloat16
from molora.fast.product import is_plain, seems_packable
from molora.fast.step import Step
from molora.fast.watch import Watch
from molora.layers import MoloraLinear, Router

_SHAPES = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)
_ROTARY = {"default", "linear", "llama3", "yarn"}
"""Kinds whose angles hang on the position alone, not on how long the text is"""

_lock = RLock()
_known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()
_packed: WeakSet[nn.Module] = WeakSet()


def may_pack(model: nn.Module) -> bool:
    """Whether `allow_packing` was called."""
    return model in _packed


def allow_packing(model: nn.Module) -> None:
    """Lets the lean pass read the base in 4 bits where its weights have no more: several times faster on a CPU.

    The levels are kept, but scales are rounded to bfloat16, as on a GPU, and activations to it or to 15 bits of the
    largest in a block, in prompts also on their way into adapters through which that costs no more than through the
    base. Prompts are read in bfloat16 where the CPU is fast in it, in 4 bits where compiled code multiplies them, else
    in float32. With AMX keys and values are kept in float16. Without this all is float32.
    """
    _packed.add(model)


def packs(model: Any) -> bool:
    """Whether single tokens are read in 4 bits: told by the first rows of each weight, without making any copy."""
    return (
        may_pack(model)
        and fits(model)
        and all(
            seems_packable(getattr(linear, "base_layer", linear))
            for layer in model.model.layers
            for linears in _sites(layer)
            for linear in linears
        )
    )


def packs_prompts(model: Any) -> bool:
    """Whether many tokens at once are, too."""
    packed = packs(model)
    return packed and _prompt_dtype(model, packed) == torch.float32


def prompt_dtype(model: Any) -> torch.dtype:
    """What the products of a prompt are made in."""
    return _prompt_dtype(model, packs(model))


def _prompt_dtype(model: Any, packed: bool) -> torch.dtype:
    return torch.bfloat16 if packed and multiplies_bfloat16() else model.dtype


def fits(model: Any) -> bool:
    """Whether the lean pass computes what this model's modules do.

    It does for decoders of the kinds above with full attention, on one device and in one dtype but for what
    bitsandbytes packed, whose linears and their adapters, if any, are alike where they read the same input. It draws
    no experts and runs no hooks: whoever hangs one on a module, be it a router, keeps the model to its modules.
    """
    return _fitting(model) is not None


def step_of(model: Any) -> Step:
    """The lean pass of a model that it fits: made at the first call, and anew when something has changed since; what
    is not seen, `Watch` tells."""
    return _look(model).step(model)


def lean_step(model: Any) -> Step | None:
    """The same for any model, None where it does not fit: `fits` and `step_of` with one look at the model."""
    known = _fitting(model)
    return known.step(model) if known else None


class _Known:
    """What is known of a model as it is. It does not hold it."""

    def __init__(self, model: Any) -> None:
        self.watch = Watch(model)
        self._plain: bool | None = None
        self._step: Step | None = None

    def plain(self, model: Any) -> bool:
        """What `fits` asks of weights and linears."""
        if self._plain is None:
            self._plain = _plain(model)
        return self._plain

    def step(self, model: Any) -> Step:
        with _lock:
            if self._step is None:
                self._step = _made(model)
            return self._step


def _look(model: Any) -> _Known:
    with _lock:
        known = _known.get(model)
        if known is None or not known.watch.unchanged():
            known = _known[model] = _Known(model)
        return known


def _fitting(model: Any) -> _Known | None:
    """None where the lean pass does not fit."""
    if type(model) not in _SHAPES or model.training or not _sees_all(model.config):
        return None
    if model.config.rope_parameters["rope_type"] not in _ROTARY or model.config.hidden_act != "silu":
        return None
    known = _look(model)
    return known if not known.watch.hooked(model) and known.plain(model) else None


def _plain(model: Any) -> bool:
    weights = [(module, weight) for module in model.modules() for weight in module.parameters(recurse=False)]
    dtypes = {
        weight.dtype
        for module, weight in weights
        if not isinstance(module, Router)  # routers are float32 whatever the model is
        and weight.is_floating_point()  # packed weights are not
    }
    devices = {weight.device for _, weight in weights}
    if len(dtypes) != 1 or len(devices) != 1 or not is_plain(model.lm_head):
        return False
    return all(_alike(linears) for layer in model.model.layers for linears in _sites(layer))


def set_up(model: Any) -> None:
    """Readies compiled code for a model that `packs`: half a second of imports, which belong to loading rather than to
    the first answer. Of its weights one layer's smallest are packed."""
    _ = step_of(model).layers[0].out.base


def _made(model: Any) -> Step:
    if model.model.norm.weight.is_cuda:
        return fused_step(model) or Step(model, may_pack(model))
    if not packs(model):
        return Step(model, may_pack(model))
    from molora.fast.compiled import CompiledStep  # here alone: numba takes half a second to import

    return CompiledStep(model, True, _prompt_dtype(model, packed=True))


def _sees_all(config: Any) -> bool:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and getattr(config, "sliding_window", None) is None


def _sites(layer: Any) -> Iterator[list[Any]]:
    attention, mlp = layer.self_attn, layer.mlp
    yield [attention.q_proj, attention.k_proj, attention.v_proj]
    yield [attention.o_proj]
    yield [mlp.gate_proj, mlp.up_proj]
    yield [mlp.down_proj]


def _alike(linears: list[nn.Module]) -> bool:
    kind, *others = map(_kind, linears)
    return all(other == kind for other in others) and isinstance(kind[0], type) and issubclass(kind[0], nn.Linear)


def _kind(linear: nn.Module) -> tuple[object, ...]:
    if not isinstance(linear, MoloraLinear):
        return (type(linear),)
    router = linear.router
    routing = (
        None
        if router is None
        else (router.top_k, linear.out_features)
        if type(router) is Router and router.selection == "top_k"
        else router  # one of its own kind, which is like no other
    )
    own = type(linear.base_layer) if type(routing) in (tuple, type(None)) else type(router)
    return own, linear.lora_A.dtype, linear.num_experts, linear.r, routing
