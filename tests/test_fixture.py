from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import molora
from molora import fixture
from molora.byte_tokenizer import byte_tokenizer
from molora.errors import MoloraError
from molora.shapes import SHAPES, Shape
from tests.tiny_shape import TINY


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> fixture.Fixture:
    return fixture.write_fixture(tmp_path_factory.mktemp("fixture") / "new", TINY, shard_bytes=40_000)


def test_it_loads_answers_and_routes(made: fixture.Fixture) -> None:
    engine = molora.load(str(made.adapter))
    step = engine.answer([{"role": "user", "content": "What is asthma? 哮喘"}], max_new_tokens=3)
    assert step.trace.expert_ids.shape[1:] == (TINY.layers, 3, 2)
    weights = engine.model.model.layers[0].mlp.up_proj.lora_B
    assert 0.01 < weights.detach().std().item() < 0.03
    assert sum(p.numel() for p in engine.model.parameters()) == (
        TINY.linear_weights + TINY.other_weights + TINY.adapter_weights
    )


def test_the_base_lies_in_shards_that_an_index_names(made: fixture.Fixture) -> None:
    index = json.loads((made.base / "model.safetensors.index.json").read_text())
    files = sorted(made.base.glob("model-*.safetensors"))
    assert len(files) > 2
    assert set(index["weight_map"].values()) == {file.name for file in files}
    held = 0
    for file in files:
        with safe_open(file, "pt") as shard:
            names = list(shard.keys())
            assert all(index["weight_map"][name] == file.name for name in names)
            tensors = [shard.get_tensor(name) for name in names]
        assert all(tensor.dtype == torch.bfloat16 for tensor in tensors)
        assert len(tensors) == 1 or sum(tensor.nbytes for tensor in tensors) <= 40_000
        held += sum(tensor.nbytes for tensor in tensors)
    assert held == index["metadata"]["total_size"]


def test_the_seed_decides_the_weights(made: fixture.Fixture, tmp_path: Path) -> None:
    weights = "non_lora_trainables.safetensors"
    again = fixture.write_fixture(tmp_path / "again", TINY, shard_bytes=40_000)
    other = fixture.write_fixture(tmp_path / "other", TINY, seed=1, shard_bytes=40_000)
    assert (again.adapter / weights).read_bytes() == (made.adapter / weights).read_bytes()
    assert (other.adapter / weights).read_bytes() != (made.adapter / weights).read_bytes()


def test_a_full_folder_and_a_full_disk_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(MoloraError, match="exists and is not empty"):
        fixture.write_fixture(tmp_path, TINY)
    huge = Shape("Qwen/Huge", 10**6, 8192, 32768, 64, 151936)
    with pytest.raises(MoloraError, match=r"needs [\d.]+ GiB and its disk has [\d.]+ free"):
        fixture.write_fixture(tmp_path / "a" / "b", huge)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SHAPES, "MING-MOE-1.8B", TINY)
    assert fixture.main([str(tmp_path / "new"), "--like", "MING-MOE-1.8B"]) == 0
    assert f"python app.py --model {tmp_path / 'new' / 'adapter'}" in capsys.readouterr().out
    assert fixture.main([str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_one_that_is_interrupted_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SHAPES, "MING-MOE-1.8B", TINY)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fixture, "_write_adapter", interrupted)
    assert fixture.main([str(tmp_path / "new")]) == 130
    assert "nothing is left" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999999"])
def test_a_seed_beyond_the_generators_is_told(seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fixture.main([str(tmp_path / "new"), "--seed", seed])
    assert "choose a whole number from 0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_sizes_are_those_of_the_released_models() -> None:
    """Of the 7B, adapter_model has 33.6 MB and non_lora_trainables 382 MB; the bases have 7.72 and 14.17 billion."""
    seven, fourteen = SHAPES["MING-MOE-7B"], SHAPES["MING-MOE-14B"]
    assert round((seven.linear_weights + seven.other_weights) / 1e9, 2) == 7.72
    assert round((fourteen.linear_weights + fourteen.other_weights) / 1e9, 2) == 14.17
    assert 2 * seven.adapter_weights == pytest.approx(33.6e6 + 382e6, rel=0.005)


def test_every_token_of_the_tokenizer_is_its_own_bytes() -> None:
    tokenizer = byte_tokenizer(1000)
    assert len(tokenizer) == 1000
    text = "asthma 哮喘 🙂\n"
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text
    assert len({tokenizer.convert_ids_to_tokens(one) for one in range(1000)}) == 1000
