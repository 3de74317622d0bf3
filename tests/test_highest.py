"""The K highest by blocks: what topk gives, wherever they lie."""

from __future__ import annotations

import pytest
import torch

from molora.highest import highest


@pytest.mark.parametrize(("size", "k"), [(49152, 5), (49152, 128), (4096, 128), (4097, 5), (96, 3), (96, 2), (3, 3)])
def test_as_topk(size: int, k: int) -> None:
    scores = torch.randn(4, size, generator=torch.Generator().manual_seed(size + k))
    values, ids = highest(scores, k)
    expected = scores.topk(k, dim=-1)
    torch.testing.assert_close(values, expected.values, rtol=0, atol=0)
    assert torch.equal(ids, expected.indices)


def test_all_in_one_block_or_each_in_its_own() -> None:
    scores = torch.zeros(2, 640)
    scores[0, 64:69] = torch.arange(1.0, 6)
    scores[1, [0, 100, 200, 300, 639]] = torch.arange(1.0, 6)
    _, ids = highest(scores, 5)
    assert ids.tolist() == [[68, 67, 66, 65, 64], [639, 300, 200, 100, 0]]


def test_barred_scores_are_never_taken_before_others() -> None:
    scores = torch.full((1, 640), -torch.inf)
    scores[0, 7], scores[0, 500] = 1, 2
    values, ids = highest(scores, 3)
    assert ids[0, :2].tolist() == [500, 7]
    assert values[0].tolist() == [2, 1, -torch.inf]
    assert 0 <= int(ids[0, 2]) < 640


def test_of_equal_scores_different_ones_are_taken() -> None:
    _, ids = highest(torch.ones(1, 640), 9)
    assert len(set(ids[0].tolist())) == 9
