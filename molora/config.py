"""What a checkpoint says of its mixture: experts, picks, rank, scale. Read from and written to the released files."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from molora.errors import MoloraError

EXPERT_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
"""The linears of a gated MLP, in the order of every [P] axis in this project."""

ATTENTION_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")

ALL_PROJECTIONS = (*ATTENTION_PROJECTIONS, *EXPERT_PROJECTIONS)

ExpertSelection = Literal["top_k", "sampling"]


@dataclass(frozen=True)
class LoraConfig:
    """A plain LoRA: the attention part of MING-MOE, or every part of a model with one expert."""

    r: int = 8
    """Rank of A [r, in] and B [out, r]."""
    alpha: float = 16.0
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) instead of alpha / r (rank-stabilised LoRA, arXiv 2312.03732)."""
    dropout: float = 0.0
    """On the input of A, while training only."""

    def __post_init__(self) -> None:
        if self.r < 1:
            raise MoloraError(f"LoRA rank r is {self.r}; it must be 1 or more. Correct 'r' in adapter_config.json.")
        if not 0.0 <= self.dropout < 1.0:
            raise MoloraError(f"lora_dropout is {self.dropout}; it must lie in [0, 1). Correct adapter_config.json.")

    @property
    def scaling(self) -> float:
        return self.alpha / (math.sqrt(self.r) if self.use_rslora else self.r)


@dataclass(frozen=True)
class MoloraConfig:
    """The mixture on the FFN projections and the LoRA on the attention (MING-MOE, arXiv 2404.09027, section 3)."""

    num_experts: int = 8
    """E. With E <= 1 there is no router and the FFN carries plain LoRA."""
    top_k: int = 2
    """K, the experts that answer each token."""
    expert_selection: ExpertSelection = "top_k"
    """"sampling" draws K experts without replacement from softmax(router_logits)."""
    experts: LoraConfig = field(default_factory=LoraConfig)
    attention: LoraConfig = field(default_factory=LoraConfig)
    target_modules: tuple[str, ...] = ATTENTION_PROJECTIONS
    """The linears that carry plain LoRA; with E <= 1 this may name FFN projections too."""
    base: str = ""
    """The base model that the checkpoint names: a hub id, a folder, or "demo"."""

    def __post_init__(self) -> None:
        if self.expert_selection not in ("top_k", "sampling"):
            raise MoloraError(
                f"expert_selection is {self.expert_selection!r}; this project knows 'top_k' and 'sampling'. "
                "Correct config.json."
            )
        if self.has_routers and not 1 <= self.top_k <= self.num_experts:
            raise MoloraError(
                f"num_experts_per_token is {self.top_k} of {self.num_experts} experts; it must lie between 1 and "
                f"{self.num_experts}. Correct config.json."
            )

    @property
    def has_routers(self) -> bool:
        return self.num_experts > 1

    @classmethod
    def from_files(cls, config: dict[str, Any], adapter_config: dict[str, Any]) -> MoloraConfig:
        """Joins `config.json` and `adapter_config.json` as released.

        Without `num_experts` the reference falls back to 4 experts, top-2; so does this. Raises MoloraError for a
        value that cannot be honoured.
        """
        if config.get("share_expert"):
            raise MoloraError(
                "config.json sets share_expert, which no released MING-MOE uses and whose training and inference "
                "disagree in the reference code, so it is refused. Set it to false if the model was trained without it."
            )
        _refuse_peft_options(adapter_config)
        r = _number(adapter_config, "r", int)
        alpha = _number(adapter_config, "lora_alpha", float)
        dropout = _number({"lora_dropout": adapter_config.get("lora_dropout") or 0.0}, "lora_dropout", float)
        targets = adapter_config.get("target_modules") or list(ATTENTION_PROJECTIONS)
        if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
            raise MoloraError(
                f"adapter_config.json gives target_modules as {targets!r}; a list of names is expected. Write them out."
            )
        num_experts = _number(config, "num_experts", int, default=4)
        if num_experts > 1:  # the experts own the FFN; PEFT's list may still name it
            targets = [name for name in targets if name.rpartition(".")[2] not in EXPERT_PROJECTIONS]
        return cls(
            num_experts=num_experts,
            top_k=_number(config, "num_experts_per_token", int, default=min(2, max(num_experts, 1))),
            expert_selection=cast(ExpertSelection, config.get("expert_selection", "top_k")),
            experts=LoraConfig(r, alpha, bool(config.get("use_rslora")), dropout),
            attention=LoraConfig(r, alpha, bool(adapter_config.get("use_rslora")), dropout),
            target_modules=tuple(sorted({name.rpartition(".")[2] for name in targets})),
            base=str(adapter_config.get("base_model_name_or_path") or ""),
        )

    def to_files(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The two dictionaries of `from_files`, without the base model's own entries."""
        if (self.experts.r, self.experts.alpha) != (self.attention.r, self.attention.alpha):
            raise MoloraError("The released layout holds one rank and one alpha for experts and attention alike.")
        config = {
            "num_experts": self.num_experts,
            "num_experts_per_token": self.top_k,
            "expert_selection": self.expert_selection,
            "share_expert": False,
            "use_rslora": self.experts.use_rslora,
        }
        adapter_config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base,
            "r": self.attention.r,
            "lora_alpha": self.attention.alpha,
            "lora_dropout": self.attention.dropout,
            "use_rslora": self.attention.use_rslora,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "target_modules": list(self.target_modules),
        }
        return config, adapter_config


def _number(values: dict[str, Any], key: str, kind: type, default: Any = None) -> Any:
    value = values.get(key, default)
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or kind(value) != value:
        raise MoloraError(f"{key} is {value!r}; a number is expected. Correct config.json or adapter_config.json.")
    return kind(value)


def _refuse_peft_options(adapter_config: dict[str, Any]) -> None:
    """Options of PEFT that change what the layer computes and that MING-MOE does not use."""
    if adapter_config.get("bias", "none") != "none":
        raise MoloraError(f"adapter_config.json asks for bias={adapter_config['bias']!r}; only 'none' is supported.")
    refused = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out", "layers_to_transform")
    for key in refused:
        if adapter_config.get(key):
            raise MoloraError(f"adapter_config.json sets {key}, which MoLoRA checkpoints do not use; remove it.")
