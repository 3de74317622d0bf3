"""A folder with peft's X-LoRA and its base -> Engine. Only safetensors are read, strictly.

| below the folder | content |
| --- | --- |
| `adapter_config.json` | `peft_type` XLORA, the classifier's settings, `adapters` (only their number counts) |
| `adapter_model.safetensors` | the classifier: `...internal_xlora_classifier.layers.0.weight` and so on |
| `0`, `1`, ... | one LoRA each, as peft saves it |

peft 0.21 writes these files incompletely (it takes numbers of layers for names of adapters); those are refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from molora.base import Quantize, load_base, resolve_device, resolve_quantize
from molora.checkpoint_files import sha256_of
from molora.errors import MoloraError
from molora.hub import folder_of
from molora.info import engine_info
from molora.native import native_grid

if TYPE_CHECKING:
    from molora.engine import Engine

_WEIGHTS = "adapter_model.safetensors"
_CLASSIFIER = "internal_xlora_classifier."


def is_xlora(folder: Path) -> bool:
    try:
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # said better by the reader of MoLoRA's files
    return isinstance(settings, dict) and settings.get("peft_type") == "XLORA"


def load_xlora(model: str, base: str | None, quantize: Quantize, device: str) -> Engine:
    """Raises MoloraError if peft is not installed, a file is missing or cut short, or the parts do not fit together."""
    from molora.engine import Engine

    folder = folder_of(model, ("*.json", "*.safetensors"))
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    base = base or str(settings.get("base_model_name_or_path") or "")
    adapters = settings.get("adapters")
    if not isinstance(adapters, dict) or not adapters:
        raise MoloraError(f"{folder / 'adapter_config.json'} names no adapters; an X-LoRA has two or more.")
    parts = [folder / str(number) for number in range(len(adapters))]
    for part in (folder, *parts):
        if not (part / _WEIGHTS).is_file():
            raise MoloraError(f"{part} holds no {_WEIGHTS}, which this X-LoRA needs. Get all of it.")
    device = resolve_device(device)
    network, tokenizer = load_base(base, quantize, device)
    network.config.use_cache = False  # X-LoRA insists
    tuned = _tuned(network, folder, parts, device)
    grid = native_grid(tuned)
    if grid is None:
        raise MoloraError(f"{model} adapts no linear of {base}. Check target_modules of its adapters.")
    info = engine_info(
        tuned,
        model=model,
        base=base,
        adapter_sha256=sha256_of([part / _WEIGHTS for part in (folder, *parts)]),
        quantization=resolve_quantize(quantize, device),
        device=device,
        grid=grid,
    )
    return Engine(tuned, tokenizer, info)


def _tuned(network: Any, folder: Path, parts: list[Path], device: str) -> Any:
    try:
        from peft import XLoraConfig, get_peft_model
    except ImportError as error:
        raise MoloraError("X-LoRA needs the package peft: pip install 'peft>=0.17,<1'.") from error
    try:
        config = XLoraConfig.from_pretrained(str(folder))
        config.adapters = {part.name: str(part) for part in parts}
        model = get_peft_model(network, config).eval()
        for part in parts:
            _check_adapter(part, model)
        tensors = {
            name.partition(_CLASSIFIER)[2]: tensor
            for name, tensor in load_file(folder / _WEIGHTS, device=device).items()
            if _CLASSIFIER in name
        }
        model.base_model.internal_xlora_classifier.load_state_dict(tensors, strict=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise MoloraError(f"The X-LoRA in {folder} is incomplete or does not fit its base: {error}") from error
    return model


def _check_adapter(part: Path, model: Any) -> None:
    """peft passes over tensors that an adapter lacks."""
    with safe_open(part / _WEIGHTS, framework="pt") as file:
        found = sum(".lora_A." in name or ".lora_B." in name for name in file.keys())  # noqa: SIM118
    marks = (f".lora_A.{part.name}.", f".lora_B.{part.name}.")
    wanted = sum(any(mark in name for mark in marks) for name in model.state_dict())
    if found != wanted:
        raise MoloraError(
            f"{part / _WEIGHTS} holds {found} LoRA tensors; the base and its adapter_config.json call for {wanted}. "
            "peft 0.21 saves X-LoRA incompletely: put the LoRA that it was made from there."
        )
