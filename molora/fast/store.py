"""Which models the lean pass fits, and the one copy of its weights that all requests to a model share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import is_
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import nn
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM

from molora.config import ExpertSelection
from molora.fast.gpu import fused_step
from molora.fast.levels import multiplies_bfloat16
from molora.fast.product import is_plain, seems_packable
from molora.fast.step import Step
from molora.layers import MoloraLinear, Router

_SHAPES = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)
_ROTARY = {"default", "linear", "llama3", "yarn"}
"""Kinds whose angles hang on the position alone, not on how long the text is"""

_lock = Lock()
_known: WeakKeyDictionary[nn.Module, tuple[_State, Step]] = WeakKeyDictionary()
_fitting: WeakKeyDictionary[nn.Module, tuple[_Seen, bool]] = WeakKeyDictionary()
_packed: WeakSet[nn.Module] = WeakSet()


def may_pack(model: nn.Module) -> bool:
    """Whether `allow_packing` was called."""
    return model in _packed


def allow_packing(model: nn.Module) -> None:
    """Lets the lean pass read the base in 4 bits where its weights have no more: several times faster on a CPU.

    The levels are kept, but scales are rounded to bfloat16, as on a GPU, and activations to it or to 15 bits of the
    largest in a block, in prompts also on their way into adapters through which that costs no more than through the
    base. Prompts are read in bfloat16 where the CPU is fast in it, in 4 bits where compiled code multiplies them, else
    in float32. Without this all is read in float32.
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
    no experts, and runs no hooks: those on routers see conversations read together alone, and any other hook keeps
    the model to its modules.
    """
    modules = _modules(model)
    if type(model) not in _SHAPES or model.training or not _sees_all(model.config) or _hooked(modules):
        return False
    if model.config.rope_parameters["rope_type"] not in _ROTARY or model.config.hidden_act != "silu":
        return False
    seen = _Seen.of(modules)
    known = _fitting.get(model)
    if known is None or not known[0].same(seen):
        known = _fitting[model] = seen, _plain(model, modules)
    return known[1]


def _plain(model: Any, modules: Sequence[nn.Module]) -> bool:
    """What `fits` asks of weights and linears."""
    weights = [(module, weight) for module in modules for weight in _weights(module)]
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


def step_of(model: Any) -> Step:
    """The lean pass of a model that it fits: made at the first call, and anew when a weight has changed since.

    Changes made in place under `.data`, which torch does not count, are not seen.
    """
    with _lock:
        state = _State.of(model)
        known = _known.get(model)
        if known is None or not known[0].same(state):
            known = _known[model] = state, _made(model)
        return known[1]


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


def _hooked(modules: Sequence[nn.Module]) -> bool:
    """Whether somebody watches or changes what the modules say; the recorder's hooks on the routers do neither."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        for module in modules
        if not isinstance(module, Router)
    )


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


def _modules(model: nn.Module) -> list[nn.Module]:
    """All of them, each once. Every request looks at them, and `modules`, which makes names, takes far longer."""
    found, known = [model], {model}
    for module in found:  # which grows meanwhile
        for part in module._modules.values():
            if part is not None and part not in known:
                known.add(part)
                found.append(part)
    return found


def _weights(module: nn.Module) -> list[nn.Parameter]:
    """A module's own. Every request looks at all of them, and `parameters` takes five times as long to."""
    return [weight for weight in module._parameters.values() if weight is not None]


class _Seen(NamedTuple):
    """What each request looks at to tell whether a model is as it was when last asked whether it fits."""

    weights: list[ref[nn.Parameter]]
    """Not held, for they may be replaced"""
    places: list[int]
    kinds: list[type]
    routing: list[tuple[int, ExpertSelection]]

    @classmethod
    def of(cls, modules: Sequence[nn.Module]) -> _Seen:
        weights = [one for module in modules for one in _weights(module)]
        routing = [(one.top_k, one.selection) for one in modules if isinstance(one, Router)]
        places, kinds = [one.data_ptr() for one in weights], [type(one) for one in modules]
        return cls([ref(one) for one in weights], places, kinds, routing)

    def same(self, other: _Seen) -> bool:
        """A weight has one reference alone, so by identity."""
        return self[1:] == other[1:] and all(map(is_, self.weights, other.weights))


class _State(NamedTuple):
    """Everything that the step's copies were made of: each weight, where it is, and how often it has been written."""

    weights: list[nn.Parameter]
    places: list[int]
    versions: list[int | None]

    @classmethod
    def of(cls, model: nn.Module) -> _State:
        kinds = MoloraLinear, nn.Linear, Router
        weights = [one for module in _modules(model) if isinstance(module, kinds) for one in _weights(module)]
        versions = [None if one.is_inference() else one._version for one in weights]
        return cls(weights, [one.data_ptr() for one in weights], versions)

    def same(self, other: _State) -> bool:
        """By identity for weights: comparing tensors would read them."""
        return self[1:] == other[1:] and all(map(is_, self.weights, other.weights))
