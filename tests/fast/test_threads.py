from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch

from molora.fast import threads as module
from molora.fast.threads import threads


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    module._has_openmp.cache_clear()
    yield
    module._has_openmp.cache_clear()


def test_there_are_as_many_as_torch_uses() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert threads() == 1
    finally:
        torch.set_num_threads(before)
    assert 1 <= threads() <= before


def test_without_openmp_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(module, "import_module", missing)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert threads() == 1


def test_away_from_linux_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert threads() == 1
