"""MoLoRA on the decoders of the field: where it lands, and what is refused before anything changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from molora.config import LoraConfig, MoloraConfig
from molora.errors import MoloraError
from molora.layers import MoloraLinear
from molora.wrap import wrap, wrapped_linears

SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
FAMILIES = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=8)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SMALL)),
}
CONFIG = MoloraConfig(num_experts=4, top_k=2, experts=LoraConfig(4), attention=LoraConfig(2))
ATTENTION = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
FFN = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def llama() -> nn.Module:
    return FAMILIES["llama"]().eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(torch.arange(8)[None]).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_wraps_every_linear_of_every_layer_in_place(family: str) -> None:
    model = FAMILIES[family]().eval()
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    before = logits(model)
    assert wrap(model, CONFIG) is model

    found = wrapped_linears(model)
    assert list(found) == [f"layers.{layer}.{name}" for layer in (0, 1) for name in (*ATTENTION, *FFN)]
    for name, linear in found.items():
        assert model.get_submodule(f"model.{name}") is linear
        assert linear.base_layer is linears[f"model.{name}"]
        mixture = name.endswith(("gate_proj", "up_proj", "down_proj"))
        assert (linear.num_experts, linear.r, linear.router is not None) == ((4, 4, True) if mixture else (1, 2, False))
        if linear.router is not None:
            assert (linear.router.num_experts, linear.router.top_k, linear.router.selection) == (4, 2, "top_k")
    assert torch.equal(logits(model), before), "an untrained adapter changes nothing"
    for linear in found.values():
        nn.init.normal_(linear.lora_B)
    assert not torch.allclose(logits(model), before)


def test_only_the_adapter_is_trained() -> None:
    model = wrap(llama(), CONFIG)
    trained = {name.rpartition(".")[2] for name, value in model.named_parameters() if value.requires_grad}
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert trained == {"lora_A", "lora_B", "weight", "bias"}
    assert all("lora_" not in name and "router" not in name for name in frozen)
    assert {"model.embed_tokens.weight", "model.norm.weight", "model.layers.0.mlp.up_proj.base_layer.weight"} <= frozen


def test_settings_reach_the_layers() -> None:
    config = MoloraConfig(
        num_experts=3,
        top_k=1,
        expert_selection="sampling",
        experts=LoraConfig(4, 8.0, True, 0.25),
        attention=LoraConfig(2, 8.0),
        target_modules=("v_proj",),
    )
    found = wrapped_linears(wrap(llama(), config))
    assert {name.rpartition(".")[2] for name in found} == {"v_proj", "gate_proj", "up_proj", "down_proj"}
    up = found["layers.1.mlp.up_proj"]
    assert up.router is not None
    assert (up.router.selection, up.router.top_k) == ("sampling", 1)
    assert (up.scaling, found["layers.1.self_attn.v_proj"].scaling) == (4.0, 4.0)
    assert isinstance(up.dropout, nn.Dropout)
    assert up.dropout.p == 0.25
    assert isinstance(found["layers.1.self_attn.v_proj"].dropout, nn.Identity)


@pytest.mark.parametrize("num_experts", [0, 1])
def test_one_expert_is_plain_lora_where_the_list_says(num_experts: int) -> None:
    config = MoloraConfig(
        num_experts=num_experts, experts=LoraConfig(7), attention=LoraConfig(3), target_modules=("q_proj", "up_proj")
    )
    found = wrapped_linears(wrap(llama(), config))
    assert list(found)[:2] == ["layers.0.self_attn.q_proj", "layers.0.mlp.up_proj"]
    assert len(found) == 4
    assert all(linear.router is None and linear.r == 3 for linear in found.values())


def test_adapter_has_its_own_dtype_and_the_linears_device() -> None:
    model = llama()
    model.get_submodule("model.layers.1").to("meta")
    wrap(model, CONFIG, dtype=torch.bfloat16)
    for name, linear in wrapped_linears(model).items():
        device = "meta" if name.startswith("layers.1.") else "cpu"
        assert linear.lora_A.dtype == linear.lora_B.dtype == torch.bfloat16
        assert {value.device.type for value in linear.parameters()} == {device}
        if linear.router is not None:
            assert linear.router.weight.dtype == torch.float32


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2))


def fused() -> nn.Module:
    """Projections joined into one linear."""
    return Phi3ForCausalLM(Phi3Config(**SMALL))


def one_layer_short() -> nn.Module:
    """The last layer alone lacks a linear: the layers before it must stay as they are."""
    model = llama()
    del model.get_submodule("model.layers.1.mlp").down_proj
    return model


MEND = (
    "MoLoRA needs a gated MLP with gate_proj, up_proj, down_proj and the attention linears q_proj, k_proj, v_proj, "
    "o_proj. Choose a base of the Qwen2, Qwen3, Llama or Mistral kind."
)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (gpt2, "GPT2LMHeadModel has no decoder layers named 'layers.N'; it cannot carry MoLoRA."),
        (fused, f"Phi3ForCausalLM has no q_proj in model.layers.0; {MEND}"),
        (one_layer_short, f"LlamaForCausalLM has no down_proj in model.layers.1; {MEND}"),
        (
            lambda: wrap(llama(), CONFIG),
            "model.layers.0.self_attn.q_proj is wrapped already; load the base model anew.",
        ),
    ],
)
def test_refusals_change_nothing(make: Any, words: str) -> None:
    model = make()
    before = [(name, type(module)) for name, module in model.named_modules()]
    trained = [value.requires_grad for value in model.parameters()]
    with pytest.raises(MoloraError) as refused:
        wrap(model, CONFIG)
    assert str(refused.value) == words
    assert [(name, type(module)) for name, module in model.named_modules()] == before
    assert [value.requires_grad for value in model.parameters()] == trained


def test_nothing_is_found_in_a_bare_model() -> None:
    assert wrapped_linears(llama()) == {}


def test_names_are_the_same_under_any_prefix() -> None:
    outer = nn.ModuleDict({"base_model": wrap(llama(), CONFIG)})
    assert list(wrapped_linears(outer)) == list(wrapped_linears(outer["base_model"]))
    assert isinstance(wrapped_linears(outer)["layers.0.mlp.up_proj"], MoloraLinear)


def test_a_base_that_is_a_mixture_itself_is_refused() -> None:
    model = FAMILIES["qwen2"]()
    model.model.layers[0].mlp.shared_expert = nn.ModuleDict({"up_proj": nn.Linear(32, 48)})
    with pytest.raises(MoloraError, match=r"layers\.0 has more than one up_proj: the base is a mixture of experts"):
        wrap(model, MoloraConfig())
    assert not any(isinstance(module, MoloraLinear) for module in model.modules())
