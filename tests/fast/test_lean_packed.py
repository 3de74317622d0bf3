"""Weights that have 4 bits (8 for the output layer) are read as such; others never are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from molora import fast
from molora.engine import Engine
from molora.fast.head import head_product
from molora.fast.product import product
from molora.info import engine_info
from molora.routers import grid_of
from molora.trace import PROMPT
from molora.wrap import wrapped_linears
from tests.fast_models import TOKENIZER, as_cpu, make_model, on_grid, packable_model, plain_reading_of, reading_of


def linear_on_grid(rows: int, columns: int, bias: bool = False) -> nn.Linear:
    linear = nn.Linear(columns, rows, bias=bias)
    linear.weight.data = on_grid(torch.randn(rows, columns), 16)
    return linear


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("bias", [False, True])
def test_four_bits_are_read_with_no_loss_but_bfloat16s(bias: bool) -> None:
    linears = [linear_on_grid(32, 64, bias), linear_on_grid(48, 64)]
    x = torch.randn(1, 64)
    with torch.no_grad():
        expected = torch.cat([linear(x) for linear in linears], dim=-1)
        y = product(linears, True).multiply(x)
        exact = product(linears, False).multiply(x)
    torch.testing.assert_close(exact, expected)
    assert y.dtype == torch.float32
    assert not torch.equal(y, expected), "it is packed"
    assert (y - expected).square().mean().sqrt() < 5e-3 * expected.square().mean().sqrt()


@pytest.mark.parametrize("kind", ["one weight", "all weights", "rows", "columns"])
def test_other_weights_are_read_as_they_are(kind: str) -> None:
    rows, columns = (33 if kind == "rows" else 64), (48 if kind == "columns" else 64)
    linear = nn.Linear(columns, rows) if kind != "one weight" else linear_on_grid(rows, columns)
    if kind == "one weight":
        linear.weight.data[60, 3] += 0.01
    x = torch.randn(1, columns)
    assert torch.equal(product([linear], True).multiply(x), linear(x))


def test_best_logits_are_exact_and_the_rest_near() -> None:
    head = nn.Linear(64, 2048, bias=False)
    head.weight.data = on_grid(torch.randn(2048, 64), 255, even=True)
    x = torch.randn(1, 64)
    with torch.no_grad():
        expected, logits = head(x)[0], head_product(head, True).multiply(x)[0]
    best = expected.topk(100).indices
    torch.testing.assert_close(logits[best], expected[best], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits, expected, rtol=1e-5, atol=1e-5), "it is packed"
    assert (logits - expected).abs().max() < 0.02 * expected.std()


def test_whether_a_model_packs_is_told_before_it_does() -> None:
    model = packable_model()
    assert not fast.packs(model), "not allowed"
    fast.allow_packing(model)
    assert fast.packs(model)
    model.model.layers[2].mlp.up_proj.base_layer.weight.data[3, 5] += 0.1
    assert not fast.packs(model), "one weight of one linear is off its grid"
    other = make_model()
    fast.allow_packing(other)
    assert not fast.packs(other)


@pytest.mark.parametrize(
    ("capability", "platform", "pays"),
    [("AVX2", "linux", True), ("AVX512", "darwin", True), ("DEFAULT", "linux", False), ("AVX512", "win32", False)],
)
def test_four_bits_are_left_where_the_kernel_has_no_vector_instructions(
    capability: str, platform: str, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_cpu(monkeypatch, capability)
    monkeypatch.setattr("sys.platform", platform)
    model = packable_model()
    fast.allow_packing(model)
    assert fast.packs(model) is pays
    linear, x = linear_on_grid(32, 64), torch.randn(1, 64)
    assert (product([linear], True).packed is not None) is pays
    if not pays:
        assert type(fast.step_of(model)) is fast.Step
        assert torch.equal(product([linear], True).multiply(x), linear(x))


def test_people_are_told_of_the_four_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = packable_model()
    given: dict[str, Any] = {"model": "m", "base": "b", "adapter_sha256": "", "quantization": "none", "device": "cpu"}
    assert engine_info(model, grid=grid_of(model), **given).precision == "float32"
    fast.allow_packing(model)
    info = engine_info(model, grid=grid_of(model), **given)
    assert info.precision == "4 bits", "throughout, in compiled code"
    for instructions, said in (
        ([], "4 bits"),
        (["avx512_bf16"], "bfloat16, decode in 4 bits"),
    ):
        as_cpu(monkeypatch, "AVX512", *instructions)
        info = engine_info(model, grid=grid_of(model), **given)
        assert info.precision == said
    trace = Engine(model, TOKENIZER, info).trace_text("a")
    assert trace.meta["precision"] == info.precision


def test_a_packed_step_reads_five_bits_a_weight() -> None:
    """4, and two bfloat16 for each block of 32; and not the zeros beside plain LoRA's B's on a diagonal."""
    plain, packed = packable_model(), packable_model()
    fast.allow_packing(packed)
    linears = wrapped_linears(plain)
    weights = sum(one.base_layer.weight.numel() for one in linears.values())
    zeros = sum(
        2 * one.r * one.out_features for name, one in linears.items() if name.split(".")[-1][:2] in {"q_", "k_", "v_"}
    )
    assert fast.step_of(plain).nbytes - fast.step_of(packed).nbytes == weights * (32 - 5) // 8 + 4 * zeros


@pytest.mark.parametrize("native", [False, True])
def test_a_prompt_is_read_in_bfloat16_where_the_cpu_has_it(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    as_cpu(monkeypatch, "AVX512", *["avx512_bf16"] * native)
    model = packable_model()
    plain = plain_reading_of(model)
    fast.allow_packing(model)
    routed = []
    for reading in (plain, reading_of(model)):
        with reading.recording():
            reading.read(range(40, 80), [""] * 40, [PROMPT] * 40)
        routed.append(reading.trace({}).router_logits)
    assert fast.prompt_dtype(model) == (torch.bfloat16 if native else torch.float32)
    assert fast.packs_prompts(model) is not native
    assert not np.allclose(routed[1], routed[0], rtol=1e-3, atol=1e-3)
    assert np.median(np.abs(routed[1] - routed[0])) < 0.01 * routed[0].std(), "but where it turned a pick"


def test_a_model_is_packed_only_where_it_was_allowed() -> None:
    ids = list(range(40, 60))
    routed = []
    for model, make in ((packable_model(), plain_reading_of), (packable_model(), reading_of)):
        reading = make(model)
        with reading.recording():
            for part in (ids[:5], *([token] for token in ids[5:])):
                reading.read(part, [""] * len(part), [PROMPT] * len(part))
        routed.append(reading.trace({}).router_logits)
    np.testing.assert_allclose(routed[1], routed[0], rtol=1e-4, atol=1e-4)

    model = packable_model()
    fast.allow_packing(model)
    reading = reading_of(model)
    with reading.recording():
        for part in (ids[:5], *([token] for token in ids[5:])):
            reading.read(part, [""] * len(part), [PROMPT] * len(part))
    packed = reading.trace({}).router_logits
    assert not np.allclose(packed, routed[0], rtol=1e-4, atol=1e-4)
    assert np.median(np.abs(packed - routed[0])) < 0.01 * routed[0].std(), "but where it turned a pick"
