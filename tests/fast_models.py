"""Small random decoders with MoLoRA on them, and a reading of each with or without the lean pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any, Literal

import bitsandbytes as bnb
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from molora import fast
from molora.config import LoraConfig, MoloraConfig
from molora.edits import RoutingEdit
from molora.fast.levels import grid_of as grid_of_weight
from molora.fast.plan import Plan
from molora.reading import Reading, cache_argument
from molora.routers import grid_of
from molora.wrap import wrap
from tests.released import make_tokenizer

TOKENIZER = make_tokenizer()
SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def as_cpu(monkeypatch: pytest.MonkeyPatch, capability: str, *instructions: str, name: str = "") -> None:
    """What torch says of this CPU: how wide its registers are, which further instructions it has, and its name."""
    said = {"cpu_name": name, **dict.fromkeys(instructions, True)}
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: said, raising=False)


def make_model(kind: str = "llama", experts: int = 4, wrapped: bool = True, **config: Any) -> Any:
    """`kind`: llama, llama-biased, qwen2, qwen2-tied, mistral. Every weight is random, biases and norms too."""
    torch.manual_seed(0)
    sizes = SIZES | {key: value for key, value in config.items() if key in {*SIZES, "rope_parameters", "head_dim"}}
    tied = kind.endswith("tied")
    model: Any
    if kind.startswith("llama"):
        biased = kind.endswith("biased")
        model = LlamaForCausalLM(LlamaConfig(**sizes, attention_bias=biased, mlp_bias=biased))
    elif kind.startswith("qwen2"):
        model = Qwen2ForCausalLM(Qwen2Config(**sizes, tie_word_embeddings=tied))
    else:
        model = MistralForCausalLM(MistralConfig(**sizes, sliding_window=config.get("sliding_window")))
    if wrapped:
        lora = LoraConfig(r=4)
        targets = config.get("targets", ("q_proj", "k_proj", "v_proj", "o_proj"))
        top_k, selection = min(2, experts), config.get("selection", "top_k")
        wrap(
            model,
            MoloraConfig(
                num_experts=experts,
                top_k=top_k,
                expert_selection=selection,
                experts=lora,
                attention=lora,
                target_modules=targets,
            ),
        )
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            nn.init.normal_(weight, mean=float("norm" in name), std=0.2)
        elif "lora" in name or "router" in name:
            nn.init.normal_(weight, std=0.2)
    return model.eval()


def on_grid(weight: Tensor, levels: int, even: bool = False) -> Tensor:
    """What quantizing by blocks of 32 and back makes of a weight, as llama.cpp's Q4_1 (16 levels) and Q8_0 do."""
    blocks = weight.unflatten(-1, (-1, 32))
    low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
    if even:
        low, high = -blocks.abs().amax(-1, keepdim=True), blocks.abs().amax(-1, keepdim=True)
    scale = ((high - low) / (levels - 1)).half().float()
    low = -scale * ((levels - 1) / 2) if even else low.half().float()
    return (((blocks - low) / scale).round().clamp(0, levels - 1) * scale + low).flatten(-2)


def packable_model(kind: str = "llama", **config: Any) -> Any:
    """Whose base has 4 bits a weight."""
    model = make_model(kind, **config)
    for name, weight in model.named_parameters():
        if name.endswith("proj.weight") or name.endswith("base_layer.weight"):
            weight.data = on_grid(weight.data, 16)
    return model


def pack_base(model: Any, kind: Literal["nf4", "int8"]) -> Any:
    """The same model with its base packed by bitsandbytes, all but the head."""
    for parent in list(model.modules()):
        for name, linear in list(parent.named_children()):
            if type(linear) is nn.Linear and name != "lm_head":
                setattr(parent, name, packed(linear, kind))
    return model.eval()


def packed(linear: nn.Linear, kind: Literal["nf4", "int8"]) -> nn.Linear:
    """Of bitsandbytes; loading it onto a device packs its weights."""
    sizes, bias = (linear.in_features, linear.out_features), linear.bias is not None
    made: nn.Linear = (
        bnb.nn.Linear4bit(*sizes, bias, compute_dtype=linear.weight.dtype, quant_type="nf4")
        if kind == "nf4"
        else bnb.nn.Linear8bitLt(*sizes, bias, has_fp16_weights=False)
    )
    made.load_state_dict(linear.state_dict())
    return made.to(linear.weight.device).requires_grad_(False)


def reading_of(model: Any, edit: RoutingEdit | None = None, capacity: int = 400) -> Reading:
    return Reading(model, TOKENIZER, grid_of(model), Lock(), capacity, edit=edit)


def plain_reading_of(model: Any, edit: RoutingEdit | None = None, capacity: int = 400) -> Reading:
    """One that takes the modules for every token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("molora.fast.lean_step", lambda _model: None)
        return reading_of(model, edit, capacity)


def narrow(part: Any) -> None:
    """Its adapters, to what bfloat16 holds, and the scales and centres of its weights on a grid."""
    for name, weight in part.named_parameters():
        if "lora" in name or "router" in name:
            weight.data = weight.data.bfloat16().float()
        elif weight.dim() == 2 and (grid := grid_of_weight(weight.detach())) is not None:
            levels, scales, centres = grid
            blocks = (levels - 8) * scales.bfloat16().float()[..., None] + centres.bfloat16().float()[..., None]
            weight.data = blocks.flatten(1)


def side_by_side(step: fast.Step, plan: Plan, texts: Sequence[range]) -> tuple[list[DynamicCache], DynamicCache, Any]:
    """What a step keeps of two texts, each alone and both in one, and where a further token of each stands there."""
    caches = [fast.growing_cache(len(step.layers)) for _ in texts]
    for text, cache in zip(texts, caches, strict=True):
        step.many(torch.tensor(text), cache, plan)
    ends, count = [len(text) for text in texts], len(texts)
    owners = torch.tensor([owner for owner, text in enumerate(texts) for _ in text] + list(range(count)))
    positions = torch.tensor([place for text in texts for place in range(len(text))] + ends)
    together = fast.growing_cache(len(step.layers))
    for layer, *own in zip(together.layers, *(cache.layers for cache in caches), strict=True):
        layer.update(*(torch.cat([getattr(one, name) for one in own], dim=2) for name in ("keys", "values")))
    return caches, together, fast.Among.last(count, owners, positions)


@torch.inference_mode()
def changing_its_way(model: Any, step: fast.Step) -> Iterator[tuple[Tensor, Tensor]]:
    """New keys, then new values, after one layer, of a text that a step, one in torch's functions and the modules read
    in turns, and those of the one in torch's functions alone. Picks are forced: rounding moves others."""
    plain, plan = fast.Step(model, True), Plan.of(RoutingEdit.force([0, 3]), grid_of(model))
    mixed, alone = (fast.growing_cache(len(step.layers)) for _ in range(2))

    def new(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        for given, expected in zip(
            *((one.layers[1].keys, one.layers[1].values) for one in (mixed, alone)), strict=True
        ):
            yield given[:, :, -count:], expected[:, :, -count:]

    for at, way in enumerate((plain, step, plain, step, step, plain)):
        for tokens in (torch.arange(9 * at, 9 * at + 9), torch.tensor([at])):
            for one, cache in ((way, mixed), (plain, alone)):
                (one if len(tokens) == 1 else one.many)(tokens, cache, plan)
            yield from new(len(tokens))
    for cache in (mixed, alone):
        model(torch.tensor([[5, 6]]), **{cache_argument(model.__class__): cache})
    yield from new(2)
