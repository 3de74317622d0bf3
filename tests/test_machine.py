from __future__ import annotations

from pathlib import Path

import pytest

import app
from molora.errors import MoloraError
from molora.machine import GIB, Gpu, Machine, Precision, look, need, place, report
from molora.shapes import SHAPES

SEVEN = SHAPES["MING-MOE-7B"]


def machine(*gpus: int, memory: int = 16, disk: int = 100) -> Machine:
    cards = tuple(Gpu(f"card {number}", free * GIB, (free + 1) * GIB) for number, free in enumerate(gpus))
    return Machine(cards, 2 * memory * GIB, memory * GIB, 4, Path("/cache"), disk * GIB)


def test_a_7b_in_4_bits_needs_what_its_parts_do() -> None:
    """Linears of 32 layers: 4 * 4096^2 + 3 * 4096 * 11008 = 202,375,168 weights each, 4.127 bits a weight."""
    found = need(SEVEN, "4bit", 4096)
    unpacked = 2 * (2 * 151936 * 4096 + 32 * 5 * 4096 + 4096)
    assert found.weights == int(32 * 202_375_168 * 4.126953125 / 8) + unpacked
    assert found.cache == 2 * GIB
    assert found.adapter == pytest.approx(0.387 * GIB, rel=0.01)
    assert 8.5 < found.total / GIB < 9.1, "what --model auto asks of a GPU"
    assert found.download == pytest.approx(15.86e9, rel=0.01)


@pytest.mark.parametrize(("precision", "gib"), [("none", 14.4), ("8bit", 8.4), ("4bit", 5.4)])
def test_precision_packs_the_linears_and_nothing_else(precision: Precision, gib: float) -> None:
    assert need(SEVEN, precision).weights / GIB == pytest.approx(gib, abs=0.1)


def test_a_cpu_keeps_in_float32_what_is_not_packed() -> None:
    on_gpu, on_cpu = need(SEVEN, "none"), need(SEVEN, "none", cpu=True)
    assert (on_cpu.weights, on_cpu.cache, on_cpu.adapter) == (2 * on_gpu.weights, 2 * on_gpu.cache, 2 * on_gpu.adapter)
    packed = need(SEVEN, "4bit", cpu=True).weights - need(SEVEN, "4bit").weights
    assert packed == 2 * SEVEN.other_weights


def test_the_place_is_the_first_that_has_room() -> None:
    assert place(SEVEN, "4bit", machine(10)) == "GPU"
    assert place(SEVEN, "none", machine(10, 10)) == "2 GPUs"
    assert place(SEVEN, "4bit", machine(6, memory=32)) == "CPU"
    assert place(SEVEN, "none", machine(6)) == "no"
    assert place(SEVEN, "4bit", machine(memory=4)) == "no"
    assert place(SEVEN, "4bit", machine(10), context=32768) == "no", "the cache grows with the conversation"


def test_the_report_has_a_row_for_each_size_and_precision() -> None:
    text = report(machine(10, disk=20), 4096, "demo", "because")
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("MING-MOE-")]
    assert [(row[0], row[1]) for row in rows] == [(name, kind) for name in SHAPES for kind in ("bf16", "int8", "NF4")]
    assert len({len(line) for line in text.splitlines() if "MING-MOE-" in line}) == 1, "columns stand below each other"
    ends = {(row[0], row[1]): " ".join(row[8:]) for row in rows}
    assert ends["MING-MOE-7B", "NF4"] == "GPU"
    assert ends["MING-MOE-14B", "bf16"] == "no"
    assert "GPU 0: card 0, 10.0 of 11.0 GiB free" in text
    assert "--model auto would take demo: because." in text
    assert "CPU, no disk" in report(machine(memory=60, disk=20)), "the 14B needs 28 GiB of it"
    assert "no CUDA GPU" in report(machine())


def test_more_tokens_than_the_model_reads_are_refused() -> None:
    with pytest.raises(MoloraError, match="--context is 40000; the model reads 1 to 32768 tokens"):
        report(machine(), 40000)


def test_this_machine_has_something(tmp_path: Path) -> None:
    found = look(tmp_path / "not" / "yet")
    assert 0 < found.memory_free < found.memory
    assert found.cores > 0
    assert found.disk_free > 0


def test_check_prints_and_ends_without_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["--check", "--context", "1000"]) == 0
    said = capsys.readouterr().out
    assert "conversation of 1,000 tokens" in said
    assert "--model auto would take" in said
    assert app.main(["--check", "--context", "99999"]) == 2
    assert "--context is 99999" in capsys.readouterr().err
