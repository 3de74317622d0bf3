"""A MING-MOE of random weights, made on the device layer by layer: speed does not hang on what the weights say."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForCausalLM

from molora.base import compute_dtype
from molora.bench.systems import share
from molora.byte_tokenizer import byte_tokenizer
from molora.engine import Engine
from molora.info import engine_info, float_dtype
from molora.routers import grid_of
from molora.shapes import Shape
from molora.wrap import wrap, wrapped_linears

_WIDTH = 0.02


def made_base(shape: Shape, quantize: str, device: str, seed: int = 0) -> Any:
    """The base in the precision that `quantize` names; no more than one layer of it is ever unpacked."""
    dtype = compute_dtype(device)
    config = AutoConfig.for_model(**shape.base_config)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    generator = torch.Generator(device).manual_seed(seed)
    for name, module in tqdm(list(model.named_modules()), desc="Making the base", leave=False, delay=1):
        if isinstance(module, nn.Linear) and name != "lm_head":
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, _linear(module, quantize, device, dtype, generator))
        elif module._parameters:
            for key, empty in module._parameters.items():
                if empty is not None and empty.is_meta:
                    filled = torch.ones if "norm" in name else torch.empty
                    weight = filled(empty.shape, dtype=dtype, device=device)
                    module._parameters[key] = nn.Parameter(
                        weight if "norm" in name else weight.normal_(0, _WIDTH, generator=generator), False
                    )
    with torch.device(device):  # its buffers are computed, not loaded
        model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval()


def made_engine(shape: Shape, base: Any, quantize: str, device: str, name: str, seed: int = 0) -> Engine:
    """MoLoRA over the base's own weights, which are shared; the base itself stays bare."""
    model = wrap(share(base), shape.config, float_dtype(base))
    generator = torch.Generator(device).manual_seed(seed + 1)
    for linear in wrapped_linears(model).values():
        linear.lora_B.data.normal_(0, _WIDTH, generator=generator)
    info = engine_info(
        model,
        model=name,
        base=shape.base,
        adapter_sha256="",
        quantization=quantize,
        device=device,
        grid=grid_of(model),
    )
    return Engine(model.eval(), byte_tokenizer(shape.vocabulary), info)


def _linear(empty: nn.Linear, quantize: str, device: str, dtype: torch.dtype, generator: torch.Generator) -> nn.Linear:
    from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

    size, bias = (empty.in_features, empty.out_features), empty.bias is not None
    weight = torch.empty(empty.weight.shape, dtype=dtype, device=device).normal_(0, _WIDTH, generator=generator)
    made: nn.Linear
    if quantize == "4bit":
        made = Linear4bit(*size, bias=False, compute_dtype=dtype, device="meta")
        packed = Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True, module=made)
        made.weight = packed.to(device)
    elif quantize == "8bit":
        made = Linear8bitLt(*size, bias=False, has_fp16_weights=False, device="meta")
        made.weight = Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False).to(device)
    else:
        made = nn.Linear(*size, bias=False, device="meta")
        made.weight = nn.Parameter(weight, False)
    if bias:
        made.bias = nn.Parameter(torch.zeros(size[1], dtype=dtype, device=device), False)
    return made
