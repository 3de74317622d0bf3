"""Base model + quantization + checkpoint -> Engine. Everything is checked before the first large file is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from molora import fast
from molora.checkpoint import FILES, Checkpoint, check_fit, fill, read_checkpoint
from molora.demo import demo_base
from molora.errors import MoloraError
from molora.grid import RouterGrid
from molora.hub import BASE_FILES, folder_of, is_hub_id
from molora.info import engine_info, float_dtype
from molora.wrap import wrap

if TYPE_CHECKING:
    from transformers.utils.quantization_config import QuantizationConfigMixin

    from molora.engine import Engine

Quantize = Literal["auto", "none", "8bit", "4bit"]
QUANTIZE: tuple[Quantize, ...] = ("auto", "none", "8bit", "4bit")

DEMO = "demo"
"""Names both the shipped adapter and the base that it was trained on."""

MING_MOE = "BlueZeros/MING-MOE-7B"
_MING_MOE_BASE = "Qwen/Qwen1.5-7B-Chat"
_MING_MOE_BYTES = 9 * 2**30
"""4-bit weights 3.4 GiB, bf16 embeddings and head 2.4, adapter 0.4, cache and workspace: room for 4,096 tokens."""

DEMO_ADAPTER = Path(__file__).parent.parent / "assets" / "demo"
"""The shipped checkpoint."""


OWN_BASE = "base"
"""How a checkpoint names a base that lies in its own folder, below this name; see `molora.quantize`."""


class Choice(NamedTuple):
    """What `--model auto` settles on."""

    model: str
    reason: str


def choose_model(ask_hub: bool = True) -> Choice:
    """MING-MOE-7B where a CUDA GPU has room for it and its weights are here or can be fetched; else the demo model.

    `ask_hub`: whether to find out if they can be fetched; without it the choice says that it hangs on that.
    """
    if not torch.cuda.is_available():
        return Choice(DEMO, "no CUDA GPU here, so the small demo model answers")
    free, _ = torch.cuda.mem_get_info()
    if free < _MING_MOE_BYTES:
        return Choice(
            DEMO,
            f"MING-MOE-7B in 4 bits needs {_MING_MOE_BYTES / 2**30:.0f} GiB and the GPU has {free / 2**30:.1f} free, "
            "so the small demo model answers",
        )
    if _on_disk():
        return Choice(MING_MOE, f"the GPU has {free / 2**30:.0f} GiB free and the weights are on this disk")
    if not ask_hub:
        return Choice(MING_MOE, f"the GPU has {free / 2**30:.0f} GiB free; the demo if the hub does not answer")
    try:
        folder_of(MING_MOE, ("adapter_config.json",))
    except MoloraError as error:
        return Choice(DEMO, f"the GPU has room for {MING_MOE}, but its weights are out of reach: {error}")
    return Choice(MING_MOE, f"the GPU has {free / 2**30:.0f} GiB free and the hub answers")


def _on_disk() -> bool:
    try:
        folder_of(MING_MOE, FILES, local_files_only=True)
        folder_of(_MING_MOE_BASE, BASE_FILES, local_files_only=True)
    except MoloraError:
        return False
    return True


def load(model: str = DEMO, base: str | None = None, quantize: Quantize = "auto", device: str = "auto") -> Engine:
    """An engine that answers with `model` and records its routers.

    Args:
        model: hub id, folder in the released layout, or "demo"; or a mixture of experts that is a model of its own, or
            an X-LoRA of peft.
        base: hub id or folder of the base; None takes the one that the checkpoint names.
        quantize: "auto" is NF4 with double quantization and bf16 compute on CUDA, none on a CPU, where a base whose
            weights are 4-bit already is read in 4 bits, token by token, and prompts in bfloat16 if the CPU multiplies
            it; "none" is full precision throughout.
        device: "auto" spreads over all CUDA GPUs, or takes the CPU where there is none; else "cpu", "cuda:1", ...

    Raises:
        MoloraError: for whatever does not exist, does not fit together, or is damaged. Nothing is half-loaded.
    """
    from molora.engine import Engine
    from molora.native.loading import is_whole, load_whole
    from molora.native.xlora_loading import is_xlora, load_xlora

    wanted = (*FILES, *(f"{OWN_BASE}/{name}" for name in BASE_FILES))
    folder = DEMO_ADAPTER if model == DEMO else folder_of(model, wanted)
    if is_whole(folder):
        return load_whole(model, base, quantize, device)
    if is_xlora(folder):
        return load_xlora(model, base, quantize, device)
    checkpoint = read_checkpoint(folder)
    base = base or base_of(checkpoint)
    device = resolve_device(device)
    check_base(checkpoint, base)
    network, tokenizer = load_base(base, quantize, device)
    wrap(network, checkpoint.config, float_dtype(network))
    fill(checkpoint, network)
    network.eval()
    info = engine_info(
        network,
        model=model,
        base=base,
        adapter_sha256=checkpoint.sha256,
        quantization=packed_as(base) or resolve_quantize(quantize, device),
        device=device,
        grid=RouterGrid.of(network),
        is_demo=model == DEMO,
    )
    return Engine(network, tokenizer, info)


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
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MoloraError(f"There is no device {device!r} here. Try --device cpu.") from error
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
            bnb_4bitcompute_dtype=compute,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if quantize == "8bit" else None


def _base_folder(base: str, files: tuple[str, ...]) -> Path:
    return demo_base() if base == DEMO else folder_of(base, files)


def base_of(checkpoint: Checkpoint) -> str:
    """The base that the checkpoint names. Released ones may name a folder of their author's machine."""
    name = checkpoint.config.base
    if name == OWN_BASE and (checkpoint.folder / OWN_BASE).is_dir():
        return str(checkpoint.folder / OWN_BASE)
    if name == DEMO or is_hub_id(name) or (Path(name).is_dir() and name):
        return name
    if match := re.search(r"(Qwen1\.5-[\d.]+B(?:-Chat)?)/?$", name):
        return f"Qwen/{match[1]}"
    raise MoloraError(
        f"The checkpoint in {checkpoint.folder} names its base {name!r}, which is no folder here and no hub id. "
        "Say which base it was trained on with --base."
    )


def check_base(checkpoint: Checkpoint, base: str) -> None:
    """Raises MoloraError if the base is of another kind or size, knowing only its config.json."""
    config = _config_of(base)
    for key in ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers"):
        expected, found = checkpoint.base_config.get(key), getattr(config, key, None)
        if expected is not None and expected != found:
            raise MoloraError(
                f"The checkpoint in {checkpoint.folder} was trained on a base with {key} {expected}; {base} has "
                f"{found}. Give the right one with --base (the checkpoint names {checkpoint.config.base!r})."
            )
    check_fit(checkpoint, wrap(_without_weights(config), checkpoint.config))


def packed_as(base: str) -> Literal["4bit", "8bit"] | None:
    """How bitsandbytes packed a base before it was saved; None: it was not. It is never packed twice."""
    settings = getattr(_config_of(base), "quantization_config", None) or {}
    if settings.get("quant_method") != "bitsandbytes":
        return None
    return "4bit" if settings.get("load_in_4bit") else "8bit"


def _packed_config(base: str, dtype: torch.dtype) -> Any:
    """Of a base packed elsewhere, to be computed in what this device is good at."""
    config = _config_of(base)
    if config.quantization_config.get("load_in_4bit"):
        config.quantization_config["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
    return config


def skeleton(base: str) -> Any:
    """The base without its weights, on the meta device. Raises MoloraError if its config cannot be read."""
    return _without_weights(_config_of(base))


def _config_of(base: str) -> Any:
    try:
        return AutoConfig.from_pretrained(_base_folder(base, ("config.json",)), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise MoloraError(f"The base model {base} cannot be read: {error}") from error


def _without_weights(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)
