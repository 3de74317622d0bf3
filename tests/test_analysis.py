"""Entropy, load and pairs against loops that say what is meant, and against cases known by hand."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from molora import analysis
from molora.trace import ANSWER, PROMPT, RoutingTrace
from tests.fakes import fake_trace, with_candidates


@pytest.fixture
def trace() -> RoutingTrace:
    return fake_trace(20, layers=3, experts=5, top_k=3)


def test_probabilities_are_the_softmax_of_the_logits(trace: RoutingTrace) -> None:
    logits = trace.router_logits.astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(analysis.probabilities(trace), expected, rtol=1e-5)


def test_probabilities_survive_large_logits(trace: RoutingTrace) -> None:
    trace.router_logits[:] = np.float32(3e4) * np.arange(5, dtype=np.float32)
    share = analysis.probabilities(trace)
    assert np.isfinite(share).all()
    assert (share[..., 4] == 1).all()


def test_entropy_is_1_for_uniform_and_0_for_certain(trace: RoutingTrace) -> None:
    trace.router_logits[0] = 2.5
    trace.router_logits[1] = 0
    trace.router_logits[1, ..., 2] = 1e4
    entropy = analysis.entropy(trace)
    np.testing.assert_allclose(entropy[0], 1, rtol=1e-6)
    np.testing.assert_allclose(entropy[1], 0, atol=1e-6)
    assert ((entropy > 0) & (entropy < 1))[2:].all()


def test_entropy_is_nan_where_a_router_has_not_run(trace: RoutingTrace) -> None:
    trace.router_logits[3, 1, 2] = np.nan
    assert np.isnan(analysis.entropy(trace)).sum() == 1


def test_entropy_of_a_single_expert_is_0() -> None:
    assert not analysis.entropy(fake_trace(4, experts=1, top_k=1)).any()


def test_entropy_equals_its_definition(trace: RoutingTrace) -> None:
    share = analysis.probabilities(trace).astype(np.float64)
    expected = -(share * np.log(share)).sum(axis=-1) / np.log(5)
    np.testing.assert_allclose(analysis.entropy(trace), expected, rtol=1e-5)


def test_margin_is_the_weakest_picked_less_the_strongest_left() -> None:
    trace = fake_trace(4, layers=1, projections=("mlp",), experts=4)
    trace.router_logits[:] = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    trace.expert_ids[:, 0, 0] = [[0, 1], [0, 3], [2, -1], [-1, -1]]  # as drawn, forced, one switched off, none
    np.testing.assert_allclose(analysis.margin(trace)[:3, 0, 0], [0.15, -0.25, -0.35], atol=1e-6)
    assert np.isnan(analysis.margin(trace)[3, 0, 0])


def test_there_is_no_margin_where_all_are_picked_or_the_router_has_not_run() -> None:
    assert np.isnan(analysis.margin(fake_trace(3, experts=2, top_k=2))).all()
    trace = fake_trace(3)
    trace.router_logits[1], trace.expert_ids[1] = np.nan, -1
    assert np.isnan(analysis.margin(trace)).all(axis=(1, 2)).tolist() == [False, True, False]


def test_expert_weights_equal_a_plain_loop(trace: RoutingTrace) -> None:
    trace.expert_ids[4, 1, 0, 1] = -1
    expected = np.zeros((20, 5))
    for place in np.ndindex(trace.expert_ids.shape):
        if trace.expert_ids[place] >= 0:
            expected[place[0], trace.expert_ids[place]] += trace.expert_weights[place]
    np.testing.assert_allclose(analysis.expert_weights(trace), expected, rtol=1e-6)
    np.testing.assert_array_equal(analysis.token_experts(trace), expected.argmax(axis=1))


def test_a_token_without_picks_has_no_expert(trace: RoutingTrace) -> None:
    trace.expert_ids[7] = -1
    experts = analysis.token_experts(trace)
    assert experts[7] == -1
    assert (np.delete(experts, 7) >= 0).all()


def test_load_counts_picks_router_by_router(trace: RoutingTrace) -> None:
    trace.expert_ids[:, 2, 1] = -1
    load = analysis.load(trace)
    for layer, projection in np.ndindex(3, 3):
        ids = trace.expert_ids[:, layer, projection]
        if (layer, projection) == (2, 1):
            assert np.isnan(load[layer, projection]).all()
        else:
            counts = [(ids == expert).sum() for expert in range(5)]
            np.testing.assert_allclose(load[layer, projection], np.array(counts) / (20 * 3))


def test_pairs_equal_a_plain_count(trace: RoutingTrace) -> None:
    counts = Counter(pair for ids in trace.expert_ids.reshape(-1, 3) for pair in combinations(sorted(ids.tolist()), 2))
    shares = analysis.pair_shares(trace)
    for (low, high), count in counts.items():
        assert shares[low, high] == pytest.approx(count / (20 * 9))
    assert not np.tril(shares).any()
    (low, high), count = counts.most_common(1)[0]
    assert analysis.most_used_pair(trace) == pytest.approx((low, high, count / (20 * 9)))


def test_there_is_no_pair_with_one_pick() -> None:
    assert analysis.most_used_pair(fake_trace(5, top_k=1)) is None


@pytest.mark.parametrize("trace", [fake_trace(0), fake_trace(4, projections=(), experts=1, top_k=0)])
def test_empty_traces_pass_through(trace: RoutingTrace) -> None:
    assert analysis.entropy(trace).size == analysis.margin(trace).size == 0
    assert (analysis.token_experts(trace) == -1).all()
    assert analysis.most_used_pair(trace) is None
    json.dumps(analysis.summarize(trace), allow_nan=False)


def test_the_summary_is_json_and_keeps_prompt_and_answer_apart(trace: RoutingTrace) -> None:
    trace.expert_ids[trace.phase == ANSWER] = [0, 1, 2]
    summary = json.loads(json.dumps(analysis.summarize(trace), allow_nan=False))
    assert summary["phases"]["answer"]["load"] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0], abs=1e-3)
    assert summary["phases"]["prompt"]["tokens"] == (trace.phase == PROMPT).sum()
    assert summary["phases"]["answer"]["most_used_pair"] == {"experts": [0, 1], "share": 1.0}
    assert [token["text"] for token in summary["tokens"]] == trace.token_text
    assert summary["tokens"][0]["phase"] == "template"
    assert summary["phases"]["answer"]["imbalance"] == {
        "max_over_uniform": pytest.approx(5 / 3, abs=1e-3),
        "coefficient_of_variation": pytest.approx((2 / 3) ** 0.5, abs=1e-3),
    }
    assert not any("next" in token for token in summary["tokens"])


def test_the_summary_has_the_likeliest_next_tokens_where_the_trace_has_them(trace: RoutingTrace) -> None:
    told = analysis.summarize(with_candidates(trace, {4: " a", 9: ""}))["tokens"]
    assert told[-1]["next"] == [[" a", 0.5], ["", 0.25]]
    assert "next" not in told[0]


def test_imbalance_by_hand() -> None:
    assert analysis.imbalance(np.array([0.5, 0.25, 0.125, 0.125])) == pytest.approx((2, 0.375**0.5))
    assert analysis.imbalance(np.full(4, 0.25)) == (1, 0)
    assert np.isnan(analysis.imbalance(np.empty(0))).all()
