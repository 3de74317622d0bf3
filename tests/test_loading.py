from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch

import molora
from molora.base import load_base, resolve_device, resolve_quantize
from molora.demo import DEMO
from molora.errors import MoloraError
from molora.layers import MoloraLinear
from molora.loading import choose_model
from tests.fake_hub import fake_hub
from tests.released import FFN, HIDDEN, LAYERS, make_base, make_checkpoint

QUESTION = [{"role": "user", "content": "哮喘有哪些症状？"}]


def test_folder_answers_and_records(checkpoint: Path, base: Path) -> None:
    engine = molora.load(str(checkpoint))
    step = engine.answer(QUESTION, max_new_tokens=5)
    assert step.trace.expert_ids.shape[1:] == (LAYERS, 3, 2)
    assert engine.info.quantization == "none"
    assert engine.info.precision == "float32"
    assert engine.info.base == str(base)
    assert engine.info.reads_chinese
    assert not engine.info.is_demo
    assert len(engine.info.adapter_sha256) == 64
    gate = engine.model.get_submodule("model.layers.0.mlp.gate_proj")
    assert isinstance(gate, MoloraLinear)
    assert isinstance(gate.base_layer, torch.nn.Linear)


@pytest.mark.parametrize(("quantize", "kind"), [("4bit", bnb.nn.Linear4bit), ("8bit", bnb.nn.Linear8bitLt)])
def test_quantized_on_the_cpu_answers_and_stays_near(checkpoint: Path, quantize: Any, kind: Any) -> None:
    plain = molora.load(str(checkpoint))
    engine = molora.load(str(checkpoint), quantize=quantize)
    gate = engine.model.model.layers[0].mlp.gate_proj
    assert isinstance(gate.base_layer, kind)
    if quantize == "4bit":  # before any pass: bitsandbytes may repack the weights for the CPU at the first one
        state = gate.base_layer.weight.quant_state
        assert state.quant_type == "nf4"
        assert state.nested, "double quantization"
    assert engine.info.quantization == quantize
    assert engine.info.precision == {"4bit": "NF4", "8bit": "int8"}[quantize]
    step = engine.answer(QUESTION, max_new_tokens=4)
    assert step.num_tokens >= 1
    assert step.trace.meta["quantization"] == quantize
    exact, near = (e.trace_text("asthma and diabetes").router_logits for e in (plain, engine))
    difference = abs(exact - near).mean() / abs(exact).mean()
    assert 0 < difference < 0.3, "quantized: not the same, but close"


def test_4_bits_are_computed_in_the_dtype_of_the_rest(base: Path) -> None:
    model, _ = load_base(str(base), "4bit", "cpu", dtype=torch.bfloat16)  # on a GPU the default; bitsandbytes' is fp32
    assert model.model.layers[0].mlp.gate_proj.compute_dtype == torch.bfloat16


def test_base_given_by_hand_wins_over_the_one_named(tmp_path: Path, base: Path) -> None:
    folder = make_checkpoint(tmp_path, base, adapter_config={"base_model_name_or_path": "/gone/away"})
    with pytest.raises(MoloraError, match=r"names its base '/gone/away'.*Say which base it was trained on with --base"):
        molora.load(str(folder))
    assert molora.load(str(folder), base=str(base)).info.base == str(base)


@pytest.mark.parametrize(
    ("size", "value", "expected"),
    [("hidden_size", 128, HIDDEN), ("intermediate_size", 192, FFN), ("num_hidden_layers", 2, LAYERS)],
)
def test_base_of_another_size_is_refused(
    checkpoint: Path, tmp_path: Path, size: str, value: int, expected: int
) -> None:
    other = make_base(tmp_path, **{size: value})
    with pytest.raises(MoloraError, match=f"trained on a base with {size} {expected}; .* has {value}. Give the right"):
        molora.load(str(checkpoint), base=str(other))


def test_share_expert_is_refused(base: Path, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, base, config={"share_expert": True})
    with pytest.raises(MoloraError, match=r"config.json sets share_expert"):
        molora.load(str(folder))


def test_damaged_base_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    other = make_base(tmp_path)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MoloraError, match=r"The base model .* cannot be loaded"):
        molora.load(str(checkpoint), base=str(other))


def test_base_of_pickles_only_is_refused(tmp_path: Path) -> None:
    other = make_base(tmp_path)
    (other / "model.safetensors").unlink()
    torch.save({}, other / "pytorch_model.bin")
    with pytest.raises(MoloraError, match="cannot be loaded"):
        load_base(str(other))


@pytest.mark.parametrize("name", ["no such folder", "a/b/c", "./missing"])
def test_names_that_are_neither_folder_nor_id(name: str) -> None:
    with pytest.raises(MoloraError, match=re.escape(f"{name!r} is neither a folder here nor a hub id like owner/name")):
        molora.load(name)


def test_unknown_device_and_quantization() -> None:
    for device in ("cuda:99", "meta", "nonsense"):
        with pytest.raises(MoloraError, match=rf"There is no device '{device}' here. Try --device cpu"):
            resolve_device(device)
    with pytest.raises(MoloraError, match="quantize is '3bit'; choose one of auto, none, 8bit, 4bit"):
        resolve_quantize("3bit", "cpu")
    assert resolve_quantize("auto", "cuda:0") == "4bit"
    assert resolve_quantize("auto", "cpu") == "none"


def test_auto_takes_the_demo_without_a_gpu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_model() == (DEMO, "no CUDA GPU here, so the small demo model answers")


def _load_from(endpoint: str, model: str, cache: Path) -> str:
    """Loads a hub id in a process of its own, as the hub's client reads its address once; what it printed."""
    script = (
        "import sys, molora\n"
        "try:\n"
        "    engine = molora.load(sys.argv[1])\n"
        "    print(engine.info.base, engine.answer([{'role': 'user', 'content': 'hi'}], max_new_tokens=2).num_tokens)\n"
        "except molora.MoloraError as error:\n"
        "    print('MoloraError:', error)\n"
    )
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, model], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_hub_ids_are_fetched_checked_and_answered(base: Path, tmp_path: Path) -> None:
    author = {"base_model_name_or_path": "/home/author/models/Qwen1.5-0.5B-Chat"}
    folder = make_checkpoint(tmp_path / "moe", base, adapter_config=author)
    with fake_hub({"owner/moe": folder, "Qwen/Qwen1.5-0.5B-Chat": base}) as endpoint:
        assert _load_from(endpoint, "owner/moe", tmp_path / "cache") == "Qwen/Qwen1.5-0.5B-Chat 2\n"
        assert "MoloraError: The hub knows no model 'owner/typo'" in _load_from(endpoint, "owner/typo", tmp_path / "c")


def test_no_network(tmp_path: Path) -> None:
    said = _load_from("http://127.0.0.1:9", "owner/moe", tmp_path)
    assert "MoloraError: owner/moe is not on this disk and the hub cannot be reached. Check the network" in said
