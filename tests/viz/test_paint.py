"""The made-up trace of the measuring script is one that the page takes."""

from __future__ import annotations

import io

import numpy as np
import pytest

from molora.opening import open_trace
from viz import paint


def test_the_trace_opens_and_its_routers_change_slowly() -> None:
    trace = paint.smooth_trace(tokens=200, layers=3, prompt=20)
    file = io.BytesIO()
    trace.save(file)
    assert open_trace(file.getvalue(), "made").expert_ids.shape == (200, 3, 3, 2)
    np.testing.assert_allclose(trace.expert_weights.sum(axis=-1), 1, rtol=1e-5)
    top = trace.router_logits.argmax(axis=-1)
    np.testing.assert_array_equal(top, trace.expert_ids[..., 0])
    assert (top[1:] == top[:-1]).mean() > 2 / 8  # by chance 1 / 8


def test_help_tells_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        paint.arguments(["--help"])
    assert "Playwright" in capsys.readouterr().out
