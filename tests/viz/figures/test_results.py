from __future__ import annotations

import numpy as np

from tests.results_made import made_results
from viz.figures.results import suite_results


def test_bars_are_the_means_and_their_whiskers_the_intervals() -> None:
    found = made_results()
    base, molora = suite_results(found).data
    assert (base.name, molora.name) == ("base", "MoLoRA")
    assert list(base.x) == ["all (3)", "generation (2)", "classification (1)"]
    groups = [found["macro"], *(part["systems"] for part in found["families"].values())]
    for bars, system in ((base, "base"), (molora, "molora")):
        np.testing.assert_allclose(bars.y, [group[system]["score"] for group in groups])
        np.testing.assert_allclose(np.add(bars.y, bars.error_y.array), [group[system]["high"] for group in groups])
        np.testing.assert_allclose(
            np.subtract(bars.y, bars.error_y.arrayminus), [group[system]["low"] for group in groups]
        )


def test_nothing_evaluated_is_named_so() -> None:
    assert "No task" in suite_results(made_results() | {"tasks": {}}).layout.annotations[0].text
