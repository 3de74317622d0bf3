from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _four_bits_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is read in 4 bits is tested on every CPU, be it slow there."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
