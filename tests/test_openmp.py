from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from molora import openmp

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in openmp._WAITING:
        monkeypatch.delenv(name, raising=False)


def found(**given: str) -> list[str]:
    """What a program's environment says once it has imported the package, and whether torch was there before."""
    program = "import os, sys, molora; print(*(os.environ.get(name) for name in sys.argv[1:]), 'torch' in sys.modules)"
    command = [sys.executable, "-c", program, *openmp._WAITING]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | given, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is another OpenMP")
def test_threads_are_kept_awake_before_torch_is_imported() -> None:
    assert found() == [*openmp._WAITING.values(), "False"]


def test_what_the_environment_says_stays() -> None:
    assert found(OMP_WAIT_POLICY="PASSIVE") == ["PASSIVE", "None", "None", "False"]
    assert found(GOMP_SPINCOUNT="0") == ["None", "0", "None", "False"]


def test_elsewhere_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    openmp.keep_awake()
    assert not openmp._WAITING.keys() & os.environ.keys()


def test_another_library_waits_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    openmp.keep_awake()
    openmp.wait_as_usual()
    assert not openmp._WAITING.keys() & os.environ.keys()
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    openmp.wait_as_usual()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
