"""Products with weights of 4 bits against the weights themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from molora.fast import levels as module
from molora.fast.kernel.lanes import LANES
from molora.fast.levels import Levels, grid_of
from tests.fast_models import as_cpu


def grid(rows: int, blocks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Levels [O, G, 32], scales and centres [O, G], as bfloat16 holds them."""
    torch.manual_seed(0)
    levels = torch.randint(0, 16, (rows, blocks, 32)).float()
    levels[..., 3], levels[..., 30] = 0, 15  # as a block has them that was fitted to its ends
    scales, centres = torch.rand(rows, blocks), torch.randn(rows, blocks)
    return levels, scales.bfloat16().float(), centres.bfloat16().float()


def weights(levels: Tensor, scales: Tensor, centres: Tensor) -> Tensor:
    return ((levels - 8) * scales[..., None] + centres[..., None]).flatten(1)  # [O, I]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize(("rows", "blocks"), [(16, 1), (48, 3), (112, 18)])
def test_multiplies_by_the_weights(
    rows: int,
    blocks: int,
    tokens: int,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "threads", lambda: threads)
    monkeypatch.setattr(module, "WORTH", 1)
    given = grid(rows, blocks)
    x = torch.randn(blocks * 32, tokens).T  # not side by side
    expected, y = x @ weights(*given).T, Levels.pack(*given).multiply(x)
    assert y.shape == (tokens, rows)
    assert y.dtype == torch.float32
    error = (y - expected).abs().max() / expected.std()
    assert error < 2e-4


@pytest.mark.parametrize("number", [1e-30, 1e30])
def test_no_input_is_too_small_or_too_large(number: float) -> None:
    given = grid(16, 2)
    x = torch.cat([number * torch.randn(1, 32), torch.zeros(1, 32)], dim=-1)
    expected, y = x @ weights(*given).T, Levels.pack(*given).multiply(x)
    torch.testing.assert_close(y / number, expected / number, rtol=1e-3, atol=1e-3)


def test_what_is_next_to_nothing_counts_as_nothing() -> None:
    levels = Levels.pack(torch.full((16, 1, 32), 8.0), torch.ones(16, 1), torch.zeros(16, 1))  # weights of 0
    assert not levels.multiply(torch.tensor([[0.0, 1e-35] * 16])).any()


@pytest.mark.parametrize("extreme", [32767, -32767, 1])
def test_no_sum_overflows(extreme: float) -> None:
    levels = torch.full((16, 1, 32), 15.0 if extreme != 1 else 0.0)
    x = torch.full((1, 32), float(extreme))
    y = Levels.pack(levels, torch.ones(16, 1), torch.zeros(16, 1)).multiply(x)
    assert torch.equal(y, (x @ (levels - 8).flatten(1).T)), "whole numbers are multiplied exactly"


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_what_is_no_number_stays_so(broken: float) -> None:
    x = torch.randn(1, 64)
    x[0, 40] = broken
    assert not Levels.pack(*grid(16, 2)).multiply(x).isfinite().any()


def test_a_weight_takes_five_bits() -> None:
    """4, and two bfloat16 for each block of 32."""
    assert Levels.pack(*grid(48, 3)).nbytes == 48 * 96 * 5 // 8


@pytest.mark.parametrize("sizes", [(16,), (32, 48)])
def test_levels_are_found_that_give_back_the_weights(sizes: Any) -> None:
    given = grid(sum(sizes), 3)
    given[0][3, 1], given[0][4] = 5, 9  # a block, and a row, of one value each
    levels = Levels.of(weights(*given).split(sizes))
    assert levels is not None
    x = torch.randn(4, 96)
    found, expected = levels.multiply(x), x @ weights(*given).T
    assert (found - expected).abs().max() < 3e-2 * expected.std(), "scales and centres are bfloat16"


@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_code_finds_the_levels_that_torch_finds(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "threads", lambda: threads)
    weight = weights(*grid(64, 3)) * 1.01
    levels, scales, centres = grid_of(weight) or pytest.fail("it is on a grid")
    found, expected = Levels.of([weight]), Levels.pack(levels, scales, centres)
    assert found is not None
    one, other = (torch.from_numpy(each.words).view(4 * 16 // LANES, 3, 5, LANES) for each in (found, expected))
    assert torch.equal(one[:, :, :4], other[:, :, :4])
    halves, others = (each[:, :, 4].contiguous().view(torch.bfloat16).float() for each in (one, other))
    torch.testing.assert_close(halves, others, rtol=2**-7, atol=0)  # a tie may go either way


@pytest.mark.parametrize("off", [0.02, torch.nan, torch.inf, -torch.inf])
def test_one_weight_off_its_grid_is_enough_for_none(off: float) -> None:
    weight = weights(*grid(32, 2))
    weight[17, 40] += off
    assert Levels.of([weights(*grid(16, 2)), weight]) is None


@pytest.mark.parametrize(
    ("name", "instructions", "fast"),
    [
        ("AMD EPYC 9R14", ["avx512_bf16"], True),
        ("Intel Xeon", ["avx512_bf16"], False),
        ("Intel Xeon", ["avx512_bf16", "amx_bf16"], True),
        ("Intel Xeon", [], False),
        ("", ["avx512_bf16"], True),
    ],
)
def test_bfloat16_is_for_cpus_that_gain_by_it(
    name: str, instructions: list[str], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_cpu(monkeypatch, "AVX512", *instructions, name=name)
    assert module.multiplies_bfloat16() is fast
