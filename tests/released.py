"""Makes small models in the released MING-MOE layout: a Qwen2 of a few layers with a byte-level tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from molora.chat import CHATML
from molora.config import ATTENTION_PROJECTIONS, EXPERT_PROJECTIONS

LAYERS, HIDDEN, FFN, KEY_VALUE = 3, 64, 128, 32
"""Sizes in multiples of 64, the block of NF4."""

_CORPUS = [
    "What are the symptoms of asthma? A cough, a tight chest, short breath.",
    "How is diabetes treated? With insulin, diet and exercise.",
    "哮喘有哪些症状？咳嗽、胸闷、气短。",
    "糖尿病如何治疗？胰岛素、饮食和运动。",
] * 4


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE that has seen few characters, so that rare ones and emoji fall apart into bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
    )


def make_base(folder: Path, **sizes: int) -> Path:
    """A random Qwen2 chat model as the hub would hold it."""
    tokenizer = make_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=sizes.get("hidden_size", HIDDEN),
        intermediate_size=sizes.get("intermediate_size", FFN),
        num_hidden_layers=sizes.get("num_hidden_layers", LAYERS),
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(1)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tensors(prefix: str, experts: int, r: int, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(adapter_model, non_lora_trainables) with random values, under the released names."""
    generator = torch.Generator().manual_seed(2)

    def random(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) * 0.2).to(dtype)

    attention, mixture = {}, {}
    for layer in range(LAYERS):
        at = f"base_model.model.model.layers.{layer}.self_attn"
        for name in ATTENTION_PROJECTIONS:
            out = KEY_VALUE if name in ("k_proj", "v_proj") else HIDDEN
            attention[f"{at}.{name}.lora_A.weight"] = random(r, HIDDEN)
            attention[f"{at}.{name}.lora_B.weight"] = random(out, r)
        for name in EXPERT_PROJECTIONS:
            inner, out = (FFN, HIDDEN) if name == "down_proj" else (HIDDEN, FFN)
            at = f"{prefix}layers.{layer}.mlp.{name}"
            mixture[f"{at}.switch.weight"] = random(experts, inner)
            mixture[f"{at}.switch.bias"] = random(experts)
            for e in range(experts):
                mixture[f"{at}.experts.{e}.lora_A_{e}.weight"] = random(r, inner)
                mixture[f"{at}.experts.{e}.lora_B_{e}.weight"] = random(out, r)
    return attention, mixture


def make_checkpoint(
    folder: Path,
    base: Path | str,
    *,
    prefix: str = "base_model.model.model.",
    suffix: Literal["bin", "safetensors"] = "bin",
    experts: int = 8,
    top_k: int = 2,
    r: int = 4,
    dtype: torch.dtype = torch.bfloat16,
    config: dict[str, Any] | None = None,
    adapter_config: dict[str, Any] | None = None,
) -> Path:
    """A checkpoint folder as released; `config` and `adapter_config` override single entries."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = zip(("adapter_model", "non_lora_trainables"), make_tensors(prefix, experts, r, dtype), strict=True)
    for part, tensors in parts:
        if suffix == "bin":
            torch.save(tensors, folder / f"{part}.bin")
        else:
            save_file(tensors, folder / f"{part}.safetensors")
    base_config = json.loads((Path(base) / "config.json").read_text()) if Path(base).is_dir() else {}
    mixture = {"num_experts": experts, "num_experts_per_token": top_k, "expert_selection": "top_k"}
    peft = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": r,
        "lora_alpha": 2 * r,
        "lora_dropout": 0.05,
        "bias": "none",
        "target_modules": [*ATTENTION_PROJECTIONS],
    }
    (folder / "config.json").write_text(json.dumps(base_config | mixture | (config or {})))
    (folder / "adapter_config.json").write_text(json.dumps(peft | (adapter_config or {})))
    return folder
