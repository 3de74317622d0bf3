"""A whole model with routers of its own, or an X-LoRA on a base, -> Engine. No code and no pickle of theirs is run."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Mxfp4Config

from molora.checkpoint import sha256_of
from molora.errors import MoloraError
from molora.hub import folder_of
from molora.info import engine_info
from molora.loading import Quantize, load_base, resolve_device, resolve_quantize, skeleton
from molora.native import native_grid, num_shared_experts

if TYPE_CHECKING:
    from molora.engine import Engine


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a model and nothing of an adapter."""
    return (folder / "config.json").is_file() and not [
        *folder.glob("adapter_*"),
        *folder.glob("non_lora_trainables.*"),
    ]


def is_xlora(folder: Path) -> bool:
    try:
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # said better by the reader of MoLoRA's files
    return isinstance(settings, dict) and settings.get("peft_type") == "XLORA"


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


def load_xlora(model: str, base: str | None, quantize: Quantize, device: str) -> Engine:
    """An X-LoRA as peft saves it: the classifier, and its adapters in folders of their own, all as safetensors.

    Raises MoloraError if peft is not installed, a file is missing, or the parts do not fit together.
    """
    from molora.engine import Engine

    try:
        from peft import PeftModel
    except ImportError as error:
        raise MoloraError("X-LoRA needs the package peft: pip install 'peft>=0.17,<1'.") from error
    folder = folder_of(model, ("*.json", "*.safetensors"))
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    base = base or str(settings.get("base_model_name_or_path") or "")
    adapters = {name: folder / name for name in map(str, range(len(settings.get("adapters") or {})))}
    parts = [folder, *adapters.values()]
    for part in parts:
        if not (part / "adapter_model.safetensors").is_file():
            raise MoloraError(
                f"{part} holds no adapter_model.safetensors, which this X-LoRA needs. Save it anew with peft's "
                "save_pretrained, or download all of it."
            )
    device = resolve_device(device)
    network, tokenizer = load_base(base, quantize, device)
    network.config.use_cache = False  # X-LoRA insists
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            paths = {name: str(path) for name, path in adapters.items()}
            tuned: Any = PeftModel.from_pretrained(network, str(folder), adapters=paths, torch_device=device)
    except (OSError, ValueError, RuntimeError, KeyError, UserWarning) as error:
        raise MoloraError(f"The X-LoRA {model} does not fit the base {base}: {error}") from error
    tuned.eval()
    grid = native_grid(tuned)
    if grid is None:
        raise MoloraError(f"{model} has no X-LoRA classifier. Save it anew with peft's save_pretrained.")
    info = engine_info(
        tuned,
        model=model,
        base=base,
        adapter_sha256=sha256_of([part / "adapter_model.safetensors" for part in parts]),
        quantization=resolve_quantize(quantize, device),
        device=device,
        grid=grid,
    )
    return Engine(tuned, tokenizer, info)


def _published_in(config: Any) -> str:
    """The quantization that a model is published in, such as "mxfp4" or "fp8"; "" for none."""
    own = getattr(config, "quantization_config", None)
    if own is None:
        return ""
    method = own.get("quant_method") if isinstance(own, dict) else getattr(own, "quant_method", None)
    return str(getattr(method, "value", method))
