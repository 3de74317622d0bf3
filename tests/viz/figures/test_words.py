"""The summary in sentences: every number that is asked of it, and nothing that must be escaped twice."""

from __future__ import annotations

import numpy as np

from molora.summary import summary
from tests.fakes import fake_trace
from viz.figures.words import summary_words


def test_the_sentences_hold_the_numbers() -> None:
    trace = fake_trace(["<t>", " a", "\n", " c"], layers=1, projections=("mlp",), experts=4, template=1, prompt=1)
    trace.expert_ids[:, 0, 0] = [[0, 1], [0, 1], [0, 2], [3, 0]]
    far = -1e4
    trace.router_logits[:, 0, 0] = np.array([[0, 0, 0, 0], [0, 0, 0, far], [0, far, 0, far], [0, far, far, far]])
    text = "\n".join(summary_words(summary(trace, most=1), model="demo", edit="without expert 2"))
    for words in (
        "Model: demo.",
        "The routing was edited: without expert 2.",
        "Tokens counted: 4 (1 of the prompt, 2 of the answer, 1 of the chat template), each read by 1 routers that "
        "pick 2 of 4 experts.",
        "0: 50.0%, 1: 25.0%, 2: 12.5%, 3: 12.5%; an even share is 25.0%.",
        "the busiest expert, 0, has 2.00 times the even share",
        "coefficient of variation is 0.61",
        "Mean entropy of the routers: 0.57",
        "experts 0 and 1, picked together in 50.0% of all decisions.",
        "Most confident tokens (lowest entropy): “c” at row 3 (0.00).",
        "Most torn tokens (highest entropy): “<t>” at row 0 (1.00).",
    ):
        assert words in text


def test_many_experts_are_bounded_and_nothing_routed_is_said() -> None:
    told = summary(fake_trace(30, experts=128, top_k=4))
    loads = next(line for line in summary_words(told) if line.startswith("Load"))
    assert loads.count(": ") == 17
    assert "the 16 busiest of 128" in loads
    assert summary_words(None) == ["No token was routed yet."]


def test_there_is_no_pair_with_one_pick() -> None:
    trace = fake_trace(5, top_k=1)
    trace.router_logits[:] = np.float32(0)
    assert not any("pair" in line for line in summary_words(summary(trace)))
