from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch

from molora.bench import run as running
from molora.bench.__main__ import arguments, main, write_readme
from molora.bench.made import made_base, made_engine
from molora.bench.measuring import Effort
from molora.bench.memory import bytes_a_token, copy_bytes_a_second, needed_bytes
from molora.bench.report import section, table
from molora.errors import MoloraError
from molora.machine import look
from molora.quantize import quantize
from molora.shapes import SHAPES
from tests.native_models import make_native
from tests.tiny_shape import TINY

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's

RATIOS = (
    "decode_molora_over_base",
    "prefill512_molora_over_base",
    "prefill512_loop_over_molora",
    "decode_recording_on_over_off",
    "decode_generate_over_molora",
    "prefill512_recording_on_over_off",
)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUICK", "FULL"):
        monkeypatch.setattr(running, name, dict.fromkeys(getattr(running, name), Effort(0, 1, 2)))
    for name in ("MING-MOE-1.8B", "MING-MOE-7B", "MING-MOE-14B"):
        monkeypatch.setitem(SHAPES, name, TINY)
    monkeypatch.setattr(running, "copy_bytes_a_second", lambda device: copy_bytes_a_second(device, 1000))


def test_a_folder_is_loaded_measured_and_reported(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(checkpoint), "--device", "cpu", "--json", str(tmp_path / "new" / "bench.json")]) == 0
    report = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert all(report["ratios"][name] > 0 for name in RATIOS)
    for job in ("decode", "prefill512"):
        assert report["ratios"][f"{job}_speed_over_llamacpp"] is None
    assert report["ratios"]["peak_device_over_needed"] is None
    assert report["missing"]["llamacpp"] == "no GGUF of this model is at hand"
    assert report["quantization"] == "none"
    assert set(report["milliseconds"]) == {"decode", "decode_batch8", "prefill32", "prefill512"}, (
        "it reads 1,024 tokens"
    )
    assert [late["length"] for late in report["lengths"]] == [10]
    assert report["load_seconds"] > 0
    assert report["first_token_seconds"] > 0
    assert report["peak_host_bytes"] >= report["peak_host_bytes_loading"] > 10**7
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["versions"]["torch"] == torch.__version__
    said = capsys.readouterr().out
    assert said.strip() == table(report).strip()
    assert f"| one token more | {report['milliseconds']['decode']['base']:.1f} |" in said


@pytest.mark.parametrize("quantize", ["none", "4bit"])
def test_all_shapes_are_made_and_measured_in_one_call(quantize: str, tmp_path: Path) -> None:
    path = tmp_path / "bench-shapes.json"
    (tmp_path / "README.md").write_text("a\n<!-- speed:begin -->\n<!-- speed:end -->\nz\n")
    given = ["--device", "cpu", "--quick", "--quantize", quantize, "--all-shapes"]
    assert main([*given, "--json", str(path), "--readme", str(tmp_path / "README.md")]) == 0
    report = json.loads(path.read_text())
    assert list(report["shapes"]) == ["MING-MOE-1.8B", "MING-MOE-7B", "MING-MOE-14B"]
    for one in report["shapes"].values():
        assert all(one["ratios"][name] > 0 for name in RATIOS)
        assert one["weights"] == "random, in the released layout"
        assert one["quantization"] == quantize
    text = (tmp_path / "README.md").read_text()
    assert text == f"a\n<!-- speed:begin -->\n{section([report])}\n<!-- speed:end -->\nz\n"
    assert "MING-MOE-14B" in text
    assert "No GPU was at hand" in text


@pytest.mark.parametrize(
    ("quantize", "kind"), [("none", torch.nn.Linear), ("4bit", bnb.nn.Linear4bit), ("8bit", bnb.nn.Linear8bitLt)]
)
def test_weights_made_on_the_device_are_packed_and_shared(quantize: str, kind: type) -> None:
    base = made_base(TINY, quantize, "cpu")
    engine = made_engine(TINY, base, quantize, "cpu", "tiny")
    assert type(base.model.layers[0].mlp.up_proj) is kind
    packed: Any = base.model.layers[0].mlp.up_proj
    if quantize == "4bit":  # before any pass: bitsandbytes repacks the weights for the CPU at the first one
        state = packed.weight.quant_state
        assert (state.quant_type, state.nested) == ("nf4", True)
    assert engine.model.model.layers[0].mlp.up_proj.base_layer is base.model.layers[0].mlp.up_proj
    assert not any(tensor.is_meta for tensor in (*engine.model.parameters(), *engine.model.buffers()))
    step = engine.answer([{"role": "user", "content": "Hm?"}], max_new_tokens=3)
    assert step.trace.router_logits.shape[1:] == (TINY.layers, 3, TINY.experts)


def test_a_token_reads_the_linears_the_head_and_its_own_experts() -> None:
    base = made_base(TINY, "none", "cpu")
    engine = made_engine(TINY, base, "none", "cpu", "tiny")
    head = TINY.vocabulary * TINY.hidden
    small = TINY.layers * 5 * TINY.hidden + TINY.hidden
    assert bytes_a_token(base) == 4 * (TINY.linear_weights + head + small)
    tokens_own = bytes_a_token(engine.model) - bytes_a_token(base)
    experts = sum(TINY.rank * 8 * (o + i) for name, (o, i) in TINY.linears().items() if "mlp" in name) * TINY.layers
    needed = TINY.adapter_weights - experts + experts * 2 // 8
    zeros = 2 * 3 * TINY.rank * TINY.hidden * TINY.layers  # B of q, k and v on one block diagonal
    assert tokens_own == 4 * (needed + zeros)
    engine.model.train()  # read by its modules
    assert bytes_a_token(engine.model) == bytes_a_token(base) + 4 * needed


@pytest.mark.parametrize(("quantize", "share"), [("none", 1.0), ("4bit", 4.127 / 32)])
def test_an_answer_needs_weights_adapter_and_its_own_cache(quantize: str, share: float) -> None:
    engine = made_engine(TINY, made_base(TINY, quantize, "cpu"), quantize, "cpu", "tiny")
    others = TINY.other_weights + TINY.adapter_weights
    weights, cache = 4 * (TINY.linear_weights * share + others), 2 * TINY.cache_bytes(300)  # of float32
    assert needed_bytes(engine.model, 300) == pytest.approx(weights + cache, rel=0.01)


def test_peak_memory_on_a_device_is_compared_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    on_device = {"peak_device_bytes": 1100, "needed_device_bytes": 1000}
    monkeypatch.setattr(running, "device_bytes", lambda _engine: on_device)
    assert running.run("MING-MOE-7B", device="cpu", quick=True)["ratios"]["peak_device_over_needed"] == 1.1


def test_what_cannot_be_loaded_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "/nowhere/at/all", "--device", "cpu"]) == 1
    *progress, said = capsys.readouterr().err.strip().splitlines()
    assert all(line.endswith("...") for line in progress), "nothing of a traceback"
    assert "neither a folder here nor a hub id" in said


def test_arguments() -> None:
    assert arguments(["--device", "cuda", "--all-shapes"]).all_shapes == []
    assert arguments(["--all-shapes", "MING-MOE-4B"]).all_shapes == ["MING-MOE-4B"]
    for given in (
        ["--readme", "README.md"],
        ["--readme", "README.md", "--json", "report.json"],  # which would not be among those it is made from
        ["--shape", "demo", "--all-shapes"],
        ["--length", "--json", "bench.json"],
        ["--length", "--all-shapes"],
    ):
        with pytest.raises(SystemExit):
            arguments(given)


def test_a_readme_without_marks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(MoloraError, match="<!-- speed:begin -->"):
        write_readme(tmp_path / "README.md", tmp_path)
    assert (tmp_path / "README.md").read_text() == "nothing"


def test_what_cannot_be_written_stops_the_run_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("molora.bench.__main__.run", lambda *_: pytest.fail("measured"))
    (tmp_path / "README.md").write_text("nothing")
    report = str(tmp_path / "bench.json")
    assert main(["--json", report, "--readme", str(tmp_path / "README.md")]) == 1
    assert "<!-- speed:begin -->" in capsys.readouterr().err
    assert main(["--json", str(tmp_path / "README.md" / "bench.json")]) == 1
    assert main(["--json", str(tmp_path)]) == 1
    assert "cannot be written. Name another file." in capsys.readouterr().err
    (tmp_path / "README.md").write_text("<!-- speed:begin -->\n<!-- speed:end -->\n")
    for other in ("{broken", '{"a": 1}', "[]"):
        (tmp_path / "bench-other.json").write_text(other)
        assert main(["--json", report, "--readme", str(tmp_path / "README.md")]) == 1
        assert "bench-other.json is no report of molora.bench" in capsys.readouterr().err


def test_a_size_too_large_is_told_not_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "look", lambda: look()._replace(memory_free=1000))
    monkeypatch.setattr(running, "made_base", lambda *_: pytest.fail("made"))
    assert main(["--shape", "MING-MOE-7B", "--device", "cpu"]) == 1
    assert "MING-MOE-7B needs 1.0 GiB of memory and 0.0 are free here." in capsys.readouterr().err
    assert main(["--all-shapes", "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert said.count("It is left out.") == 3
    assert "None of the sizes fits" in said


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(torch.OutOfMemoryError(), 1, "demo does not fit on cuda"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_a_run_that_ends_early_says_why(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(*_: object) -> None:
        raise error

    monkeypatch.setattr("molora.bench.__main__.run", ended)
    assert main(["--device", "cuda"]) == code
    assert said in capsys.readouterr().err


def test_a_packed_model_is_reported_as_such(checkpoint: Path, tmp_path: Path) -> None:
    quantize(str(checkpoint), tmp_path / "packed", device="cpu")
    given = ["--model", str(tmp_path / "packed"), "--quick", "--device", "cpu", "--quantize", "8bit"]
    assert main([*given, "--json", str(tmp_path / "bench.json")]) == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert (report["quantization"], report["precision"]) == ("4bit", "NF4")


def test_late_tokens_of_what_takes_its_modules_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--length", "--device", "cpu", "--model", str(make_native(tmp_path / "olmoe", "olmoe"))]) == 1
    assert "--length is not for such models" in capsys.readouterr().err
