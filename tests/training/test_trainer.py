from __future__ import annotations

from pathlib import Path

from molora.base import load_base
from molora.config import MoloraConfig
from molora.training.trainer import last_complete, trained
from molora.wrap import wrap


def test_only_the_adapter_is_trained(base: Path) -> None:
    model, _ = load_base(str(base))
    wrap(model, MoloraConfig(num_experts=4, top_k=2))
    assert {name.rpartition(".")[2] for name in trained(model)} == {"lora_A", "lora_B", "weight", "bias"}
    assert not any("base_layer" in name for name in trained(model))


def test_a_state_cut_short_is_passed_over(tmp_path: Path) -> None:
    assert last_complete(tmp_path) is None
    for step, whole in ((3, True), (30, True), (300, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").touch()
    assert last_complete(tmp_path) == str(tmp_path / "checkpoint-30")
