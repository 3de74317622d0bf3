from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from molora import compare
from molora.compare import Alignment, align, changed_picks, changed_text, divergence
from molora.errors import MoloraError
from molora.trace import RoutingTrace
from tests.fakes import fake_trace


def of_ids(*ids: int, seed: int = 0) -> RoutingTrace:
    trace = fake_trace([f" w{number}" for number in ids], template=1, prompt=2, seed=seed)
    return replace(trace, token_ids=np.array(ids, np.int32))


def of_shares(*shares: list[float]) -> RoutingTrace:
    """One token a list of probabilities, through one router; both experts picked that have the most."""
    trace = fake_trace(len(shares), layers=1, projections=("mlp",), experts=len(shares[0]))
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(shares, np.float32))[:, None, None]
    ids = np.argsort(-logits, axis=-1, kind="stable")[..., :2].astype(np.int16)
    return replace(trace, router_logits=logits, expert_ids=ids)


@pytest.mark.parametrize(
    ("one", "other", "rows"),
    [
        ([7, 8, 9], [7, 8, 9], [(0, 0), (1, 1), (2, 2)]),
        ([1, 2, 3, 4], [1, 5, 3, 4, 6], [(0, 0), (1, -1), (-1, 1), (2, 2), (3, 3), (-1, 4)]),
        ([1, 2], [3], [(0, -1), (1, -1), (-1, 0)]),
        ([1, 2, 3], [2, 3], [(0, -1), (1, 0), (2, 1)]),
        ([1], [], [(0, -1)]),
        # what both begin with stays together, though a longer run lies elsewhere
        ([1, 9, 1, 2, 3], [1, 2, 3], [(0, 0), (1, -1), (2, -1), (3, 1), (4, 2)]),
        ([], [], []),
    ],
)
def test_rows_pair_by_common_runs(one: list[int], other: list[int], rows: list[tuple[int, int]]) -> None:
    found = align(of_ids(*one), of_ids(*other))
    np.testing.assert_array_equal(found.rows, np.array(rows).reshape(-1, 2))
    assert found.both.tolist() == [a >= 0 and b >= 0 for a, b in rows]


def test_phase_and_text_come_from_whichever_read_the_token() -> None:
    one, other = of_ids(1, 2, 3, 4), of_ids(1, 5, 3, 4, 6)
    found = align(one, other)
    assert found.text(one, other) == [" w1", " w2", " w5", " w3", " w4", " w6"]
    assert found.phase(one, other).tolist() == [0, 1, 1, 1, 2, 2]


def test_long_traces_are_refused_and_longer_ones_still_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(0).integers(0, 500, 3000)
    found = align(of_ids(*ids), of_ids(*ids[:1500], 999, *ids[1500:]))
    assert found.both.sum() == 3000
    monkeypatch.setattr(compare, "MAX_TOKENS", 2)
    with pytest.raises(MoloraError, match="A trace of 3 tokens cannot be compared; up to 2 can"):
        align(of_ids(1, 2), of_ids(1, 2, 3))


def test_divergence_by_hand() -> None:
    one = of_shares([0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5])
    other = of_shares([0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.5, 0.3, 0.2])
    pairs = Alignment(np.array([(0, 0), (1, 1), (0, 1), (2, 2), (2, -1), (-1, 0)]))
    found = divergence(one, other, pairs)[:, 0, 0]
    # half of one expert and all of it: H(0.25, 0.75) - (H(0.5, 0.5) + 0) / 2; then H(m) - H(0.2, 0.3, 0.5)
    middle = -2 * 0.35 * np.log2(0.35) - 0.3 * np.log2(0.3) + sum(p * np.log2(p) for p in (0.2, 0.3, 0.5))
    np.testing.assert_allclose(found, [0, 1, 0.8112781 - 0.5, middle, np.nan, np.nan], atol=1e-6)


def test_divergence_keeps_layers_and_projections_apart_and_gaps_unknown() -> None:
    one = fake_trace(6)
    logits = one.router_logits.copy()
    logits[2:, 1, 2] += np.arange(8, dtype=np.float32)
    logits[5, 3, 0] = np.nan
    found = divergence(one, replace(one, router_logits=logits), align(one, one))
    assert found.shape == (6, 4, 3)
    assert found.dtype == np.float32
    assert (found[2:, 1, 2] > 0.01).all()
    assert np.isnan(found[5, 3, 0])
    found[2:, 1, 2] = found[5, 3, 0] = 0
    assert (found == 0).all()


def test_means_leave_out_what_is_unknown() -> None:
    values = np.array([[0.0, np.nan], [1.0, np.nan]])
    np.testing.assert_array_equal(compare.mean(values, 0), [0.5, np.nan])
    assert compare.mean(values) == 0.5


def test_changed_picks_by_hand() -> None:
    one = of_shares([0.5, 0.4, 0.1], [0.5, 0.4, 0.1], [0.5, 0.4, 0.1])
    other = of_shares([0.4, 0.5, 0.1], [0.5, 0.1, 0.4], [0.5, 0.4, 0.1])
    everything = align(one, other)
    assert changed_picks(one, other, everything) == pytest.approx(1 / 6)  # order is no change
    off = replace(other, expert_ids=np.full_like(other.expert_ids, -1))
    assert changed_picks(one, off, everything) == 1
    assert np.isnan(changed_picks(off, off, everything)).all()
    assert np.isnan(changed_picks(one, other, Alignment(np.array([(0, -1)])))).all()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (fake_trace(4, layers=3), r"other layers: 4 \(0, 1, 2, ...\) beside 3"),
        (fake_trace(4, projections=("mlp",)), "other projections"),
        (fake_trace(4, experts=5), "other experts: 8 beside 5"),
    ],
)
def test_traces_of_other_shape_are_refused(other: RoutingTrace, message: str) -> None:
    one = fake_trace(4)
    for of in (divergence, changed_picks):
        with pytest.raises(MoloraError, match=message):
            of(one, other, align(one, other))


@pytest.mark.parametrize(
    ("one", "other", "runs"),
    [
        ("Take it daily.", "Take it daily.", [("same", "Take it daily.")]),
        (
            "Take it daily.",
            "Take two daily, please.",
            [
                ("same", "Take"),
                ("removed", " it"),
                ("added", " two"),
                ("same", " daily"),
                ("added", ", please"),
                ("same", "."),
            ],
        ),
        ("高血压病人", "高血糖病人", [("same", "高血"), ("removed", "压"), ("added", "糖"), ("same", "病人")]),
        ("", "new", [("added", "new")]),
        ("", "", []),
    ],
)
def test_texts_differ_by_words(one: str, other: str, runs: list[tuple[str, str]]) -> None:
    found = changed_text(one, other)
    assert found == runs
    assert "".join(text for kind, text in found if kind != "added") == one
    assert "".join(text for kind, text in found if kind != "removed") == other
