"""Base model + quantization + checkpoint -> Engine. Everything is checked before the first large file is read."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, NamedTuple

import torch

from molora.base import Quantize, config_of, load_base, packed_as, resolve_device, resolve_quantize, skeleton
from molora.checkpoint import Checkpoint, check_fit, fill, read_checkpoint
from molora.checkpoint_files import FILES, OWN_BASE, base_of
from molora.demo import DEMO, DEMO_ADAPTER
from molora.errors import MoloraError
from molora.fast import set_up  # with it come the models' classes, ahead of the first load
from molora.hub import BASE_FILES, folder_of
from molora.info import engine_info, float_dtype
from molora.routers import grid_of
from molora.wrap import wrap

if TYPE_CHECKING:
    from molora.engine import Engine

MING_MOE = "BlueZeros/MING-MOE-7B"
_MING_MOE_BASE = "Qwen/Qwen1.5-7B-Chat"
_MING_MOE_BYTES = 9 * 2**30
"""4-bit weights 3.4 GiB, bf16 embeddings and head 2.4, adapter 0.4, cache and workspace: room for 4,096 tokens."""


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
    base = base or base_of(checkpoint.folder, checkpoint.config)
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
        grid=grid_of(network),
        is_demo=model == DEMO,
    )
    engine = Engine(network, tokenizer, info)
    if info.decodes_in_4bit:
        set_up(network)
    if gc.isenabled():
        gc.collect()  # to look through all that imports made takes long: better here than in the first answer
    return engine


def check_base(checkpoint: Checkpoint, base: str) -> None:
    """Raises MoloraError if the base is of another kind or size, knowing only its config.json."""
    config = config_of(base)
    for key in ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers"):
        expected, found = checkpoint.base_config.get(key), getattr(config, key, None)
        if expected is not None and expected != found:
            raise MoloraError(
                f"The checkpoint in {checkpoint.folder} was trained on a base with {key} {expected}; {base} has "
                f"{found}. Give the right one with --base (the checkpoint names {checkpoint.config.base!r})."
            )
    check_fit(checkpoint, wrap(skeleton(base), checkpoint.config))
