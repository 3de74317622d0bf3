from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from molora.bench import memory
from molora.bench.fresh import fresh
from molora.bench.memory import peak_host_bytes, private_bytes_gained, weights_on_host
from molora.fixture import write_fixture
from molora.shapes import Shape

SHARD = 24 * 2**20
SHARDED = Shape("made/here", layers=10, hidden=1024, ffn=2752, heads=16, vocabulary=2000)
"""About ten shards."""

IMPORTS = 64 * 2**20
"""What the modules take that the first load imports."""


def test_loading_in_4_bits_holds_a_shard_or_two_not_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # what is freed goes back at once, so that only use counts
    made = write_fixture(tmp_path / "made", SHARDED, shard_bytes=SHARD)
    shards = [path.stat().st_size for path in made.base.glob("model-*.safetensors")]
    assert sum(shards) > 2 * SHARD + IMPORTS, "else a loader that holds all of them would pass"
    found = fresh(str(made.adapter), None, "4bit", "cpu")
    assert found["loading_bytes_beyond_weights"] < 2 * SHARD + IMPORTS


def test_a_model_is_found_where_this_process_is(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoint.parent)
    assert fresh(checkpoint.name, None, "none", "cpu")["load_seconds"] > 0


def test_the_gain_is_the_most_that_was_held_at_once_in_private(tmp_path: Path) -> None:
    (tmp_path / "mapped").write_bytes(bytes(2**26))
    with private_bytes_gained() as gained:
        torch.ones(2**25)
        torch.ones(2**25)
        mapped = torch.from_file(str(tmp_path / "mapped"), shared=True, size=2**26, dtype=torch.uint8)
        assert mapped.max() == 0
    most = gained()
    assert most is None or 0.9 * 2**27 < most < 1.5 * 2**27


@pytest.mark.parametrize("windows", [False, True])
def test_the_peak_is_told_without_linux(windows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    there = peak_host_bytes()
    monkeypatch.setattr(memory, "_status", lambda _field: None)
    if windows:
        monkeypatch.setattr(psutil.Process, "memory_info", lambda _self: SimpleNamespace(peak_wset=there))
    assert 0.5 * there < peak_host_bytes() < 2 * there


def test_shared_weights_count_once_and_those_elsewhere_not() -> None:
    shared = nn.Linear(4, 4, bias=False)
    model = nn.Sequential(shared, shared, nn.Linear(4, 4, bias=False, device="meta"))
    assert weights_on_host(model) == 64
