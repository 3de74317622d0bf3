"""What is told before loading is what loading tells, and takes no torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from molora.ahead import info_ahead
from molora.engine import Engine


def test_only_how_it_computes_is_left_to_loading(checkpoint: Path, engine: Engine) -> None:
    told = info_ahead(str(checkpoint))
    assert told is not None
    assert not told.is_loaded
    assert engine.info.is_loaded
    here = {
        name: getattr(engine.info, name)
        for name in ("quantization", "dtype", "device", "prompt_dtype", "decodes_in_4bit", "prompts_in_4bit")
    }
    assert replace(told, **here) == engine.info


def test_the_demo_is_told_without_torch() -> None:
    code = (
        "import sys; from molora.ahead import info_ahead; info = info_ahead('demo'); "
        "print(info.num_layers, info.num_experts, info.is_demo, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["30", "8", "True", "False"]


def test_a_base_that_is_given_is_told(checkpoint: Path) -> None:
    told = info_ahead(str(checkpoint), "owner/other")
    assert told is not None
    assert told.base == "owner/other"


@pytest.mark.parametrize(
    ("config", "adapter"),
    [
        ({"num_experts": 1}, {}),
        ({"num_hidden_layers": None}, {}),
        ({"num_hidden_layers": -1}, {}),
        ({"max_position_embeddings": "long"}, {}),
        ({"num_experts_per_token": 99}, {}),
        ({}, {"peft_type": "XLORA", "r": None}),
        ({}, {"base_model_name_or_path": "/of/its/author"}),
    ],
)
def test_what_only_loading_tells_is_left_to_it(
    checkpoint: Path, tmp_path: Path, config: dict[str, Any], adapter: dict[str, Any]
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    assert info_ahead(str(folder)) is not None
    for name, changed in (("config.json", config), ("adapter_config.json", adapter)):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    assert info_ahead(str(folder)) is None


def test_nothing_is_told_of_what_is_not_here(tmp_path: Path) -> None:
    assert info_ahead("./nowhere") is None
    assert info_ahead("owner/name") is None
    assert info_ahead(str(tmp_path)) is None
