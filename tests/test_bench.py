from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from molora import bench
from molora.engine import Engine
from molora.layers import Router
from molora.loading import load_base


@pytest.fixture(scope="module")
def systems(engine: Engine) -> dict[str, bench.System]:
    base, _ = load_base(engine.info.base)
    return bench.systems_of(engine, base.eval())


def test_systems_are_the_base_and_the_model_with_and_without_records(
    systems: dict[str, bench.System], engine: Engine
) -> None:
    ids, logits = list(range(40)), {}
    for name, system in systems.items():
        reading = system.reading(len(ids))
        with reading.recording():
            logits[name] = reading.read(ids, [""] * len(ids), [1] * len(ids))
        recorded = reading.trace({}).router_logits
        assert recorded.shape[1] == (engine.info.num_layers if name == bench.RECORDED else 0)
    assert torch.equal(logits[bench.MOLORA], logits[bench.RECORDED])
    assert not torch.allclose(logits[bench.MOLORA], logits[bench.BASE]), "the adapter changes the answer"
    expected = systems[bench.BASE].model(torch.tensor([ids])).logits[:, -1]
    torch.testing.assert_close(logits[bench.BASE], expected)


def test_every_round_times_every_system_and_leaves_no_hooks(systems: dict[str, bench.System], engine: Engine) -> None:
    for seconds in (bench.measure_decode(systems, 5), bench.measure_prefill(systems, 600, 5)):
        assert {name: len(times) for name, times in seconds.items()} == dict.fromkeys(systems, 5)
        assert all(time > 0 for times in seconds.values() for time in times)
    assert not any(module._forward_hooks for module in engine.model.modules() if isinstance(module, Router))


def test_ratios_are_medians_of_those_within_a_round() -> None:
    seconds = {bench.BASE: [1.0, 2.0, 4.0], bench.MOLORA: [2.0, 3.0, 8.0], bench.RECORDED: [2.0, 6.0, 16.0]}
    assert bench.ratios("decode", seconds) == {"decode_molora_over_base": 2.0, "decode_recording_on_over_off": 2.0}


def test_report_and_table(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "PREFILL", 64)
    assert bench.main(["--model", str(checkpoint), "--quick", "--json", str(tmp_path / "bench.json")]) == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert set(report["ratios"]) == {
        f"{job}_{ratio}" for job in ("decode", "prefill64") for ratio in ("molora_over_base", "recording_on_over_off")
    }
    assert report["quantization"] == "none"
    said = capsys.readouterr().out
    assert f"{report['milliseconds']['decode']['base']:.1f} ms" in said
    assert "prefill64" in said


def test_what_cannot_be_loaded_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--model", "/nowhere/at/all"]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
