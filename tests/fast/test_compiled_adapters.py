"""Adapters in compiled code against those in torch's own functions: for one token and for many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from molora.edits import Masks
from molora.fast import kernel
from molora.fast import linears as module
from molora.fast.adapter import Experts, Picked, PlainLora
from molora.fast.kernel.lanes import LANES
from molora.fast.layout import experts_arrays, lora_arrays
from molora.fast.levels import Levels
from molora.fast.linears import CompiledExperts
from molora.fast.plan import Plan
from tests.fast_adapters import E, I, O, assert_equal, linears, picks, some_masks


def adapted(
    x: Tensor,
    y: Tensor,
    *,
    onto: bool,
    experts: Any = None,
    lora: Any = None,
    on: bool = True,
    masks: Masks | None = None,
    words: Any = None,
    parts: int = 1,
) -> Any:
    """What the compiled function makes of it: y, and the routers' rows [P, E+2K]. Without words the base adds nothing
    but its bias, 0, 1 and so on."""
    p, e, k = experts.sizes if experts else (0, 0, 0)
    masks = masks or Masks(torch.zeros(p, e), torch.ones(p, e, dtype=torch.bool), torch.zeros(p, e))
    (array, _) = Plan({0: (masks, masks)}).arrays[0]
    rows, width = np.empty((p, e + 2 * k), np.float32), y.shape[1]
    words = np.empty((width // LANES, 0), np.int32) if words is None else words
    adapter = experts_arrays(experts) if experts else lora_arrays(lora)
    given = words, np.arange(0, width + 1, O), np.arange(width, dtype=np.float32), adapter
    kernel.adapted(x[0].numpy(), given, on, array, rows, y[0].numpy(), onto, parts)
    return y, rows


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize(("count", "rank", "top_k"), [(2, 8, 2), (1, 6, 1), (3, 1, 5)])
@torch.inference_mode()
def test_experts_agree_with_torch(count: int, rank: int, top_k: int, edited: bool, coarse: bool, parts: int) -> None:
    experts = Experts(linears(count, rank, top_k, coarse=coarse))
    masks = some_masks(count) if edited else None
    x, y = torch.randn(1, I), torch.randn(1, count * O)
    expected, picked = experts.add(x, y + torch.arange(count * O), masks)
    given, rows = adapted(x, y, onto=True, experts=experts, masks=masks, parts=parts)
    assert_equal(given, expected)
    logits, ids, weights = np.split(rows, [E, E + top_k], axis=1)
    assert_equal(logits, picked.logits)
    assert_equal(weights, picked.weights)
    assert ids.tolist() == picked.expert_ids.tolist()


def assert_as_near(given: Tensor, expected: Tensor, in_torch: Tensor) -> None:
    """To float32's rounding, and where it is bfloat16 as near to the truth as torch comes in bfloat16."""
    if given.dtype == torch.float32:
        torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)
        return
    error, usual = (one.float() - expected for one in (given, in_torch))
    assert error.norm() <= 1.05 * usual.norm()
    assert error.abs().max() <= 1.5 * usual.abs().max()


def seen_by(experts: Experts, x: Tensor, parts: list[Tensor], masks: Masks | None = None) -> Picked:
    """What they say they picked, having added to the parts."""
    seen: Any = picks([experts.sizes], len(x)) if isinstance(experts, CompiledExperts) else []
    experts.add_many(x, parts, masks, seen)
    (picked,) = seen if isinstance(seen, list) else seen.all()
    return picked


FLOAT, HALF = torch.float32, torch.bfloat16


@pytest.mark.parametrize(
    ("x_dtype", "dtype", "coarse", "parts"),
    [(FLOAT, FLOAT, False, 1), (FLOAT, FLOAT, True, 3), (FLOAT, HALF, True, 3), (HALF, HALF, True, 1)],
)  # each kind is compiled, which takes seconds
@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize(("count", "rank", "top_k"), [(2, 8, 2), (1, 6, 1), (3, 1, 5)])
@torch.inference_mode()
def test_experts_of_many_tokens_agree_with_torch(
    count: int,
    rank: int,
    top_k: int,
    edited: bool,
    x_dtype: torch.dtype,
    dtype: torch.dtype,
    coarse: bool,
    parts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "threads", lambda: parts)
    made = linears(count, rank, top_k, coarse=coarse)
    if edited:
        made[0].lora_A.data[rank : 2 * rank] = torch.inf  # those of an expert that the edit switches off
    masks = some_masks(count) if edited else None
    x = torch.randn(101, I).to(x_dtype)
    given = [torch.randn(101, O).to(dtype) for _ in range(count)]
    expected, in_torch = [one.clone().float() for one in given], [one.clone() for one in given]
    seen_by(Experts(made), x, in_torch, masks)
    plain, picked = seen_by(Experts(made), x.float(), expected, masks), seen_by(CompiledExperts(made), x, given, masks)
    assert_equal(picked.logits, plain.logits)
    assert_equal(picked.weights, plain.weights)
    assert picked.expert_ids.tolist() == plain.expert_ids.tolist()
    for three in zip(given, expected, in_torch, strict=True):
        assert_as_near(*three)


@pytest.mark.parametrize("dtype", [FLOAT, HALF])
@pytest.mark.parametrize("tokens", [1, 9])
@torch.inference_mode()
def test_gate_and_up_of_many_tokens_agree_with_torch(tokens: int, dtype: torch.dtype) -> None:
    made = linears(2, 8, coarse=True)
    x, gate, up = torch.randn(tokens, I), torch.randn(tokens, O).to(dtype), torch.randn(tokens, O).to(dtype)
    expected = Experts(made).gate_many(x, gate.clone().float(), up.clone().float(), None, [])
    in_torch = Experts(made).gate_many(x, gate.clone(), up.clone(), None, [])
    given = CompiledExperts(made).gate_many(x, gate, up, None, picks([(2, E, 2)], tokens))
    assert_as_near(given, expected, in_torch)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("on", [False, True])
@torch.inference_mode()
def test_plain_lora_agrees_with_torch(coarse: bool, on: bool) -> None:
    lora = PlainLora(linears(3, 2, experts=1, coarse=coarse))
    x, base = torch.randn(1, I), torch.arange(3.0 * O)[None]
    given, _ = adapted(x, torch.full((1, 3 * O), torch.nan), onto=False, lora=lora, on=on)
    assert_equal(given, lora.add(x, base) if on else base)


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
@pytest.mark.parametrize("onto", [False, True])
@pytest.mark.parametrize("plain", [False, True])
@torch.inference_mode()
def test_the_base_is_multiplied_on_the_way(plain: bool, onto: bool, parts: int) -> None:
    wrapped = linears(2, 4, experts=1 if plain else E, size=64)
    grid = torch.randint(0, 16, (2 * O, 2, 32)).float(), torch.rand(2 * O, 2), torch.randn(2 * O, 2)
    levels = Levels.pack(*grid)
    x, y = torch.randn(1, 64), torch.randn(1, 2 * O)
    base = (y if onto else 0) + levels.multiply(x) + torch.arange(2.0 * O)
    adapters: Any = {"lora": PlainLora(wrapped)} if plain else {"experts": Experts(wrapped)}
    expected = adapters["lora"].add(x, base) if plain else adapters["experts"].add(x, base, None)[0]
    given, _ = adapted(x, y, onto=onto, words=levels.words, parts=parts, **adapters)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)


def test_an_expert_without_weight_adds_nothing_even_where_it_overflows() -> None:
    wrapped = linears(1, 2)
    wrapped[0].lora_A.data[2:4] = torch.inf
    wrapped[0].lora_B.data[:, 2:4] = torch.inf
    masks = Masks(
        torch.tensor([[0, torch.inf, 0, 0, 0]]), torch.tensor([[True, False, True, True, True]]), torch.zeros(1, E)
    )
    y, rows = adapted(torch.ones(1, I), torch.zeros(1, O), onto=True, experts=Experts(wrapped), masks=masks)
    assert -1 in rows[0, E : E + 2]
    assert y.isfinite().all()
