"""What is loaded, in plain values: for people, for the page, and for `RoutingTrace.meta`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molora.config import EXPERT_PROJECTIONS

if TYPE_CHECKING:  # the page tells what it knows of a model before torch is imported
    import torch

    from molora.grid import RouterGrid


@dataclass(frozen=True)
class EngineInfo:
    """What is loaded, for people and for `RoutingTrace.meta`."""

    model: str
    base: str
    adapter_sha256: str
    quantization: str
    """"none", "8bit", "4bit" (NF4)"""
    dtype: str
    device: str
    num_experts: int
    top_k: int
    """0 for a model without routers"""
    num_layers: int
    is_demo: bool
    reads_chinese: bool
    context_length: int
    router_projections: tuple[str, ...] = EXPERT_PROJECTIONS
    """What the P axis of a trace stands for where there are routers; ("mlp",) for routers of a model's own"""
    router_layers: tuple[int, ...] | None = None
    """The layers with routers, by the model's own numbers; None: all"""
    num_shared_experts: int = 0
    """Experts of a layer that are always on; no router picks them and no trace shows them"""
    prompt_dtype: str | None = None
    """Of the products of a prompt, where it is not `dtype`"""
    decodes_in_4bit: bool = False
    """Whether the answer's tokens read the base in the 4 bits that its file has, activations in 16"""
    prompts_in_4bit: bool = False
    """Whether a prompt's tokens do, too"""

    @property
    def is_loaded(self) -> bool:
        """False for what is told ahead of loading, see `molora.ahead`."""
        return bool(self.device)

    @property
    def projections(self) -> tuple[str, ...]:
        return self.router_projections if self.top_k else ()

    @property
    def layers(self) -> tuple[int, ...]:
        """Those that a trace holds."""
        return tuple(range(self.num_layers)) if self.router_layers is None else self.router_layers

    @property
    def precision(self) -> str:
        """Of the base, as people call it; of decode too where it differs."""
        if self.prompts_in_4bit:
            return "4 bits"
        return f"{self.weights}, decode in 4 bits" if self.decodes_in_4bit else self.weights

    @property
    def weights(self) -> str:
        """How the base's weights are read: "NF4", "int8", or a dtype; decode may differ."""
        return {"4bit": "NF4", "8bit": "int8"}.get(self.quantization, self.prompt_dtype or self.dtype)


def engine_info(
    network: Any,
    *,
    model: str,
    base: str,
    adapter_sha256: str,
    quantization: str,
    device: str,
    grid: RouterGrid,
    is_demo: bool = False,
    num_shared_experts: int = 0,
) -> EngineInfo:
    """What people are told of a loaded model."""
    from molora import fast

    return EngineInfo(
        model=model,
        base=base,
        adapter_sha256=adapter_sha256,
        quantization=quantization,
        dtype=_name(float_dtype(network)),
        device=device,
        num_experts=grid.num_experts or 1,
        top_k=grid.top_k,
        num_layers=network.config.num_hidden_layers,
        is_demo=is_demo,
        reads_chinese=reads_chinese(network.config.model_type),
        context_length=network.config.max_position_embeddings,
        router_projections=grid.projections,
        router_layers=tuple(grid.layer_indices),
        num_shared_experts=num_shared_experts,
        prompt_dtype=_name(prompts) if (prompts := fast.prompt_dtype(network)) != network.dtype else None,
        decodes_in_4bit=fast.packs(network),
        prompts_in_4bit=fast.packs_prompts(network),
    )


def reads_chinese(model_type: str) -> bool:
    return model_type.startswith(("qwen", "deepseek"))


def float_dtype(network: Any) -> torch.dtype:
    """Of a model's arithmetic, where its weights may be packed integers."""
    import torch

    return network.dtype if network.dtype.is_floating_point else torch.float32


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
