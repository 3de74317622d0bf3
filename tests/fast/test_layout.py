"""Adapters laid out for compiled code."""

from __future__ import annotations

import numpy as np

from molora.fast.kernel.lanes import LANES
from molora.fast.kernel.several import WIDTH
from molora.fast.layout import alike, way_down, way_up


def test_panels_of_one_linear_follow_the_others() -> None:
    narrow, wide = (np.random.default_rng(0).normal(size=(2, 3, width)) for width in (3 * LANES, WIDTH))
    panels = way_up([narrow, wide])
    assert panels.shape == (2, 3, 3, WIDTH)
    assert panels.flags.c_contiguous, "what one expert has lies together"
    assert (panels[:, 0] == narrow[:, :, :WIDTH]).all()
    assert (panels[:, 1, :, :LANES] == narrow[:, :, WIDTH:]).all()
    assert (panels[:, 1, :, LANES:] == narrow[:, :, WIDTH:]).all(), "twice, where a panel is half empty"
    assert (panels[:, 2] == wide).all()


def test_what_is_laid_out_begins_with_a_line_of_the_cache() -> None:
    for width in (64, 96):
        a = np.ones((2, 3, 5, width), np.uint16)
        assert way_down(a).ctypes.data % 64 == 0
        assert way_up([a[0, :, :1].repeat(LANES, axis=2)]).ctypes.data % 64 == 0


def test_adapters_are_of_one_type_once_they_are_alike() -> None:
    narrow, wide, none = (
        np.array([[0x3F80, 0xC000]], np.uint16),
        np.ones((1, 2), np.float32),
        np.empty((0, 2), np.float32),
    )
    bias, words = np.zeros(1, np.float32), np.zeros(1, np.int32)
    given = [(narrow, bias, narrow, words, none, 1.0), (none, bias, wide, words, narrow, 2.0)]
    (router, _, a, down, b, scaling), (other_router, _, other_a, _, other_b, other_scaling) = alike(given)
    assert down is words
    assert router is narrow
    assert other_router.dtype == b.dtype == other_b.dtype == np.uint16
    assert a.dtype == other_a.dtype == np.float32
    assert a.tolist() == [[1.0, -2.0]], "as bfloat16 has them"
    assert (scaling, other_scaling) == (1.0, 2.0)
