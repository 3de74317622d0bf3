"""What a CUDA graph is recorded of, without one: the pass in shapes that stay, made again for each token."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from molora import fast
from molora.edits import RoutingEdit
from molora.fast import adapter
from molora.fast.cache import Among, growing_cache
from molora.fast.graph import GraphedStep, Output
from molora.fast.plan import Plan
from molora.fast.step import Step
from molora.reading import Reading
from molora.routers import grid_of
from molora.trace import RoutingTrace
from tests.fast.test_lean_step import ATOL, BFLOAT16, EDITS, IDS, RTOL, assert_agree, read
from tests.fast_models import make_model, pack_base, plain_reading_of, reading_of


class Recorder:
    """Stands for a GPU: makes the recorded pass anew, into the tensors of the first time."""

    def __init__(self) -> None:
        self.times: list[int] = []
        """How often each recording was made again"""

    def __call__(self, run: Callable[[], Output], _device: torch.device) -> tuple[Output, Callable[[], None]]:
        logits, seen = run()
        number = len(self.times)
        self.times.append(0)

        def again() -> None:
            self.times[number] += 1
            new_logits, new_seen = run()
            logits.copy_(new_logits)
            for picked, new in zip(seen, new_seen, strict=True):
                for part, value in zip(picked, new, strict=True):
                    part.copy_(value)

        return (logits, seen), again


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(fast, "decode_of", lambda step, _device: GraphedStep(step, recorder))
    return recorder


@pytest.mark.parametrize("kind", ["llama-biased", "qwen2-tied"])
def test_agrees_with_the_modules(kind: str, recorder: Recorder) -> None:
    assert_agree(make_model(kind))
    assert recorder.times == [15], "recorded once, and made for each token"


@pytest.mark.parametrize("name", EDITS)
def test_edits_hold_without_branches(name: str, recorder: Recorder) -> None:
    assert_agree(make_model(), EDITS[name])
    assert recorder.times == [15]


def test_packed_bases_are_recorded_as_well(recorder: Recorder) -> None:
    assert_agree(pack_base(make_model(intermediate_size=128), "nf4"), atol=BFLOAT16)
    assert recorder.times == [15]


def test_a_larger_room_is_recorded_anew(recorder: Recorder) -> None:
    ids = torch.randint(300, (300,), generator=torch.Generator().manual_seed(4)).tolist()
    model = make_model()
    (logits, trace), (expected, routed) = (
        read(reading, (250,), ids) for reading in (reading_of(model), plain_reading_of(model))
    )
    torch.testing.assert_close(logits, expected, rtol=RTOL, atol=ATOL)
    np.testing.assert_array_equal(trace.expert_ids, routed.expert_ids)
    assert recorder.times == [6, 44], "256 tokens have room at first"


def test_what_lay_in_the_room_before_is_never_seen(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    made = torch.Tensor.new_empty

    def dirty(self: torch.Tensor, *sizes: Any, **given: Any) -> torch.Tensor:
        empty = made(self, *sizes, **given)
        return empty.fill_(torch.nan) if empty.is_floating_point() else empty

    monkeypatch.setattr(torch.Tensor, "new_empty", dirty)
    assert_agree(make_model())


def test_requests_in_turns_keep_their_own_past_and_edit(recorder: Recorder) -> None:
    model, edits = make_model(), [None, RoutingEdit.drop([1])]
    alone = [read(reading_of(model, edit))[1].router_logits for edit in edits]
    both = [reading_of(model, edit) for edit in edits]
    for reading in both:
        reading.read(IDS[:9], [""] * 9, [1] * 9)
    for token in IDS[9:]:
        for reading in both:
            reading.read([token], [""], [1])
    for reading, expected in zip(both, alone, strict=True):
        np.testing.assert_allclose(reading.trace({}).router_logits, expected, rtol=RTOL, atol=ATOL)
    assert recorder.times == [15] * 4


LENGTHS = {0: 100, 1: 1, 2: 80}
"""Of texts side by side, before they go on"""


def read_on(reading: Reading, passes: int = 40, device: str = "cpu") -> tuple[Tensor, RoutingTrace]:
    """Texts side by side, and token by token what follows them, until one has ended and then another, which a fourth
    joins in the last pass; all logits."""
    lengths, logits, at = dict(LENGTHS), [], 0
    owners, positions = torch.empty(2, 0, dtype=torch.int64, device=device)
    with reading.recording():
        for number in range(-1, passes):
            going = [0, 1, 2] if number < passes // 4 else [0, 2] if number < passes - 2 else [2]
            going += [3, 4, 5] if number == passes - 1 else []
            new = [(one, place) for one in lengths for place in range(lengths[one])] if number < 0 else []
            if number >= 0:
                new = [(one, lengths.setdefault(one, 0)) for one in going]
                for one in going:
                    lengths[one] += 1
            ids = [IDS[(at + row) % len(IDS)] for row in range(len(new))]
            at += len(new)
            owners, positions = (
                torch.cat([so_far, torch.tensor(each, device=device)])
                for so_far, each in zip((owners, positions), zip(*new, strict=True), strict=True)
            )
            last = [99, 100, 180] if number < 0 else [*range(len(new))][::-1]
            among = Among.last(len(new), owners, positions)
            kept = torch.tensor(last, device=device)
            logits.append(reading.read_among(ids, [""] * len(ids), [1] * len(ids), kept=kept, among=among))
    return torch.cat(logits), reading.trace({})


@pytest.mark.parametrize("edit", [None, RoutingEdit.drop([1]) | RoutingEdit.attention_off()])
@pytest.mark.parametrize("kind", ["llama-biased", "qwen2"])
def test_texts_side_by_side_go_on_in_one_recording(kind: str, edit: RoutingEdit | None, recorder: Recorder) -> None:
    model = make_model(kind)
    (logits, trace), (expected, routed) = (read_on(make(model, edit)) for make in (reading_of, plain_reading_of))
    torch.testing.assert_close(logits, expected, rtol=RTOL, atol=ATOL)
    np.testing.assert_array_equal(trace.expert_ids, routed.expert_ids)
    np.testing.assert_allclose(trace.router_logits, routed.router_logits, rtol=RTOL, atol=ATOL)
    assert recorder.times == [32, 7, 1], "anew for a larger room, and for more texts; not for fewer"


@pytest.mark.cuda
def test_texts_side_by_side_go_on_in_a_real_graph(caplog: pytest.LogCaptureFixture) -> None:
    model = pack_base(make_model("qwen2").cuda(), "nf4")
    with caplog.at_level(logging.WARNING):
        (logits, trace), (expected, routed) = (
            read_on(make(model), device="cuda") for make in (reading_of, plain_reading_of)
        )
    torch.testing.assert_close(logits, expected, rtol=RTOL, atol=BFLOAT16)
    assert (trace.expert_ids == routed.expert_ids).mean() > 0.99
    assert not caplog.records


def test_what_cannot_be_recorded_is_read_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(run: Callable[[], Output], _device: torch.device) -> Any:
        run()
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(fast, "decode_of", lambda step, _device: GraphedStep(step, refuse))
    with caplog.at_level(logging.WARNING):
        assert_agree(make_model())
    assert [one.message for one in caplog.records] == [
        "Tokens are read without a CUDA graph: operation not permitted when stream is capturing"
    ]


@pytest.mark.parametrize("kind", ["llama-biased", "qwen2-tied", "mistral"])
@pytest.mark.parametrize("name", ["none", *EDITS])
def test_no_pass_waits_for_its_device_or_mixes_two(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that holds shapes and no numbers stands for a GPU: it refuses to hand a number to the host, which a
    recording cannot do, and to meet tensors of the host."""
    monkeypatch.setattr(adapter, "_narrow", lambda weight: weight)  # compares numbers, once for each model
    model = make_model(kind).to("meta")
    plan, cache = Plan.of(EDITS.get(name), grid_of(model)), growing_cache(model.config.num_hidden_layers)
    tokens = torch.zeros(7, dtype=torch.int64, device="meta")
    with torch.inference_mode():
        step = Step(model, pack=False)
        passes = [step.many(tokens, cache, plan)]
        decode = GraphedStep(step, lambda run, _device: (run(), lambda: None))
        passes += [decode(tokens[:1], cache, plan) for _ in range(2)]
        passes.append(step(tokens[:1], cache, plan))
        passes.append(step.many(tokens, cache, plan))
        seen_by = torch.ones(2, cache.get_seq_length() + 2, dtype=torch.bool, device="meta")
        passes.append(step.many(tokens[:2], cache, plan, tokens[:1], Among(tokens[:2], seen_by)))
    for logits, seen in passes:
        assert logits.is_meta
        assert len(seen) == 2 * model.config.num_hidden_layers
        assert all(part.is_meta for picked in seen for part in picked)


def test_cpus_record_nothing() -> None:
    step = fast.step_of(make_model())
    assert fast.decode_of(step, torch.device("cpu")) is step
    assert isinstance(fast.decode_of(step, torch.device("cuda")), GraphedStep)


@pytest.mark.cuda
@pytest.mark.parametrize("packed", [False, True])
def test_a_real_graph_is_recorded_and_agrees(packed: bool, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model("qwen2").cuda()
    with caplog.at_level(logging.WARNING):
        assert_agree(pack_base(model, "nf4") if packed else model, atol=BFLOAT16 if packed else ATOL)
    assert not caplog.records, "nothing kept it from being recorded"
