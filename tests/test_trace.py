"""The trace: axes that agree, parts of it, and files that hold no pickle and survive no damage unnoticed."""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molora.errors import MoloraError
from molora.trace import ANSWER, PROMPT, TEMPLATE, RoutingTrace

T, L, P, E, K = 6, 3, 3, 4, 2
CANDIDATES = ("candidate_ids", "candidate_probabilities")
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
TEXT = ["<|im_start|>", "哮喘", "", "🙂", " <img src=x onerror=alert(1)>", "\n"]


def fields(**changes: Any) -> dict[str, Any]:
    """The fields of a trace whose every number is its own, and those of `changes`."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(T, L, P, E)).astype(np.float32)
    logits[1] = np.nan
    ids = np.argsort(-logits, axis=-1)[..., :K].astype(np.int16)
    ids[1] = -1
    values = {
        "token_ids": np.arange(100, 100 + T, dtype=np.int32),
        "token_text": list(TEXT),
        "phase": np.array([TEMPLATE, PROMPT, PROMPT, PROMPT, ANSWER, ANSWER], np.uint8),
        "router_logits": logits,
        "expert_ids": ids,
        "expert_weights": rng.random((T, L, P, K)).astype(np.float32),
        "layer_indices": np.array([0, 5, 9], np.int16),
        "projections": PROJECTIONS,
        "meta": {"model": "演示", "sampling": {"temperature": 0.7}, "edit": None},
        "candidate_ids": np.array([[-1, -1]] * 3 + [[7, 8], [8, 9], [-1, -1]], np.int32),
        "candidate_probabilities": np.array([[0, 0]] * 3 + [[0.6, 0.25], [0.5, 0.5], [0, 0]], np.float32),
        "candidate_text": {"7": " 是", "8": "</b>", "9": ""},
    }
    return values | changes


def make(**changes: Any) -> RoutingTrace:
    return RoutingTrace(**fields(**changes))


def assert_same(a: RoutingTrace, b: RoutingTrace) -> None:
    for name in ("token_ids", "phase", "router_logits", "expert_ids", "expert_weights", "layer_indices", *CANDIDATES):
        one, other = getattr(a, name), getattr(b, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)
    assert (a.token_text, a.projections, a.meta) == (b.token_text, b.projections, b.meta)
    assert a.candidate_text == b.candidate_text


def text_of(json_text: str) -> Any:
    return np.frombuffer(json_text.encode(), np.uint8)


def rewrite(path: Path, *leave_out: str, **changes: Any) -> None:
    """A saved trace with some of its arrays replaced or left out."""
    make().save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name not in leave_out}
    np.savez_compressed(path, **(arrays | changes))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.npz"
    make().save(path)
    return path


def test_sizes() -> None:
    trace = make()
    assert (len(trace), trace.num_layers, trace.num_experts, trace.top_k) == (T, L, E, K)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"token_text": ["a"] * 5}, "token_ids has T = 6 where the rest of the trace has 5."),
        ({"phase": np.zeros(7, np.uint8)}, "phase has T = 7 where the rest of the trace has 6."),
        (
            {"expert_ids": np.zeros((T, 4, P, K), np.int16)},
            "expert_ids has L = 4 where the rest of the trace has 3.",
        ),
        (
            {"expert_weights": np.zeros((T, L, P, 3), np.float32)},
            "expert_weights has K = 3 where the rest of the trace has 2.",
        ),
        ({"projections": ("mlp",)}, "router_logits has P = 3 where the rest of the trace has 1."),
        ({"layer_indices": np.zeros(2, np.int16)}, "layer_indices has L = 2 where the rest of the trace has 3."),
        (
            {"router_logits": np.zeros((T, L, E), np.float32)},
            "router_logits has shape (6, 3, 4); expected axes [T, L, P, E].",
        ),
    ],
)
def test_shapes_that_disagree_name_both_sizes(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MoloraError) as refused:
        make(**changes)
    assert str(refused.value) == words


def test_candidates_of_a_row_come_with_their_texts() -> None:
    trace = make()
    assert trace.candidates(3) == [(7, " 是", pytest.approx(0.6)), (8, "</b>", 0.25)]
    assert trace.candidates(4) == [(8, "</b>", 0.5), (9, "", 0.5)]
    assert trace.candidates(0) == []
    assert trace.select(tokens=slice(3, None), layers=[5]).candidates(0) == trace.candidates(3)


class TestSelect:
    def test_nothing_asked_is_all_of_it(self) -> None:
        assert_same(make().select(), make())

    def test_slice_of_tokens_shares_memory(self) -> None:
        trace = make()
        part = trace.select(tokens=slice(1, 4))
        assert part.token_text == TEXT[1:4]
        assert part.token_ids.tolist() == [101, 102, 103]
        assert part.phase.tolist() == [PROMPT] * 3
        np.testing.assert_array_equal(part.expert_ids, trace.expert_ids[1:4])
        assert np.shares_memory(part.router_logits, trace.router_logits)
        assert len(trace.select(tokens=slice(0, 0))) == 0

    def test_mask_of_tokens(self) -> None:
        trace = make()
        part = trace.select(tokens=trace.phase == ANSWER)
        assert part.token_text == TEXT[4:]
        np.testing.assert_array_equal(part.expert_weights, trace.expert_weights[4:])

    def test_layers_by_the_models_own_numbers_in_the_order_asked(self) -> None:
        trace = make()
        part = trace.select(layers=[9, 0])
        assert part.layer_indices.tolist() == [9, 0]
        for name in ("router_logits", "expert_ids", "expert_weights"):
            np.testing.assert_array_equal(getattr(part, name), getattr(trace, name)[:, [2, 0]])

    def test_projections(self) -> None:
        trace = make()
        part = trace.select(projections=["down_proj", "gate_proj"])
        assert part.projections == ("down_proj", "gate_proj")
        for name in ("router_logits", "expert_ids", "expert_weights"):
            np.testing.assert_array_equal(getattr(part, name), getattr(trace, name)[:, :, [2, 0]])

    def test_all_three_at_once(self) -> None:
        trace = make()
        part = trace.select(tokens=slice(2, None), layers=[5], projections=["up_proj"])
        np.testing.assert_array_equal(part.router_logits[:, 0, 0], trace.router_logits[2:, 1, 1])
        assert (len(part), part.num_layers, part.projections, part.meta) == (4, 1, ("up_proj",), trace.meta)

    def test_unknown_names_are_refused(self) -> None:
        with pytest.raises(MoloraError, match=r"^The trace has no layer 3; it has 0 to 9\.$"):
            make().select(layers=[0, 3])
        words = r"^The trace has no projection 'q_proj'; it has gate_proj, up_proj, down_proj\.$"
        with pytest.raises(MoloraError, match=words):
            make().select(projections=["gate_proj", "q_proj"])


class TestFile:
    def test_round_trip(self, saved: Path) -> None:
        assert_same(RoutingTrace.load(saved), make())
        assert_same(RoutingTrace.load(str(saved)), make())

    def test_round_trip_through_memory(self) -> None:
        file = io.BytesIO()
        make().save(file)
        file.seek(0)
        assert_same(RoutingTrace.load(file), make())

    def test_round_trip_of_no_tokens(self, tmp_path: Path) -> None:
        empty = make().select(tokens=slice(0, 0))
        empty.save(tmp_path / "empty.npz")
        assert_same(RoutingTrace.load(tmp_path / "empty.npz"), empty)

    def test_is_written_where_it_was_asked_for(self, tmp_path: Path) -> None:
        make().save(tmp_path / "run.trace")
        assert [path.name for path in tmp_path.iterdir()] == ["run.trace"]
        assert_same(RoutingTrace.load(tmp_path / "run.trace"), make())

    def test_holds_plain_arrays_only(self, saved: Path) -> None:
        with np.load(saved, allow_pickle=False) as file:
            assert all(file[name].dtype.kind in "iuf" for name in file.files)
            assert file["token_text"].tobytes().decode("utf-8")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(MoloraError, match=rf"^There is no file {tmp_path}/none\.npz\.$"):
            RoutingTrace.load(tmp_path / "none.npz")

    @pytest.mark.parametrize("length", [0, 1, 4, 100, -1, -40])
    def test_truncated_file(self, saved: Path, length: int) -> None:
        saved.write_bytes(saved.read_bytes()[:length])
        with pytest.raises(MoloraError, match="is no routing trace, or is damaged"):
            RoutingTrace.load(saved)

    def test_flipped_bits_are_an_error_or_harmless(self, saved: Path) -> None:
        """A bit may lie where the reader does not look; then what is read must be what was written."""
        whole = saved.read_bytes()
        rng = random.Random(0)
        refused = 0
        for position in rng.sample(range(len(whole)), 600):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << rng.randrange(8)
            try:
                trace = RoutingTrace.load(io.BytesIO(flipped))
            except MoloraError:
                refused += 1
            else:
                assert_same(trace, make())
        assert refused > 300

    @pytest.mark.parametrize("kind", ["text", "npy", "pickle", "npz", "folder"])
    def test_foreign_files(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "foreign.npz"
        if kind == "text":
            path.write_text("no trace")
        elif kind == "npy":
            with path.open("wb") as file:
                np.save(file, np.zeros(3))
        elif kind == "pickle":
            path.write_bytes(pickle.dumps({"token_ids": [1]}))
        elif kind == "npz":
            np.savez(path, token_ids=np.zeros(3))
        else:
            path.mkdir()
        with pytest.raises(MoloraError, match=rf"^{path} is no routing trace, or is damaged \("):
            RoutingTrace.load(path)

    @pytest.mark.parametrize("name", ["token_ids", "meta", "format"])
    def test_pickle_inside_is_never_run(self, tmp_path: Path, name: str) -> None:
        class Hostile:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "ran",))

        rewrite(tmp_path / "run.npz", **{name: np.array([Hostile()], object)})
        with pytest.raises(MoloraError, match="is no routing trace, or is damaged"):
            RoutingTrace.load(tmp_path / "run.npz")
        assert not (tmp_path / "ran").exists()

    def test_a_file_from_before_there_were_candidates_opens(self, tmp_path: Path) -> None:
        rewrite(tmp_path / "old.npz", *CANDIDATES, "candidate_text")
        trace = RoutingTrace.load(tmp_path / "old.npz")
        assert trace.candidate_ids.shape == trace.candidate_probabilities.shape == (T, 0)
        assert trace.candidates(3) == []
        np.testing.assert_array_equal(trace.expert_ids, make().expert_ids)

    def test_half_of_the_candidates_is_no_trace(self, tmp_path: Path) -> None:
        rewrite(tmp_path / "half.npz", "candidate_probabilities")
        with pytest.raises(MoloraError, match=r"is damaged \(.*candidate_probabilities"):
            RoutingTrace.load(tmp_path / "half.npz")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"format": np.int64(2)}, "has trace format 2; this version reads 1."),
            ({"phase": np.zeros(T, np.int64)}, "phase is int64; expected uint8."),
            ({"phase": np.zeros(5, np.uint8)}, "phase has T = 5 where the rest of the trace has 6."),
            ({"router_logits": np.float32(0)}, "router_logits has shape (); expected axes [T, L, P, E]."),
            ({"phase": np.full(T, 3, np.uint8)}, "phase holds 3; expected 0 to 2."),
            ({"expert_ids": np.full((T, L, P, K), E, np.int16)}, "expert_ids holds 4; expected -1 to 3."),
            ({"expert_ids": np.full((T, L, P, K), -2, np.int16)}, "expert_ids holds -2; expected -1 to 3."),
            ({"token_text": text_of("12345")}, "token_text is no list of texts."),
            ({"token_text": text_of("[1, 2, 3, 4, 5, 6]")}, "token_text is no list of texts."),
            ({"projections": text_of("3")}, "projections is no list of texts."),
            ({"meta": text_of("[]")}, "meta is no dictionary."),
            ({"candidate_ids": np.zeros((T, 2), np.int64)}, "candidate_ids is int64; expected int32."),
            ({"candidate_ids": np.full((T, 2), -2, np.int32)}, "candidate_ids holds -2; expected -1 to 2147483647."),
            (
                {"candidate_ids": np.zeros((5, 2), np.int32)},
                "candidate_ids has T = 5 where the rest of the trace has 6.",
            ),
            (
                {"candidate_ids": np.zeros((T, 3), np.int32)},
                "candidate_probabilities has C = 2 where the rest of the trace has 3.",
            ),
            (
                {"candidate_probabilities": np.full((T, 2), np.nan, np.float32)},
                "candidate_probabilities holds nan; expected 0 to 1.",
            ),
            (
                {"candidate_probabilities": np.full((T, 2), 1.5, np.float32)},
                "candidate_probabilities holds 1.5; expected 0 to 1.",
            ),
            ({"candidate_text": text_of("[]")}, "candidate_text is no dictionary."),
            ({"candidate_text": text_of('{"7": 3}')}, "candidate_text holds what is no text."),
        ],
    )
    def test_contents_that_make_no_trace(self, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
        rewrite(tmp_path / "run.npz", **changes)
        with pytest.raises(MoloraError) as refused:
            RoutingTrace.load(tmp_path / "run.npz")
        assert str(refused.value).endswith(words)
