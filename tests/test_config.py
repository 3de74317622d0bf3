"""What a checkpoint's two JSON files say, and what is refused with which words."""

from __future__ import annotations

import math
from typing import Any

import pytest

from molora.config import ATTENTION_PROJECTIONS, LoraConfig, MoloraConfig
from molora.errors import MoloraError

CONFIG: dict[str, Any] = {
    "num_experts": 8,
    "num_experts_per_token": 2,
    "expert_selection": "top_k",
    "share_expert": False,
}
ADAPTER: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "bias": "none",
    "target_modules": ["q_proj", "v_proj", "k_proj", "o_proj"],
    "base_model_name_or_path": "Qwen/Qwen1.5-7B-Chat",
    "rank_pattern": {},
    "modules_to_save": None,
}


@pytest.mark.parametrize(
    ("r", "alpha", "use_rslora", "scaling"),
    [(8, 16.0, False, 2.0), (16, 16.0, True, 4.0), (4, 1.0, False, 0.25), (2, 3.0, True, 3 / math.sqrt(2))],
)
def test_scaling(r: int, alpha: float, use_rslora: bool, scaling: float) -> None:
    assert LoraConfig(r, alpha, use_rslora).scaling == pytest.approx(scaling)


def test_reads_the_released_files() -> None:
    assert MoloraConfig.from_files(CONFIG, ADAPTER) == MoloraConfig(
        num_experts=8,
        top_k=2,
        expert_selection="top_k",
        experts=LoraConfig(16, 32.0, False, 0.05),
        attention=LoraConfig(16, 32.0, False, 0.05),
        target_modules=("k_proj", "o_proj", "q_proj", "v_proj"),
        base="Qwen/Qwen1.5-7B-Chat",
    )


def test_absent_entries_fall_back_as_the_reference_does() -> None:
    config = MoloraConfig.from_files({}, {"r": 8, "lora_alpha": 16, "lora_dropout": None})
    assert (config.num_experts, config.top_k, config.expert_selection) == (4, 2, "top_k")
    assert config.experts == config.attention == LoraConfig(8, 16.0, False, 0.0)
    assert set(config.target_modules) == set(ATTENTION_PROJECTIONS)
    assert config.base == ""


def test_rank_stabilisation_is_read_for_each_part_from_its_own_file() -> None:
    experts = MoloraConfig.from_files(CONFIG | {"use_rslora": True}, ADAPTER)
    attention = MoloraConfig.from_files(CONFIG, ADAPTER | {"use_rslora": True})
    assert (experts.experts.use_rslora, experts.attention.use_rslora) == (True, False)
    assert (attention.experts.use_rslora, attention.attention.use_rslora) == (False, True)


def test_experts_own_the_ffn_even_if_the_list_names_it() -> None:
    named = ADAPTER | {"target_modules": ["model.layers.0.self_attn.q_proj", "gate_proj", "mlp.up_proj", "q_proj"]}
    assert MoloraConfig.from_files(CONFIG, named).target_modules == ("q_proj",)
    plain = MoloraConfig.from_files(CONFIG | {"num_experts": 1}, named)
    assert plain.target_modules == ("gate_proj", "q_proj", "up_proj")


@pytest.mark.parametrize(("num_experts", "has_routers"), [(0, False), (1, False), (2, True), (16, True)])
def test_one_expert_has_no_router(num_experts: int, has_routers: bool) -> None:
    assert MoloraConfig(num_experts=num_experts).has_routers is has_routers


def test_one_expert_asks_for_no_picks() -> None:
    assert MoloraConfig.from_files({"num_experts": 1}, ADAPTER).top_k == 1


@pytest.mark.parametrize("num_experts", [1, 4])
def test_what_is_written_is_read_back(num_experts: int) -> None:
    config = MoloraConfig(
        num_experts=num_experts,
        top_k=1,
        expert_selection="sampling",
        experts=LoraConfig(4, 12.0, True, 0.1),
        attention=LoraConfig(4, 12.0, False, 0.1),
        target_modules=("k_proj", "q_proj"),
        base="demo",
    )
    assert MoloraConfig.from_files(*config.to_files()) == config


def test_written_files_hold_one_rank_for_all() -> None:
    with pytest.raises(MoloraError, match="one rank and one alpha for experts and attention alike"):
        MoloraConfig(experts=LoraConfig(4), attention=LoraConfig(8)).to_files()
    with pytest.raises(MoloraError, match="one rank and one alpha"):
        MoloraConfig(experts=LoraConfig(4, 8.0), attention=LoraConfig(4, 16.0)).to_files()


NUMBER = "a number is expected. Correct config.json or adapter_config.json."
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"share_expert": True},
        {},
        "config.json sets share_expert, which no released MING-MOE uses and whose training and inference disagree in "
        "the reference code, so it is refused. Set it to false if the model was trained without it.",
    ),
    (
        {"expert_selection": "softmax"},
        {},
        "expert_selection is 'softmax'; this project knows 'top_k' and 'sampling'. Correct config.json.",
    ),
    (
        {"num_experts_per_token": 9},
        {},
        "num_experts_per_token is 9 of 8 experts; it must lie between 1 and 8. Correct config.json.",
    ),
    (
        {"num_experts_per_token": 0},
        {},
        "num_experts_per_token is 0 of 8 experts; it must lie between 1 and 8. Correct config.json.",
    ),
    ({"num_experts": "8"}, {}, f"num_experts is '8'; {NUMBER}"),
    ({"num_experts": 2.5}, {}, f"num_experts is 2.5; {NUMBER}"),
    ({"num_experts": True}, {}, f"num_experts is True; {NUMBER}"),
    ({"num_experts": math.nan}, {}, f"num_experts is nan; {NUMBER}"),
    ({"num_experts": math.inf}, {}, f"num_experts is inf; {NUMBER}"),
    ({}, {"r": None}, f"r is None; {NUMBER}"),
    ({}, {"r": 0}, "LoRA rank r is 0; it must be 1 or more. Correct 'r' in adapter_config.json."),
    ({}, {"lora_alpha": math.nan}, f"lora_alpha is nan; {NUMBER}"),
    ({}, {"lora_dropout": "none"}, f"lora_dropout is 'none'; {NUMBER}"),
    ({}, {"lora_dropout": 1.0}, "lora_dropout is 1.0; it must lie in [0, 1). Correct adapter_config.json."),
    (
        {},
        {"target_modules": ".*_proj"},
        "adapter_config.json gives target_modules as '.*_proj'; a list of names is expected. Write them out.",
    ),
    (
        {},
        {"target_modules": [1]},
        "adapter_config.json gives target_modules as [1]; a list of names is expected. Write them out.",
    ),
    ({}, {"bias": "all"}, "adapter_config.json asks for bias='all'; only 'none' is supported."),
    *(
        ({}, {key: value}, f"adapter_config.json sets {key}, which MoLoRA checkpoints do not use; remove it.")
        for key, value in (
            ("use_dora", True),
            ("rank_pattern", {"q_proj": 4}),
            ("alpha_pattern", {"q_proj": 4}),
            ("modules_to_save", ["lm_head"]),
            ("fan_in_fan_out", True),
            ("layers_to_transform", [0]),
        )
    ),
]


@pytest.mark.parametrize(("config", "adapter", "words"), REFUSED, ids=[words[:40] for _, _, words in REFUSED])
def test_refusals(config: dict[str, Any], adapter: dict[str, Any], words: str) -> None:
    with pytest.raises(MoloraError) as refused:
        MoloraConfig.from_files(CONFIG | config, ADAPTER | adapter)
    assert str(refused.value) == words
