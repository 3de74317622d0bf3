"""Experts can be told apart, and text on their colours can be read."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from viz import palette


def test_the_first_eight_are_okabe_and_itos_whatever_follows() -> None:
    assert palette.expert_colours(8) == palette.OKABE_ITO
    assert palette.expert_colours(4) == palette.OKABE_ITO[:4]
    assert palette.expert_colours(60)[:8] == palette.OKABE_ITO


@pytest.mark.parametrize("num_experts", [1, 8, 9, 16, 64, 128])
def test_every_expert_has_a_colour_of_its_own(num_experts: int) -> None:
    colours = palette.expert_colours(num_experts)
    assert len(set(colours)) == num_experts
    distances = [
        sum(abs(int(one[at : at + 2], 16) - int(other[at : at + 2], 16)) for at in (1, 3, 5))
        for one, other in combinations(colours, 2)
    ]
    assert min(distances, default=255) >= 6


@pytest.mark.parametrize("num_experts", [8, 128])
def test_text_on_a_colour_has_enough_contrast(num_experts: int) -> None:
    for colour in palette.expert_colours(num_experts):
        assert palette.contrast(colour, palette.text_colour(colour)) >= 4.5


def test_contrast_is_that_of_wcag() -> None:
    assert palette.contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert palette.contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("colour", palette.OKABE_ITO)
def test_more_weight_is_darker(colour: str) -> None:
    tints = [palette.lightened(colour, level / 5) for level in range(6)]
    assert tints[-1] == colour
    against_white = [palette.contrast(tint, "#FFFFFF") for tint in tints]
    assert against_white == sorted(against_white)
    assert len(set(tints)) == 6


def test_entropy_gets_evenly_darker() -> None:
    steps = [palette.contrast(colour, "#FFFFFF") for colour in palette.ENTROPY]
    assert all(after > before for before, after in pairwise(steps))


def test_a_discrete_scale_is_flat_within_each_code() -> None:
    assert palette.discrete_scale(["#000000", "#FFFFFF"]) == [
        (0, "#000000"),
        (0.5, "#000000"),
        (0.5, "#FFFFFF"),
        (1, "#FFFFFF"),
    ]
