"""A whole model with routers of its own -> Engine. None of its code and no pickle is run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Mxfp4Config

from molora.base import Quantize, load_base, resolve_device, resolve_quantize, skeleton
from molora.errors import MoloraError
from molora.info import engine_info
from molora.native import native_grid, num_shared_experts

if TYPE_CHECKING:
    from molora.engine import Engine


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a model and nothing of an adapter."""
    return (folder / "config.json").is_file() and not [
        *folder.glob("adapter_*"),
        *folder.glob("non_lora_trainables.*"),
    ]


def load_whole(model: str, base: str | None, quantize: Quantize, device: str) -> Engine:
    """Raises MoloraError, before weights are read, if the model has no router."""
    from molora.engine import Engine

    if base is not None:
        raise MoloraError(f"{model} is a whole model and needs no base. Leave --base out.")
    device = resolve_device(device)
    plan = skeleton(model)
    grid = native_grid(plan)
    if grid is None:
        raise MoloraError(
            f"{model} ({type(plan).__name__}) has no router and is no MoLoRA checkpoint: there is no routing to show. "
            "Give a checkpoint with adapter_config.json and non_lora_trainables, or a mixture of experts such as "
            "OLMoE, Mixtral, Qwen-MoE, DeepSeek or gpt-oss."
        )
    method = _published_in(plan.config)
    if method and quantize in ("4bit", "8bit"):
        raise MoloraError(f"{model} is published in {method} already. Leave --quantize at auto or none.")
    # fused MXFP4 kernels route past the router's module, where nothing can be recorded
    own = Mxfp4Config(dequantize=True) if method == "mxfp4" else None
    network, tokenizer = load_base(model, "none" if method else quantize, device, own)
    network.eval()
    info = engine_info(
        network,
        model=model,
        base=model,
        adapter_sha256="",
        quantization=resolve_quantize(quantize, device) if not method else "none" if own else method,
        device=device,
        grid=native_grid(network) or grid,
        num_shared_experts=num_shared_experts(network),
    )
    return Engine(network, tokenizer, info)


def _published_in(config: Any) -> str:
    """The quantization that a model is published in, such as "mxfp4" or "fp8"; "" for none."""
    own = getattr(config, "quantization_config", None)
    if own is None:
        return ""
    method = own.get("quant_method") if isinstance(own, dict) else getattr(own, "quant_method", None)
    return str(getattr(method, "value", method))
