from __future__ import annotations

import pytest
import torch

from molora.fast.gpu.likeliest import likeliest_of_one
from molora.likeliest import likeliest

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(("rows", "size"), [(1, 5000), (1, 151936), (1, 4096), (1, 300), (2, 5000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_agrees_with_torch(rows: int, size: int, dtype: torch.dtype) -> None:
    order = torch.randperm(rows * size, generator=torch.Generator().manual_seed(0)).view(rows, size)
    logits = (order.float().log2() * 8).to(DEVICE, dtype)  # spread so that the highest differ in bfloat16 too
    logits[order.to(DEVICE) < rows * size - 9] -= 1
    (ids, probabilities), (expected_ids, expected) = likeliest_of_one(logits), likeliest(logits)
    torch.testing.assert_close(probabilities, expected, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(logits.gather(-1, ids.long()), logits.gather(-1, expected_ids.long()))
    assert all(len(set(row)) == len(row) for row in ids.tolist())
