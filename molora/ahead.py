"""What a checkpoint on this disk says of its engine before it is loaded, in milliseconds and without torch."""

from __future__ import annotations

from pathlib import Path

from molora.checkpoint_files import PARTS, base_of, read_settings, sha256_of, weight_file
from molora.demo import DEMO, DEMO_ADAPTER
from molora.errors import MoloraError
from molora.info import EngineInfo, reads_chinese


def info_ahead(model: str, base: str | None = None) -> EngineInfo | None:
    """The engine's info as it will be, but for how it computes, which hangs on the machine: those parts are empty.

    None where only loading tells, be it what the routers are or what is wrong: the model is not on this disk, or it is
    no MoLoRA checkpoint with routers, or its settings are incomplete. No tensor is looked at.
    """
    folder = DEMO_ADAPTER if model == DEMO else Path(model).expanduser()
    try:
        config, mixture = read_settings(folder)
        base = base or base_of(folder, mixture)
        weights = [path for part in PARTS if (path := weight_file(folder, part)) is not None]
        sha256 = sha256_of(weights)
    except (MoloraError, OSError):
        return None
    layers, context_length = config.get("num_hidden_layers"), config.get("max_position_embeddings")
    if not (mixture.has_routers and isinstance(layers, int) and layers > 0 and isinstance(context_length, int)):
        return None
    return EngineInfo(
        model=model,
        base=base,
        adapter_sha256=sha256,
        quantization="",
        dtype="",
        device="",
        num_experts=mixture.num_experts,
        top_k=mixture.top_k,
        num_layers=layers,
        is_demo=model == DEMO,
        reads_chinese=reads_chinese(str(config.get("model_type"))),
        context_length=context_length,
        router_layers=tuple(range(layers)),
    )
