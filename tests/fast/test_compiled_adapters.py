"""Adapters in compiled code against those in torch's own functions: for one token and for many."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm as Norm

from molora.config import LoraConfig
from molora.edits import Masks
from molora.fast import kernel
from molora.fast import linears as module
from molora.fast.adapter import Experts, Picked, PlainLora
from molora.fast.kernel.lanes import LANES
from molora.fast.layout import experts_arrays, lora_arrays
from molora.fast.levels import Levels
from molora.fast.linears import CompiledExperts, CompiledSite
from molora.fast.picks import Picks
from molora.fast.plan import Plan
from molora.layers import MoloraLinear

I, O, E = 48, 80, 5  # O: a tile, and less than one


def assert_equal(given: Any, expected: Any) -> None:
    """But for float32's rounding."""
    torch.testing.assert_close(torch.as_tensor(given), torch.as_tensor(expected), rtol=1e-5, atol=1e-5)


def linears(
    count: int, rank: int, top_k: int = 2, experts: int = E, *, coarse: bool = False, size: int = I
) -> list[MoloraLinear]:
    """`coarse`: with weights that bfloat16 holds, which are read as such."""
    torch.manual_seed(0)
    made = []
    for _ in range(count):
        linear = MoloraLinear(nn.Linear(size, O), experts, top_k, LoraConfig(rank, 2.0 * rank))
        nn.init.normal_(linear.lora_B)
        if linear.router is not None:
            nn.init.normal_(linear.router.bias)
        if coarse:
            for weight in (linear.lora_A, linear.lora_B):
                weight.data = weight.data.bfloat16().float()
        made.append(linear.eval())
    return made


def picks(sizes: list[tuple[int, int, int]], tokens: int) -> Picks:
    return Picks(sizes, tokens, partial(np.empty, dtype=np.float32))


def some_masks(count: int) -> Masks:
    """The first router never picks expert 0, always 1, whose part is skipped, and gives 2 no weight; all that the last
    one picks weigh alike."""
    offset, kept, shift = torch.zeros(count, E), torch.ones(count, E, dtype=torch.bool), torch.zeros(count, E)
    offset[0, :2] = torch.tensor([-torch.inf, torch.inf])
    kept[0, 1] = False
    shift[0, 2] = -torch.inf
    return Masks(offset, kept, shift, torch.tensor([[1.0]] * (count - 1) + [[0.0]]))


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
    adapter = experts_arrays(experts, whole=False) if experts else lora_arrays(lora, whole=False)
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


@pytest.mark.parametrize("parts", [1, 3])
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
    return site.compiled.arrays[-1][3]


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
