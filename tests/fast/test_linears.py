"""Linears in compiled code, the base in 4 bits and adapters at once, against those in torch's own functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm as Norm

from molora.fast import kernel
from molora.fast import linears as module
from molora.fast.adapter import Experts, Picked, PlainLora
from molora.fast.kernel.lanes import LANES
from molora.fast.levels import Levels
from molora.fast.linears import CompiledExperts, CompiledSite
from molora.layers import MoloraLinear
from tests.fast_adapters import E, O, assert_equal, linears, picks, some_masks

FLOAT = torch.float32


def packable(count: int, width: int, **shape: Any) -> list[MoloraLinear]:
    """Adapters on bases of 16 levels a block."""
    made = linears(count, size=64, **shape)
    for linear in made:
        levels = torch.randint(-8, 8, (width, 2, 32)).float()
        levels[:, :, :2] = torch.tensor([-8.0, 7.0])  # or they could be told otherwise
        scales, centres = (each.bfloat16().float() for each in (torch.rand(width, 2, 1), torch.randn(width, 2, 1)))
        linear.base_layer.weight.data = (levels * scales + centres).flatten(1)
    return made


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("tokens", [1, 4, 21, 275])  # from 256 on each thread keeps to its own
@pytest.mark.parametrize("kind", ["experts", "edited", "one router", "lora", "lora off", "base"])
@torch.inference_mode()
def test_many_tokens_go_through_4_bits_and_adapters_at_once(
    kind: str, tokens: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "threads", lambda: threads)
    monkeypatch.setattr(module, "WORTH", 1)
    count, experts = 1 if kind == "one router" else 2, 1 if kind.startswith("lora") else E
    made: Any = packable(count, O, rank=4, top_k=2, experts=experts, coarse=True)
    if kind == "edited":
        made[0].lora_A.data[4:8] = torch.inf  # those of an expert that the edit switches off
    masks = some_masks(count) if kind == "edited" else None
    given = [linear.base_layer for linear in made] if kind == "base" else made
    site, x = CompiledSite(given, True, FLOAT, CompiledExperts, apart=True), torch.randn(tokens, 64)
    assert site.compiled is not None
    assert site.base.packed is not None
    parts = [linear.base_layer(x) for linear in made]  # in float32
    sizes = [site.experts.sizes] if site.experts else []
    picked: list[Picked] = []
    if site.experts:
        Experts(made).add_many(x, parts, masks, picked)
    elif kind == "lora":
        parts = list(PlainLora(made).add(x, torch.cat(parts, dim=1)).split(O, dim=1))

    seen = picks(sizes, tokens)
    (y,) = site.many(x, masks, kind != "lora off", seen)
    torch.testing.assert_close(y, torch.cat(parts, dim=1), rtol=2e-3, atol=2e-2)
    if count == 2:
        gate, up = y.split(O, dim=1)
        gated = site.gated(x, masks, kind != "lora off", picks(sizes, tokens))
        torch.testing.assert_close(gated, torch.nn.functional.silu(gate) * up, rtol=1e-5, atol=1e-5)
    given = torch.randn(tokens, count * O)
    onto = given.clone()
    site.add_many(onto, x, masks, kind != "lora off", picks(sizes, tokens))
    torch.testing.assert_close(onto, given + y, rtol=1e-5, atol=1e-5)
    for one, other in zip(seen.all(), picked, strict=True):
        assert_equal(one.logits, other.logits)
        assert_equal(one.weights, other.weights)
        assert one.expert_ids.tolist() == other.expert_ids.tolist()


def words_of(site: CompiledSite) -> Any:
    """A's in whole numbers, if they are."""
    assert site.compiled is not None
    return site.compiled.arrays_of_many[-1][3]


@pytest.mark.parametrize("plain", [False, True])
@torch.inference_mode()
def test_float32_is_kept_to_where_rounding_would_cost_more_than_it_does_the_base(plain: bool) -> None:
    experts = 1 if plain else E
    for strong, coarse in ((False, True), (True, True), (False, False)):
        made: Any = packable(2, O, rank=4, top_k=2, experts=experts, coarse=coarse)
        if strong:
            made[1].lora_B.data[:, -4:] *= 64  # of the last expert
        words = words_of(CompiledSite(made, True, FLOAT, CompiledExperts, apart=True))
        assert bool(len(words)) == (coarse and not strong)


@pytest.mark.parametrize("rank", [LANES - 1, LANES + 3])  # one register of them, and two
@pytest.mark.parametrize("plain", [False, True])
@torch.inference_mode()
def test_many_tokens_go_through_adapters_of_any_rank(plain: bool, rank: int) -> None:
    made: Any = packable(2, O, rank=rank, top_k=2, experts=1 if plain else E, coarse=True)
    site, x = CompiledSite(made, True, FLOAT, CompiledExperts, apart=True), torch.randn(40, 64)
    assert len(words_of(site)) > 0
    parts = [linear.base_layer(x) for linear in made]
    if plain:
        parts = list(PlainLora(made).add(x, torch.cat(parts, dim=1)).split(O, dim=1))
    else:
        Experts(made).add_many(x, parts, None, [])
    (y,) = site.many(x, None, True, picks([] if plain else [(2, E, 2)], 40))
    torch.testing.assert_close(y, torch.cat(parts, dim=1), rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize("tokens", [1, 275])
@torch.inference_mode()
def test_a_norm_before_the_linears_agrees_with_torch(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "threads", lambda: 2)
    made: Any = packable(2, O, rank=4, top_k=2, experts=E)
    site, x, norm = CompiledSite(made, True, FLOAT, CompiledExperts, apart=True), torch.randn(tokens, 64), Norm(64, 0.1)
    nn.init.normal_(norm.weight)
    for read in (site.many, site.gated):
        first, second = picks([(2, E, 2)], tokens), picks([(2, E, 2)], tokens)
        given, expected = read(x, None, True, first, norm), read(norm(x), None, True, second)
        torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-2)
        assert_equal(first.all()[0].logits, second.all()[0].logits)


@pytest.mark.parametrize("over", [0, 1])
@torch.inference_mode()
def test_where_products_are_made_in_bfloat16_few_tokens_alone_go_through_4_bits(over: int) -> None:
    made: Any = packable(2, O, rank=4, top_k=2, experts=E)
    x = torch.randn(Levels.few + over, 64)
    sites = [CompiledSite(made, True, dtype, CompiledExperts, apart=True) for dtype in (FLOAT, torch.bfloat16)]
    whole, narrow = (torch.cat(site.many(x, None, True, picks([(2, E, 2)], len(x))), dim=-1) for site in sites)
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow, whole.bfloat16()) is not bool(over)
    assert (narrow - whole).abs().mean() < 2**-7 * whole.abs().mean()


@pytest.mark.parametrize("dtype", [FLOAT, torch.bfloat16])
@pytest.mark.parametrize("apart", [False, True])
@torch.inference_mode()
def test_results_are_added_to_whatever_is_there(apart: bool, dtype: torch.dtype) -> None:
    made: Any = packable(1, O, rank=4, top_k=2, experts=E)
    site, x = CompiledSite(made, True, dtype, CompiledExperts, apart=True), torch.randn(Levels.few, 64)
    room = torch.full((len(x), 2 * O), 3.0, dtype=dtype)
    y = room[:, :O] if apart else room[:, :O].contiguous()
    site.add_many(y, x, None, True, picks([(1, E, 2)], len(x)))
    (expected,) = site.many(x, None, True, picks([(1, E, 2)], len(x)))
    torch.testing.assert_close(y, 3 + expected)
    assert (room[:, O:] == 3).all(), "nothing else is written"


@pytest.mark.parametrize("groups", [1, 3])
@torch.inference_mode()
def test_rows_that_fill_no_panel_are_multiplied_too(groups: int) -> None:
    width = groups * LANES
    levels, scales, centres = torch.randint(0, 16, (width, 2, 32)), torch.rand(width, 2), torch.randn(width, 2)
    x, y, first = torch.randn(6, 64), torch.full((7, width), torch.nan), np.array([0, width])
    words = Levels.pack(levels.float(), scales, centres).words
    rows = np.empty((6, 0, 0), np.float32)
    bias, masks = np.ones(width, np.float32), np.empty((0, 4, 0), np.float32)
    given = x.numpy(), module._NO_NORM, (words, first, bias, module._NO_ADAPTER)
    kernel.all_adapted(*given, True, masks, rows, False, y.flatten().numpy(), False, 1)
    weight = (levels - 8) * scales.bfloat16().float()[..., None] + centres.bfloat16().float()[..., None]
    torch.testing.assert_close(y[:6], x @ weight.flatten(1).T + 1, rtol=1e-3, atol=1e-2)
    assert y[6].isnan().all(), "nothing else is written"


@pytest.mark.parametrize("level", [0, 15])
@pytest.mark.parametrize("sign", [-1, 1])
@torch.inference_mode()
def test_the_largest_sums_of_a_block_are_exact(level: int, sign: int) -> None:
    scales, centres = torch.full((LANES, 2), 0.5), torch.zeros(LANES, 2)
    words = Levels.pack(torch.full((LANES, 2, 32), float(level)), scales, centres).words
    x, y, first = torch.full((7, 64), 3.0 * sign), torch.empty(7, LANES), np.array([0, LANES])
    given = x.numpy(), module._NO_NORM, (words, first, np.zeros(LANES, np.float32), module._NO_ADAPTER)
    rows, masks = np.empty((7, 0, 0), np.float32), np.empty((0, 4, 0), np.float32)
    kernel.all_adapted(*given, True, masks, rows, False, y.flatten().numpy(), False, 1)
    torch.testing.assert_close(y, torch.full_like(y, sign * 3 * 64 * (level - 8) / 2), rtol=1e-6, atol=0)
