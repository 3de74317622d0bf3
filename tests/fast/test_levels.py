"""Products with weights of 4 bits, in torch's kernel and in compiled code, against the weights themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from molora.fast import levels as module
from molora.fast.levels import CompiledLevels, TorchLevels, pack4

KINDS = TorchLevels, CompiledLevels


def grid(rows: int, blocks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Levels [O, G, 32], scales and centres [O, G], as bfloat16 holds them."""
    torch.manual_seed(0)
    levels = torch.randint(0, 16, (rows, blocks, 32)).float()
    scales, centres = torch.rand(rows, blocks), torch.randn(rows, blocks)
    return levels, scales.bfloat16().float(), centres.bfloat16().float()


def weights(levels: Tensor, scales: Tensor, centres: Tensor) -> Tensor:
    return ((levels - 8) * scales[..., None] + centres[..., None]).flatten(1)  # [O, I]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize(("rows", "blocks"), [(16, 1), (48, 3), (112, 18)])
@pytest.mark.parametrize("kind", KINDS)
def test_multiplies_by_the_weights(
    kind: type[TorchLevels | CompiledLevels],
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
    expected, y = x @ weights(*given).T, kind.pack(*given).multiply(x)
    assert y.shape == (tokens, rows)
    assert y.dtype == torch.float32
    error = (y - expected).abs().max() / expected.std()
    assert error < (2e-4 if kind is CompiledLevels else 3e-2)


@pytest.mark.parametrize("number", [1e-30, 1e30])
def test_no_input_is_too_small_or_too_large(number: float) -> None:
    given = grid(16, 2)
    x = torch.cat([number * torch.randn(1, 32), torch.zeros(1, 32)], dim=-1)
    expected, y = x @ weights(*given).T, CompiledLevels.pack(*given).multiply(x)
    torch.testing.assert_close(y / number, expected / number, rtol=1e-3, atol=1e-3)


def test_what_is_next_to_nothing_counts_as_nothing() -> None:
    levels = CompiledLevels.pack(torch.full((16, 1, 32), 8.0), torch.ones(16, 1), torch.zeros(16, 1))  # weights of 0
    assert not levels.multiply(torch.tensor([[0.0, 1e-35] * 16])).any()


@pytest.mark.parametrize("extreme", [32767, -32767, 1])
def test_no_sum_overflows(extreme: float) -> None:
    levels = torch.full((16, 1, 32), 15.0 if extreme != 1 else 0.0)
    x = torch.full((1, 32), float(extreme))
    y = CompiledLevels.pack(levels, torch.ones(16, 1), torch.zeros(16, 1)).multiply(x)
    assert torch.equal(y, (x @ (levels - 8).flatten(1).T)), "whole numbers are multiplied exactly"


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_what_is_no_number_stays_so(broken: float) -> None:
    x = torch.randn(1, 64)
    x[0, 40] = broken
    assert not CompiledLevels.pack(*grid(16, 2)).multiply(x).isfinite().any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_takes_five_bits(kind: type[TorchLevels | CompiledLevels]) -> None:
    """4, and two bfloat16 for each block of 32."""
    assert kind.pack(*grid(48, 3)).nbytes == 48 * 96 * 5 // 8


@pytest.mark.parametrize(("capability", "kind"), [("AVX2", CompiledLevels), ("AVX512", TorchLevels)])
def test_compiled_code_multiplies_where_torchs_kernel_is_slow(
    capability: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert type(pack4(*grid(16, 1))) is kind
