"""What visitors may type for layers, and what the filter keeps."""

from __future__ import annotations

import pytest

from molora.errors import MoloraError
from tests.fakes import fake_trace
from viz.view import View, chosen_colour, chosen_show, layer_choices, parse_layers, shown_tokens


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("all", None),
        ("", None),
        (" ALL ", None),
        ("7", (7,)),
        ("3-5, 12", (3, 4, 5, 12)),
        ("5,5,4", (4, 5)),
        ("2 – 3", (2, 3)),
        ("early (0-9)", tuple(range(10))),
    ],
)
def test_layers_are_read(text: str, layers: tuple[int, ...] | None) -> None:
    assert parse_layers(text, range(30)) == layers


def test_layers_without_a_router_are_left_out() -> None:
    routed = (1, 2, 4)
    assert parse_layers("1-4", routed) == routed
    assert layer_choices(routed) == ["all", "1", "2", "4"]
    with pytest.raises(MoloraError, match="has layers 1 to 4; '0-2' is not among them"):
        parse_layers("0-2", routed)


@pytest.mark.parametrize("text", ["30", "5-3", "-1", "a", "1;2", "1-", "1,,2", "9" * 50, "${alert(1)}"])
def test_what_is_no_layer_is_refused_in_words(text: str) -> None:
    with pytest.raises(MoloraError, match=r"[Ll]ayers "):
        parse_layers(text, range(30))


@pytest.mark.parametrize("num_layers", [1, 5, 6, 30, 32])
def test_every_offered_choice_can_be_read(num_layers: int) -> None:
    choices = [parse_layers(choice, range(num_layers)) for choice in layer_choices(range(num_layers))]
    assert choices[0] is None
    assert choices[-num_layers:] == [(layer,) for layer in range(num_layers)]
    if num_layers >= 6:
        assert [layer for span in choices[1:4] for layer in span or ()] == list(range(num_layers))


def test_the_filter_leaves_template_tokens_to_both() -> None:
    trace = fake_trace(10, template=3, prompt=4)
    assert shown_tokens(trace, "both").sum() == 10
    assert shown_tokens(trace, "prompt").nonzero()[0].tolist() == [3, 4, 5, 6]
    assert shown_tokens(trace, "answer").nonzero()[0].tolist() == [7, 8, 9]


def test_a_view_cuts_layers_and_projections() -> None:
    cut = View(layers=(1, 3), projections=("up_proj",)).cut(fake_trace(6))
    assert cut.expert_ids.shape == (6, 2, 1, 2)
    assert cut.layer_indices.tolist() == [1, 3]


def test_other_choices_are_refused() -> None:
    with pytest.raises(MoloraError, match="choice of tokens: 'all'"):
        chosen_show("all")
    with pytest.raises(MoloraError, match="colour mode: 'hue'"):
        chosen_colour("hue")
