from __future__ import annotations

import numpy as np

from viz.figures.loss_curve import loss_curve


def test_dots_are_the_losses_and_the_line_their_running_mean() -> None:
    losses = [(5 * n, float(20 - n)) for n in range(1, 15)]
    dots, line = loss_curve(losses).data
    np.testing.assert_allclose(dots.y, [loss for _, loss in losses])
    np.testing.assert_allclose(dots.x, [step for step, _ in losses])
    assert len(line.y) == 14 - 8
    np.testing.assert_allclose(line.y[0], np.mean([loss for _, loss in losses[:9]]))
    np.testing.assert_allclose(line.x[0], 25)


def test_few_losses_and_none() -> None:
    assert len(loss_curve([(5, 2.0), (10, 1.0)]).data[1].y) == 1
    assert "No losses" in loss_curve([]).layout.annotations[0].text
