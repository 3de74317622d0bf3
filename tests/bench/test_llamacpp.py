from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from molora.bench import llamacpp
from molora.bench.llamacpp import LlamaCpp, llama_of
from molora.bench.measuring import CONTEXT, TURN
from molora.demo import SMOLLM2, demo_base
from molora.errors import MoloraError

_STANDING_IN = """
import os, signal, time

class Llama:
    def __init__(self, gguf, **options):
        self.read = 0

    def reset(self):
        self.read = 0

    def eval(self, ids):
        self.read += len(ids)
        if self.read > {most}:
            os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(0.001 * len(ids))

    def close(self):
        pass
"""
"""The real one takes minutes to build, and crashes on some CPUs alone."""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    (tmp_path / "llama_cpp.py").write_text(_STANDING_IN.format(most=request.param))
    monkeypatch.syspath_prepend(str(tmp_path))


def test_its_process_imports_no_more_than_it_needs() -> None:
    program = "import sys, molora.bench.llama_process; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("stand_in", [1000], indirect=True)
@pytest.mark.usefixtures("stand_in")
def test_times_come_from_its_own_process() -> None:
    llama = LlamaCpp(Path("any.gguf"), 512, "cpu")
    assert 0.3 < llama.prefill_turn(list(range(300)))() < 3
    decode = llama.decode_turn(list(range(CONTEXT + 2 * TURN)))
    for _ in range(2):
        assert 0.001 < decode() < 0.1, "of one token"
    with pytest.raises(StopIteration):
        decode()
    llama.close()


@pytest.mark.parametrize("stand_in", [2, 100], indirect=True)
@pytest.mark.usefixtures("stand_in")
def test_a_crash_ends_only_its_own_process() -> None:
    with pytest.raises(MoloraError, match=r"SIGSEGV.*with AMX build it with clang"):
        LlamaCpp(Path("any.gguf"), 512, "cpu").prefill_turn(list(range(300)))()


@pytest.mark.parametrize("stand_in", [2], indirect=True)
@pytest.mark.usefixtures("stand_in")
def test_a_benchmark_goes_on_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / SMOLLM2.wheel.file, "w") as wheel:
        wheel.writestr(SMOLLM2.gguf, b"")
    monkeypatch.setattr(llamacpp, "cache_dir", lambda: tmp_path)
    with llama_of("demo", 512, "cpu") as (llama, why):
        assert llama is None
        assert "SIGSEGV" in why


def test_the_real_one_reads_the_demos_base() -> None:
    pytest.importorskip("llama_cpp")
    demo_base()
    with llama_of("demo", 512, "cpu") as (llama, why):
        if llama is None:
            pytest.skip(why)
        assert llama.prefill_turn(list(range(100)))() > llama.prefill_turn([0])() > 0


def test_other_models_have_no_gguf() -> None:
    with llama_of("MING-MOE-1.8B", 512, "cpu") as (llama, why):
        assert llama is None
        assert why == "no GGUF of this model is at hand"
