"""Adapters laid out for many tokens."""

from __future__ import annotations

import numpy as np

from molora.fast.kernel.lanes import LANES
from molora.fast.kernel.several import WIDTH
from molora.fast.layout import way_up


def test_panels_of_one_linear_follow_the_others() -> None:
    narrow, wide = (np.random.default_rng(0).normal(size=(6, width)) for width in (3 * LANES, WIDTH))
    panels = way_up([narrow, wide])
    assert panels.shape == (3, 6, WIDTH)
    assert panels.flags.c_contiguous
    assert (panels[0] == narrow[:, :WIDTH]).all()
    assert (panels[1, :, :LANES] == narrow[:, WIDTH:]).all()
    assert (panels[1, :, LANES:] == narrow[:, WIDTH:]).all(), "twice, where a panel is half empty"
    assert (panels[2] == wide).all()
