"""A base model: what its config says, and its weights in the precision asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from accelerate.hooks import remove_hook_from_module
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from molora import fast
from molora.demo import DEMO, demo_base
from molora.errors import MoloraError
from molora.hub import BASE_FILES, folder_of

if TYPE_CHECKING:
    from transformers.utils.quantization_config import QuantizationConfigMixin

Quantize = Literal["auto", "none", "8bit", "4bit"]
QUANTIZE: tuple[Quantize, ...] = ("auto", "none", "8bit", "4bit")


def load_base(
    base: str,
    quantize: Quantize = "none",
    device: str = "auto",
    own: QuantizationConfigMixin | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Any, Any]:
    """(model, tokenizer) of a base, quantized while it is read: full precision never lies on the GPU as a whole.

    `own`: how to read a base that is published quantized; None reads it as it is. `dtype`: of what is not packed; None:
    what the device computes in.
    """
    device = resolve_device(device)
    folder = _base_folder(base, BASE_FILES)
    dtype = dtype or compute_dtype(device)
    packed = packed_as(base)
    several = device == "cuda" and torch.cuda.device_count() > 1
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=_packed_config(base, dtype) if packed else None,
            dtype=dtype,
            device_map="auto" if several else {"": device},
            quantization_config=None if packed else own or _quantization(resolve_quantize(quantize, device), dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
    except torch.OutOfMemoryError as error:
        raise MoloraError(
            f"{base} does not fit on {device}. Try --quantize 4bit, a smaller model, or --device cpu."
        ) from error
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise MoloraError(f"The base model {base} cannot be loaded: {error}") from error
    if not several:  # accelerate may have hung hooks on it that move what is there already
        remove_hook_from_module(model, recurse=True)
    if quantize == "auto":
        fast.allow_packing(model)
    if packed:  # transformers leaves the rest of such a base in the dtype it was saved in
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
    return model, tokenizer


def resolve_device(device: str) -> str:
    """ "auto" -> "cuda" or "cpu". Raises MoloraError for a device that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        there = not torch.empty(0, device=device).is_meta  # which holds no numbers
    except (RuntimeError, AssertionError):
        there = False
    if not there:
        raise MoloraError(f"There is no device {device!r} here. Try --device cpu.")
    return device


def resolve_quantize(quantize: str, device: str) -> str:
    """ "auto" -> "4bit" on CUDA, "none" elsewhere. Raises MoloraError for an unknown name."""
    if quantize not in QUANTIZE:
        raise MoloraError(f"quantize is {quantize!r}; choose one of {', '.join(QUANTIZE)}.")
    if quantize == "auto":
        return "4bit" if device.startswith("cuda") else "none"
    return quantize


def compute_dtype(device: str) -> torch.dtype:
    """What a base is computed in, and kept in where it is not quantized."""
    if not device.startswith("cuda"):
        return torch.float32  # few CPUs have fast bf16 arithmetic
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _quantization(quantize: str, compute: torch.dtype) -> BitsAndBytesConfig | None:
    if quantize == "4bit":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if quantize == "8bit" else None


def _base_folder(base: str, files: tuple[str, ...]) -> Path:
    return demo_base() if base == DEMO else folder_of(base, files)


def packed_as(base: str) -> Literal["4bit", "8bit"] | None:
    """How bitsandbytes packed a base before it was saved; None: it was not. It is never packed twice."""
    settings = getattr(config_of(base), "quantization_config", None) or {}
    if settings.get("quant_method") != "bitsandbytes":
        return None
    return "4bit" if settings.get("load_in_4bit") else "8bit"


def _packed_config(base: str, dtype: torch.dtype) -> Any:
    """Of a base packed elsewhere, to be computed in what this device is good at."""
    config = config_of(base)
    if config.quantization_config.get("load_in_4bit"):
        config.quantization_config["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
    return config


def skeleton(base: str) -> Any:
    """The base without its weights, on the meta device. Raises MoloraError if its config cannot be read."""
    return _without_weights(config_of(base))


def config_of(base: str) -> Any:
    """Raises MoloraError if it cannot be read."""
    try:
        return AutoConfig.from_pretrained(_base_folder(base, ("config.json",)), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise MoloraError(f"The base model {base} cannot be read: {error}") from error


def _without_weights(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)
