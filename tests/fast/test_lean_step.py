"""The lean pass against the modules, token by token: logits, routing, caches, edits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from molora import fast
from molora.edits import RoutingEdit
from molora.reading import Reading
from molora.trace import PROMPT, RoutingTrace
from tests.fast_models import LLAMA3_ROPE, make_model, pack_base, plain_reading_of, reading_of

IDS = torch.randint(300, (24,), generator=torch.Generator().manual_seed(3)).tolist()
START = 9
RTOL, ATOL = 1e-3, 2e-3
"""Both ways round in float32: 1e-3 in these random weights' router logits, where a fault makes 0.1 and more."""
BFLOAT16 = 2e-2
"""The same where bitsandbytes multiplies in bfloat16"""


def read(reading: Reading, turns: tuple[int, ...] = (START,), ids: list[int] = IDS) -> tuple[Tensor, RoutingTrace]:
    """Reads the first turn at once, then token by token, further turns at once too; all logits [passes, V]."""
    logits, at = [], 0
    with reading.recording():
        for until in (*turns, len(ids)):
            parts = [ids[at:until]] if at != turns[-1] or until != len(ids) else [[token] for token in ids[at:until]]
            for part in parts:
                logits.append(reading.read(part, [""] * len(part), [PROMPT] * len(part)))
            at = until
    return torch.cat(logits), reading.trace({})


def assert_agree(
    model: Any, edit: RoutingEdit | None = None, turns: tuple[int, ...] = (START,), atol: float = ATOL
) -> RoutingTrace:
    lean, plain = reading_of(model, edit), plain_reading_of(model, edit)
    assert fast.fits(model)
    (logits, trace), (expected, routed) = read(lean, turns), read(plain, turns)
    torch.testing.assert_close(logits, expected, rtol=RTOL, atol=atol)
    np.testing.assert_array_equal(trace.expert_ids, routed.expert_ids)
    np.testing.assert_allclose(trace.router_logits, routed.router_logits, rtol=RTOL, atol=atol)
    np.testing.assert_allclose(trace.expert_weights, routed.expert_weights, rtol=RTOL, atol=atol)
    return trace


@pytest.mark.parametrize("kind", ["llama", "llama-biased", "qwen2", "qwen2-tied", "mistral"])
def test_agrees_with_the_modules(kind: str) -> None:
    assert_agree(make_model(kind))


@pytest.mark.parametrize("heads", [(4, 4), (4, 1), (2, 2)])
def test_any_sharing_of_key_heads(heads: tuple[int, int]) -> None:
    assert_agree(make_model(num_attention_heads=heads[0], num_key_value_heads=heads[1]))


@pytest.mark.parametrize("experts", [1, 2, 16])
def test_any_number_of_experts(experts: int) -> None:
    trace = assert_agree(make_model(experts=experts))
    assert trace.router_logits.shape[1:] == ((3, 3, experts) if experts > 1 else (0, 0, 0))


def read_side_by_side(reading: Reading, device: str = "cpu") -> tuple[Tensor, RoutingTrace]:
    """Two texts, of 5 and 8 tokens and then of one more each; logits [4, V] after the last of each, both times."""
    owners = torch.tensor([0] * 5 + [1] * 8 + [0, 1], device=device)  # [S]
    positions, logits = torch.tensor([*range(5), *range(8), 5, 8], device=device), []  # [S]
    with reading.recording():
        for rows, last in ((slice(13), [4, 12]), (slice(13, 15), [0, 1])):
            ids = IDS[rows]
            among = fast.Among.last(len(ids), owners[: rows.stop], positions[: rows.stop])
            blank, phase = [""] * len(ids), [PROMPT] * len(ids)
            kept = torch.tensor(last, device=device)
            logits.append(reading.read_among(ids, blank, phase, kept=kept, among=among))
    return torch.cat(logits), reading.trace({})


@pytest.mark.parametrize("edit", [None, RoutingEdit.drop([1]) | RoutingEdit.attention_off()])
@pytest.mark.parametrize("kind", ["llama-biased", "qwen2", "mistral"])
def test_texts_side_by_side_agree_with_the_modules_and_with_each_alone(kind: str, edit: RoutingEdit | None) -> None:
    model = make_model(kind)
    (logits, trace), (expected, routed) = (
        read_side_by_side(make(model, edit)) for make in (reading_of, plain_reading_of)
    )
    torch.testing.assert_close(logits, expected, rtol=RTOL, atol=ATOL)
    np.testing.assert_array_equal(trace.expert_ids, routed.expert_ids)
    np.testing.assert_allclose(trace.router_logits, routed.router_logits, rtol=RTOL, atol=ATOL)
    first, second = [*IDS[:5], IDS[13]], [*IDS[5:13], IDS[14]]
    alone = [read(reading_of(model, edit), (len(ids) - 1,), ids)[0] for ids in (first, second)]  # each [2, V]
    torch.testing.assert_close(logits.view(2, 2, -1), torch.stack(alone, dim=1), rtol=RTOL, atol=ATOL)


def test_logits_of_the_last_so_many_tokens() -> None:
    model, found = make_model(), []
    for make in (reading_of, plain_reading_of):
        reading = make(model)
        with reading.recording():
            found.append(reading.read_among(IDS, [""] * 24, [PROMPT] * 24, kept=5))
    logits, expected = found
    assert logits.shape == (5, 300)
    torch.testing.assert_close(logits, expected, rtol=RTOL, atol=ATOL)


def test_base_alone_and_rotary_of_long_contexts() -> None:
    assert_agree(make_model("qwen2", wrapped=False))
    assert_agree(make_model(rope_parameters=LLAMA3_ROPE))
    assert_agree(make_model(targets=("o_proj",)))


@pytest.mark.parametrize("kind", ["llama-biased", "qwen2"])
def test_bases_packed_by_bitsandbytes_agree_with_the_modules(kind: str) -> None:
    sizes = {"intermediate_size": 128}  # bitsandbytes' kernel for CPUs takes whole blocks of 64
    for wrapped in (True, False):
        assert_agree(pack_base(make_model(kind, wrapped=wrapped, **sizes), "nf4"), atol=BFLOAT16)


def test_activations_rounded_to_int8_go_the_same_way() -> None:
    model = pack_base(make_model("qwen2"), "int8")
    assert fast.fits(model)
    (logits, trace), (expected, routed) = read(reading_of(model)), read(plain_reading_of(model))
    near = (logits - expected).std() / expected.std()
    assert near < 0.03, "a last digit may round an activation to the next of 255 levels"
    assert (trace.expert_ids == routed.expert_ids).mean() > 0.95


EDITS = {
    "drop": RoutingEdit.drop([1, 2], layers=[0, 2]),
    "reroute": RoutingEdit.reroute([0], projections=["down_proj"]),
    "force": RoutingEdit.force([3], layers=[1], projections=["up_proj"]),
    "alone": RoutingEdit.alone(2, projections=["gate_proj"]),
    "uniform": RoutingEdit.uniform(layers=[2]),
    "experts_off": RoutingEdit.experts_off(),
    "attention_off": RoutingEdit.attention_off(),
    "base": RoutingEdit.base(),
    "several": RoutingEdit.drop([0]) | RoutingEdit.force([1], layers=[0]) | RoutingEdit.uniform(),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_agree_and_show(name: str) -> None:
    model = make_model("qwen2")
    assert_agree(model, EDITS[name])
    edited, _ = read(reading_of(model, EDITS[name]))
    unedited, _ = read(reading_of(model))
    assert not torch.allclose(edited, unedited, atol=1e-3), "the edit did something"


@pytest.mark.parametrize("edit", [RoutingEdit.experts_off(), RoutingEdit.attention_off(), RoutingEdit.base()])
def test_plain_lora_is_switched_off_by_parts(edit: RoutingEdit) -> None:
    assert_agree(make_model(experts=1), edit)


def test_an_expert_that_is_dropped_adds_nothing_even_where_it_overflows() -> None:
    model = make_model()
    for layer in model.model.layers:
        layer.mlp.down_proj.lora_A.data[:4] = torch.inf
    edit = RoutingEdit.force([0], projections=["down_proj"]) | RoutingEdit.drop([0], projections=["down_proj"])
    logits, _ = read(reading_of(model, edit))
    assert logits.isfinite().all()
    assert_agree(model, edit)


def test_an_expert_that_a_prompt_does_not_pick_adds_nothing_even_where_it_overflows() -> None:
    model = make_model()
    for layer in model.model.layers:
        layer.mlp.up_proj.lora_A.data[:4] = torch.inf
        layer.mlp.up_proj.router.bias.data[0] = -1e4
    trace = assert_agree(model)
    assert (trace.expert_ids[:, :, 1] != 0).all()


def test_turns_of_many_tokens_may_follow_single_ones() -> None:
    model = make_model()
    lean, plain = reading_of(model), plain_reading_of(model)
    for reading in (lean, plain):
        with reading.recording():
            for part in (IDS[:5], IDS[5:6], IDS[6:7], IDS[7:12], IDS[12:13]):
                reading.read(part, [""] * len(part), [PROMPT] * len(part))
    np.testing.assert_allclose(lean.trace({}).router_logits, plain.trace({}).router_logits, rtol=RTOL, atol=ATOL)


def test_past_the_first_buffer_nothing_is_lost() -> None:
    ids = torch.randint(300, (300,), generator=torch.Generator().manual_seed(4)).tolist()
    model = make_model()
    (logits, _), (expected, _) = (read(make(model), (250,), ids) for make in (reading_of, plain_reading_of))
    torch.testing.assert_close(logits, expected, rtol=RTOL, atol=ATOL)


def test_interleaved_readings_keep_their_own_past_and_edit() -> None:
    model = make_model()
    edits = (None, RoutingEdit.drop([0, 1]))
    alone = [read(reading_of(model, edit))[0] for edit in edits]
    readings = [reading_of(model, edit) for edit in edits]
    mixed: list[list[Tensor]] = [[], []]
    for part in (IDS[:START], *([token] for token in IDS[START:])):
        for reading, logits in zip(readings, mixed, strict=True):
            with reading.recording():
                logits.append(reading.read(part, [""] * len(part), [PROMPT] * len(part)))
    for apart, together in zip(alone, mixed, strict=True):
        torch.testing.assert_close(torch.cat(together), apart)


def test_adapters_that_bfloat16_holds_are_kept_so_and_lose_nothing() -> None:
    model = make_model()
    for name, weight in model.named_parameters():
        if "lora" in name:
            weight.data = weight.data.bfloat16().float()
    assert_agree(model)


def test_bfloat16_model_is_as_near_the_truth_as_the_modules_are() -> None:
    """Over several models: in each one a near tie that falls otherwise outweighs all rounding, on either way."""
    errors = [_errors_in_bfloat16(seed) for seed in range(8)]
    lean, modules = (sum(each) for each in zip(*errors, strict=True))
    assert lean < 1.2 * modules


def _errors_in_bfloat16(seed: int) -> tuple[float, float]:
    """How far the lean pass and the modules are from the same weights' float32."""
    model, generator = make_model("qwen2"), torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora" in name or "router" in name:
            weight.data.normal_(0, 0.2, generator=generator)
    model = model.bfloat16()
    for layer in model.model.layers:
        for linear in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
            linear.router.float()
    logits, expected = (read(make(model))[0] for make in (reading_of, plain_reading_of))
    assert logits.dtype == torch.bfloat16
    assert not torch.equal(logits, expected)
    truth, _ = read(plain_reading_of(model.float()))
    lean, modules = ((each.float() - truth).abs().mean().item() for each in (logits, expected))
    return lean, modules


@pytest.mark.cuda
@pytest.mark.parametrize("name", [None, *EDITS])
def test_agrees_with_the_modules_on_the_gpu(name: str | None) -> None:
    assert_agree(make_model("qwen2").cuda(), EDITS[name] if name else None)
    assert_agree(pack_base(make_model("qwen2").cuda(), "nf4"), EDITS[name] if name else None, atol=BFLOAT16)


@pytest.mark.cuda
def test_texts_side_by_side_agree_with_the_modules_on_the_gpu() -> None:
    model = make_model("qwen2").cuda()
    (logits, trace), (expected, routed) = (
        read_side_by_side(make(model), "cuda") for make in (reading_of, plain_reading_of)
    )
    torch.testing.assert_close(logits, expected, rtol=RTOL, atol=ATOL)
    np.testing.assert_array_equal(trace.expert_ids, routed.expert_ids)


def test_weights_changed_in_place_are_seen_by_the_next_request() -> None:
    model = make_model()
    read(reading_of(model))
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.lora_B.mul_(3)
        model.model.layers[0].self_attn.q_proj.lora_A.mul_(-1)
        model.model.layers[2].mlp.down_proj.router.bias.add_(torch.arange(4.0))
    assert_agree(model)
