from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from molora import fast
from molora.fast import kernel
from molora.fast.compiled import CompiledStep, _narrow
from molora.fast.kernel import helper as helping
from molora.fast.kernel.helper import helper, kinds_of
from tests.fast.test_compiled import KINDS
from tests.fast_models import packable_model

ROOT = Path(__file__).parents[2]
EVERYWHERE = "all_normed", "best", "multiplied", "read_one", "scored"

_FIRST_START = """
import molora
from molora.fast import kernel, lean_step
engine = molora.load("demo")
step = lean_step(engine.model)
step.warm_up()
print(*(process.returncode for process in step._helpers))
functions = (getattr(kernel, name) for name in kernel.__all__)
print(*(one.py_func.__name__ for one in functions if hasattr(one, "stats") and one.stats.cache_misses))
"""


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="one core has no use for helpers")
def test_a_first_start_finds_what_helpers_compiled_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", _FIRST_START], cwd=ROOT, capture_output=True, text=True, check=False)
    ended, compiled = done.stdout.splitlines() or pytest.fail(done.stderr)
    assert ended == "0 0"
    ahead = {"packed"} if kernel.TILES else {"packed", "packed_ranks"}
    assert set(compiled.split()) == ahead, "which loading and packing need while helpers work"
    kept = Counter(path.name.split("-")[0] for path in tmp_path.rglob("*.nbc"))
    assert any(".read_one_" in name for name in kept)
    assert {count for name, count in kept.items() if ".mixed_" not in name} == {1}, "in one kind each"


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_helper_compiles_is_what_passes_need(kind: str) -> None:
    model = packable_model(kind.split(" ", maxsplit=1)[0], **KINDS[kind])
    step = CompiledStep(model, True)
    step.warm_up()
    kinds = kinds_of((*_narrow(step.layers[0]), "float32"))
    for name in ("read_one", "all_normed"):  # of the others none hangs on the model
        assert set(kinds[name]) <= set(getattr(kernel, name).signatures), name


@pytest.mark.parametrize("coarse", [(), ("router",), ("lora_A", "lora_B"), ("router", "lora_A", "lora_B")])
def test_weights_that_bfloat16_holds_are_known_as_such(
    coarse: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molora.fast.compiled.helper", lambda *_: None)  # nothing is read here
    model = packable_model()
    for name, weight in model.named_parameters():
        if any(part in name for part in coarse):
            weight.data = weight.data.bfloat16().float()
        elif "lora" in name or "router" in name:
            weight.data = weight.data + 1e-4
    step = CompiledStep(model, True)
    narrow = ["uint16" if part in coarse else "float32" for part in ("router", "lora_A", "lora_B")]
    assert _narrow(step.layers[0]) == tuple(narrow)
    layers = step._compiled
    assert layers is not None
    router, _, a, _, b, _ = layers.arrays.tuples[0][4][-1]
    assert [one.dtype.name for one in (router, a, b)] == narrow


class Asked:
    """Stands in for a process, to see what is started."""

    def __init__(self, command: list[str], **_: Any) -> None:
        self.command = command


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What is not on disk; no process is started."""
    names = set(EVERYWHERE)
    monkeypatch.setattr(helping, "_on_disk", lambda name: name not in names)
    monkeypatch.setattr(subprocess, "Popen", Asked)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    return names


def started(*names: str) -> Any:
    return helper.__wrapped__(names, ("uint16", "float32", "uint16", "int16"))


def test_it_is_started_where_something_is_missing(missing: set[str]) -> None:
    missing.intersection_update({"best"})
    assert started("read_one", "best").command[-2:] == ["read_one,best", "uint16,float32,uint16,int16"]
    assert started("read_one", "scored") is None


@pytest.mark.usefixtures("missing")
def test_there_is_none_where_there_is_but_one_core_or_no_python_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert started("read_one") is not None
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 1)
        assert started("read_one") is None

    def failing(*_: Any, **__: Any) -> None:
        raise OSError("no such program")

    monkeypatch.setattr(subprocess, "Popen", failing)
    assert started("read_one") is None


def test_what_is_on_disk_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = SimpleNamespace(cache_path=str(tmp_path))
    function = SimpleNamespace(stats=stats, py_func=SimpleNamespace(__qualname__="read_one_123_tiles"))
    monkeypatch.setitem(helping._FUNCTIONS, "read_one", function)
    assert not helping._on_disk("read_one")
    (tmp_path / "passes.read_one_123-33.py311.nbi").touch()
    assert not helping._on_disk("read_one"), "of other code"
    (tmp_path / "passes.read_one_123_tiles-33.py311.nbi").touch()
    assert helping._on_disk("read_one")
    stats.cache_path = None
    assert helping._on_disk("read_one"), "nothing can be kept"


def test_a_helper_that_fails_leaves_the_work_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    monkeypatch.setattr("molora.fast.compiled.helper", lambda *_: failing)
    step = CompiledStep(packable_model(), True)
    step.warm_up()
    assert failing.returncode == 3


def test_the_package_has_what_it_names_and_no_more() -> None:
    assert all(getattr(fast, name).__name__ == name for name in fast.__all__)
    with pytest.raises(AttributeError, match=r"'molora\.fast' has no attribute 'faster'"):
        _ = fast.faster


def test_it_does_without_what_takes_long_to_import() -> None:
    program = "import sys, molora.fast.kernel.helper; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
