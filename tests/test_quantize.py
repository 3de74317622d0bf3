from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch

import molora
from molora.errors import MoloraError
from molora.quantize import main, quantize
from tests.native_models import make_native
from tests.released import make_base, make_checkpoint

QUESTION = [{"role": "user", "content": "哮喘有哪些症状？"}]


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, Path]:
    """(checkpoint, its base), to be thrown away."""
    base = make_base(tmp_path / "source")
    return make_checkpoint(tmp_path / "checkpoint", base), base


@pytest.mark.parametrize(("packed", "kind"), [("4bit", bnb.nn.Linear4bit), ("8bit", bnb.nn.Linear8bitLt)])
def test_it_answers_as_packed_on_loading_and_needs_the_base_no_more(
    source: tuple[Path, Path], tmp_path: Path, packed: Any, kind: type
) -> None:
    checkpoint, base = source
    quantize(str(checkpoint), tmp_path / "out", packed=packed, device="cpu")
    fresh = molora.load(str(checkpoint), quantize=packed)
    expected = fresh.trace_text("asthma and diabetes").router_logits
    shutil.rmtree(base)
    engine = molora.load(str(tmp_path / "out"))
    assert isinstance(engine.model.model.layers[0].mlp.up_proj.base_layer, kind)
    assert engine.info.quantization == packed
    assert engine.info.adapter_sha256 == fresh.info.adapter_sha256
    found = engine.trace_text("asthma and diabetes").router_logits
    assert abs(found - expected).mean() / abs(expected).mean() < 0.05, "bf16 outside the packed weights"
    assert engine.answer(QUESTION, max_new_tokens=3).num_tokens >= 1


def test_packed_weights_are_read_not_packed_again(source: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, _ = source
    quantize(str(checkpoint), tmp_path / "out", device="cpu")
    settings = json.loads((tmp_path / "out/base/config.json").read_text())["quantization_config"]
    assert (settings["bnb_4bit_quant_type"], settings["bnb_4bit_use_double_quant"]) == ("nf4", True)
    engines = [molora.load(str(tmp_path / "out"), quantize=given) for given in ("auto", "none", "4bit")]
    weights = [engine.model.model.layers[1].mlp.down_proj.base_layer.weight for engine in engines]
    assert weights[0].dtype == torch.uint8
    assert all(torch.equal(weights[0], other) for other in weights[1:])
    assert engines[0].model.model.layers[1].mlp.down_proj.base_layer.compute_dtype == torch.float32, "the CPU's"


def test_a_folder_with_something_in_it_is_left_alone(source: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(MoloraError, match="exists and is not empty"):
        quantize(str(source[0]), source[1])


def test_a_base_that_is_packed_already_is_refused(source: tuple[Path, Path], tmp_path: Path) -> None:
    quantize(str(source[0]), tmp_path / "out", device="cpu")
    for packed in ("4bit", "8bit"):
        with pytest.raises(MoloraError, match="is packed in 4bit already"):
            quantize(str(tmp_path / "out"), tmp_path / "again", packed=packed)
    assert not (tmp_path / "again").exists()


def test_one_that_is_interrupted_may_be_given_again(
    source: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        assert (tmp_path / "out").exists(), "made before the base is packed, which takes long"
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("molora.quantize.load_base", interrupted)
        assert main([str(source[0]), str(tmp_path / "out"), "--device", "cpu"]) == 130
    assert "nothing is left" in capsys.readouterr().err
    assert main([str(source[0]), str(tmp_path / "out"), "--device", "cpu"]) == 0


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MoloraError, match="no checkpoint in MING-MOE's layout"):
        quantize(str(make_native(tmp_path / "olmoe", "olmoe")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_tells_sizes_and_how_to_go_on(
    source: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(source[0]), str(out), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    size = sum(path.stat().st_size for path in (out / "base").iterdir())
    assert f"base {size / 1e6:,.1f} MB" in said
    assert f"python app.py --model {out}" in said
    assert main([str(source[0]), str(out)]) == 1
    assert "is not empty" in capsys.readouterr().err
