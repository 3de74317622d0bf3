"""Which of many tokens a thread works on: the same ones in each function, so that it finds what it left of them in its
core's own cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from molora.fast.kernel.keeping import inner
from molora.fast.kernel.several import TOGETHER

CHUNK = 22 * TOGETHER
"""Tokens of which a few columns stay in a core's first cache, and all that a linear reads in its second"""
_FEW = CHUNK // 4


@inner
def chunks_of(tokens: int, parts: int) -> NDArray[np.int64]:
    """Where chunks of the tokens begin, and the last one ends: few tokens are one."""
    return chunks_by(TOGETHER, tokens, parts)


@inner
def chunks_by(together: int, tokens: int, parts: int) -> NDArray[np.int64]:
    """The same, of so many tokens together and what is left of them."""
    groups = -(-tokens // together)
    each = 2 * parts if parts > 1 else 1
    count = 1 if tokens < _FEW else each * -(-groups * together // (each * CHUNK))
    return np.minimum(np.arange(count + 1) * groups // count * together, tokens)


@inner
def holder(chunk: int, parts: int) -> int:
    """The part of the work that a chunk belongs to: in turns, there and back, for the later ones attend to more."""
    turn = chunk % (2 * parts)
    return min(turn, 2 * parts - 1 - turn)
