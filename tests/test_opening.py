"""Traces from anyone: what `save` wrote opens; what is too large, damaged or made up is named and refused."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from molora import opening
from molora.errors import MoloraError
from molora.opening import is_npz, open_trace
from molora.trace import RoutingTrace
from tests.fakes import fake_trace, with_candidates


def packed(trace: RoutingTrace) -> bytes:
    file = io.BytesIO()
    trace.save(file)
    return file.getvalue()


@pytest.mark.parametrize(
    "trace",
    [
        fake_trace(12),
        fake_trace(12, layers=2, projections=("mlp",), experts=60, top_k=4),
        fake_trace(3, projections=(), experts=1, top_k=0),
        fake_trace(4).select(tokens=slice(0)),
        with_candidates(fake_trace(12), {7: " <b>", 9: ""}),
    ],
)
def test_what_was_saved_opens(trace: RoutingTrace) -> None:
    assert is_npz(packed(trace))
    opened = open_trace(packed(trace), "run.npz")
    np.testing.assert_array_equal(opened.expert_ids, trace.expert_ids)
    assert (opened.token_text, opened.meta) == (trace.token_text, trace.meta)
    assert [opened.candidates(row) for row in range(len(trace))] == [trace.candidates(row) for row in range(len(trace))]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello", packed(fake_trace(9))[:-40], b"\x93NUMPY" * 9])
def test_what_is_no_trace_is_refused_by_its_name(content: bytes) -> None:
    with pytest.raises(MoloraError, match=r"^run\.npz is no trace, or is damaged"):
        open_trace(content, "run.npz")


def test_another_npz_is_no_trace() -> None:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    with pytest.raises(MoloraError, match=r"^other\.npz is no routing trace"):
        open_trace(file.getvalue(), "other.npz")


def test_what_is_too_large_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("token_ids.npy", bytes(300 * 2**20))
    with pytest.raises(MoloraError, match="holds 300 MB"):
        open_trace(bomb.getvalue(), "bomb.npz")
    monkeypatch.setattr(opening, "MAX_BYTES", 10)
    with pytest.raises(MoloraError, match=r"run\.npz has 0 MB"):
        open_trace(packed(fake_trace(3)), "run.npz")


def changed(**fields: Any) -> RoutingTrace:
    trace = fake_trace(4, template=0, prompt=2)
    for name, value in fields.items():
        setattr(trace, name, value)
    return trace


HALF = np.full((4, 4, 3, 2), 0.5, np.float32)


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        (fake_trace(1, layers=1, projections=("mlp",), experts=600), "has 600 experts; up to 512"),
        (changed(token_text=["a", "b", "c", "d" * 2000]), "2,000 characters in a token"),
        (changed(token_text=["a", "b", "c", "\ud83d"]), "half a character"),
        (changed(layer_indices=np.array([0, 1, 1, 2], np.int16)), "names its layers"),
        (changed(layer_indices=np.array([-1, 0, 1, 2], np.int16)), "names its layers"),
        (changed(projections=("a", "b", "<a href=//x>")), "without plain names"),
        (changed(projections=("a", "b", "a")), "without plain names"),
        (changed(expert_weights=HALF * np.nan), "no numbers"),
        (changed(router_logits=np.full((4, 4, 3, 8), np.inf, np.float32)), "no numbers"),
        (
            changed(candidate_ids=np.zeros((4, 21), np.int32), candidate_probabilities=np.zeros((4, 21), np.float32)),
            "21 candidates a token; up to 20",
        ),
        (changed(candidate_text={"1": "d" * 2000}), "2,000 characters in a token"),
        (changed(candidate_text={"1": "\ud83d"}), "half a character"),
    ],
)
def test_what_figures_cannot_draw_is_refused(trace: RoutingTrace, words: str) -> None:
    with pytest.raises(MoloraError, match=words):
        open_trace(packed(trace), "run.npz")


def test_routers_that_have_not_run_are_no_fault() -> None:
    trace = fake_trace(4)
    trace.router_logits[1] = np.nan
    trace.expert_ids[1], trace.expert_weights[1] = -1, 0
    assert np.isnan(open_trace(packed(trace), "run.npz").router_logits[1]).all()
