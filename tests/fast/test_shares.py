from __future__ import annotations

from itertools import pairwise

import pytest

from molora.fast.kernel.several import TOGETHER
from molora.fast.kernel.shares import CHUNK, chunks_by, holder
from molora.fast.kernel.tiles import GROUP


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
@pytest.mark.parametrize("tokens", [1, 5, 40, 127, 512, 4096])
@pytest.mark.parametrize("together", [TOGETHER, GROUP])
def test_chunks_cover_all_tokens_once(together: int, tokens: int, parts: int) -> None:
    ends = chunks_by.py_func(together, tokens, parts).tolist()
    assert ends[0] == 0
    assert ends[-1] == tokens
    assert ends == sorted(ends)
    assert max(end - begin for begin, end in pairwise(ends)) <= CHUNK
    assert all(end % together == 0 for end in ends[:-1]), "none is read with others of another chunk"


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_parts_have_as_much_to_attend_to(parts: int) -> None:
    ends = chunks_by.py_func(TOGETHER, 2400, parts).tolist()
    owners = [holder.py_func(chunk, parts) for chunk in range(len(ends) - 1)]
    assert set(owners) == set(range(parts))
    work = [0.0] * parts
    for owner, (begin, end) in zip(owners, pairwise(ends), strict=True):
        work[owner] += sum(range(begin, end))
    assert max(work) < 1.1 * min(work)
