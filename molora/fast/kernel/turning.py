"""What attention reads of many tokens: queries and keys turned to their positions, keys and values in the cache."""

from __future__ import annotations

import numpy as np

from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Floats, Narrow, load, spread, store
from molora.fast.kernel.parallel import share
from molora.fast.kernel.shares import chunks_of, holder


@inner
def _turn(row: Narrow, cos: Floats, sin: Floats, scale: float, to: Narrow) -> None:
    """One head's [D]; `sin` is signed, and goes with the halves swapped."""
    half, factor = row.shape[0] // 2, spread(scale)
    for i in range(0, row.shape[0], LANES):
        other = i + half if i < half else i - half
        store(to, i, (load(row, i) * load(cos, i) + load(row, other) * load(sin, i)) * factor)


@inner
def _turn_some(
    part: int,
    parts: int,
    states: Narrow,
    cos: Floats,
    sin: Floats,
    scale: float,
    query: Narrow,
    buffer: Narrow,
    at: int,
) -> None:
    (heads, count, size), groups = query.shape, buffer.shape[1]
    ends = chunks_of(count, parts)
    for chunk in range(len(ends) - 1):
        if holder(chunk, parts) != part:
            continue
        for n in range(ends[chunk], ends[chunk + 1]):
            for head in range(heads):
                _turn(states[n, head], cos[n], sin[n], np.float32(scale), query[head, n])
            for group in range(groups):
                _turn(states[n, heads + group], cos[n], sin[n], np.float32(1), buffer[0, group, at + n])
                value = states[n, heads + groups + group]
                for i in range(0, size, LANES):
                    store(buffer[1, group, at + n], i, load(value, i))


@kept
def all_turned(
    states: Narrow,
    cos: Floats,
    sin: Floats,
    scale: float,
    query: Narrow,
    buffer: Narrow,
    place: int,
    parts: int,
) -> None:
    """states [N, H+2G, D], cos and sin [N, D] -> query [H, N, D], times the scale, and the buffer [2, G, room, D] from
    a place on. Each part of the work sees some of the tokens; D is a multiple of twice `LANES`."""
    share(_turn_some, parts, states, cos, sin, scale, query, buffer, place)
