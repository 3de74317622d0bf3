"""What comes from a device is what lay there; what lies on the host is not copied."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from molora.arriving import Arriving

PARTS = [torch.rand(2, 3, 4), torch.arange(6).view(2, 3), torch.rand(4, 2).T, torch.empty(3, 0)]


def test_on_the_host_nothing_is_copied() -> None:
    coming = Arriving(PARTS)
    assert coming.here
    for array, part in zip(coming.arrays(), PARTS, strict=True):
        np.testing.assert_array_equal(array, part.numpy())
        assert array.size == 0 or np.shares_memory(array, part.numpy())


@pytest.mark.cuda
def test_a_device_hands_over_what_lay_there_at_the_time() -> None:
    parts = [part.cuda() for part in PARTS]
    coming = Arriving([*parts[:-1], PARTS[-1]])
    for part in parts:
        part.zero_()
    for array, part in zip(coming.arrays(), PARTS, strict=True):
        np.testing.assert_array_equal(array, part.numpy())
    assert coming.here
