from __future__ import annotations

from molora.bench.report import JOBS, LABELS
from tests.made_bench import made_bench
from viz.figures.speed import speed


def test_bars_are_times_as_multiples_of_the_bases() -> None:
    figure = speed(made_bench())
    bars = {bar.name: dict(zip(bar.x, bar.y, strict=True)) for bar in figure.data}
    decode, long = JOBS["decode"], JOBS["prefill4096"].replace(" of ", "<br>of ")
    assert bars == {
        LABELS["molora"]: {decode: 1.2, long: 1.25},
        LABELS["molora_recorded"]: {decode: 1.3},
        LABELS["loop"]: {decode: 2.0},
        LABELS["generate"]: {decode: 3.0},
        LABELS["llamacpp"]: {decode: 0.5},
    }
    assert figure.layout.shapes[0].y0 == 1
    assert "A &lt;fast&gt; one" in figure.layout.title.text


def test_a_report_of_nothing_says_so() -> None:
    assert "Nothing was measured" in speed(made_bench() | {"milliseconds": {}}).layout.annotations[0].text
