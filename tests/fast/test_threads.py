from __future__ import annotations

import pytest
import torch

from molora.fast import threads as module
from molora.fast.threads import threads


def test_there_are_as_many_as_torch_uses() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert threads() == 1
    finally:
        torch.set_num_threads(before)
    assert 1 <= threads() <= before


def test_without_openmp_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPENMP", False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert threads() == 1
