from __future__ import annotations

import pytest

from tests.fast_models import as_cpu


@pytest.fixture(autouse=True)
def _four_bits_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is read in 4 bits is tested on every CPU, be it slow there."""
    as_cpu(monkeypatch, "AVX2")
