"""Products with thin matrices: many rows or columns of a weight at a time, so that what stays is read less often.

Last axes, but for that of h, lie side by side and are multiples of `LANES`.
"""

from __future__ import annotations

import numpy as np

from molora.fast.kernel.keeping import inner
from molora.fast.kernel.lanes import LANES, Floats, Narrow, as_two, in_line, load, load_two, spread, store, total
from molora.fast.kernel.prefetching import lines_of, prefetch

TWO = 2 * LANES
"""What `load_two` loads"""


@inner
def product(weight: Narrow, x: Narrow, h: Floats) -> None:
    """h [R] = weight [R, I] @ x [I]."""
    r, rank, size, zero = 0, weight.shape[0], x.shape[0], spread(np.float32(0))
    even = size - size % TWO
    while r + 8 <= rank:
        s0, s1, s2, s3, s4, s5, s6, s7 = zero, zero, zero, zero, zero, zero, zero, zero
        for i in range(0, even, TWO):
            v, w = as_two(weight, load(x, i), load(x, i + LANES))
            one, two = load_two(weight[r], i)
            s0 = s0 + one * v + two * w
            one, two = load_two(weight[r + 1], i)
            s1 = s1 + one * v + two * w
            one, two = load_two(weight[r + 2], i)
            s2 = s2 + one * v + two * w
            one, two = load_two(weight[r + 3], i)
            s3 = s3 + one * v + two * w
            one, two = load_two(weight[r + 4], i)
            s4 = s4 + one * v + two * w
            one, two = load_two(weight[r + 5], i)
            s5 = s5 + one * v + two * w
            one, two = load_two(weight[r + 6], i)
            s6 = s6 + one * v + two * w
            one, two = load_two(weight[r + 7], i)
            s7 = s7 + one * v + two * w
        h[r], h[r + 1], h[r + 2], h[r + 3] = total(s0), total(s1), total(s2), total(s3)
        h[r + 4], h[r + 5], h[r + 6], h[r + 7] = total(s4), total(s5), total(s6), total(s7)
        if even < size:
            v = load(x, even)
            for own in range(r, r + 8):
                h[own] += total(load(weight[own], even) * v)
        r += 8
    while r < rank:
        s0 = zero
        for i in range(0, size, LANES):
            s0 += load(weight[r], i) * load(x, i)
        h[r] = total(s0)
        r += 1


@inner
def products(weight: Narrow, x: Narrow, other: Narrow, h: Floats, other_h: Floats, ahead: int) -> None:
    """The same for two tokens; rows so far `ahead`, if any, are asked for in time."""
    r, rank, size, zero = 0, weight.shape[0], x.shape[0], spread(np.float32(0))
    while r + 4 <= rank:
        if ahead > 0:
            prefetch(weight, (r + ahead) * size, lines_of(weight, 4 * size))
        s0, s1, s2, s3, t0, t1, t2, t3 = zero, zero, zero, zero, zero, zero, zero, zero
        for i in range(0, size, LANES):
            v, w = load(x, i), load(other, i)
            one, two = load(weight[r], i), load(weight[r + 1], i)
            s0 += one * v
            t0 += one * w
            s1 += two * v
            t1 += two * w
            one, two = load(weight[r + 2], i), load(weight[r + 3], i)
            s2 += one * v
            t2 += one * w
            s3 += two * v
            t3 += two * w
        h[r], h[r + 1], h[r + 2], h[r + 3] = total(s0), total(s1), total(s2), total(s3)
        other_h[r], other_h[r + 1], other_h[r + 2], other_h[r + 3] = total(t0), total(t1), total(t2), total(t3)
        r += 4
    while r < rank:
        s0, t0 = zero, zero
        for i in range(0, size, LANES):
            one = load(weight[r], i)
            s0 += one * load(x, i)
            t0 += one * load(other, i)
        h[r], other_h[r] = total(s0), total(t0)
        r += 1


@inner
def add_rows(y: Narrow, h: Floats, b: Narrow) -> None:
    """y [O] += h [R] @ b [R, O]."""
    o, rank, size, zero = 0, h.shape[0], y.shape[0], spread(np.float32(0))
    while o + 2 * TWO <= size:
        s0, s1, s2, s3 = zero, zero, zero, zero
        for r in range(rank):
            v = spread(h[r])
            one, two = load_two(b[r], o)
            s0, s1 = s0 + one * v, s1 + two * v
            one, two = load_two(b[r], o + TWO)
            s2, s3 = s2 + one * v, s3 + two * v
        s0, s1 = in_line(b, s0, s1)
        s2, s3 = in_line(b, s2, s3)
        store(y, o, load(y, o) + s0)
        store(y, o + LANES, load(y, o + LANES) + s1)
        store(y, o + TWO, load(y, o + TWO) + s2)
        store(y, o + TWO + LANES, load(y, o + TWO + LANES) + s3)
        o += 2 * TWO
    while o < size:
        s0 = load(y, o)
        for r in range(rank):
            s0 += load(b[r], o) * spread(h[r])
        store(y, o, s0)
        o += LANES


@inner
def add_both(y: Narrow, other: Narrow, h: Floats, other_h: Floats, b: Narrow, ahead: int) -> None:
    """The same for two tokens; rows `ahead` are asked for in time."""
    o, rank, size = 0, h.shape[0], y.shape[0]
    while o + 4 * LANES <= size:
        o1, o2, o3 = o + LANES, o + 2 * LANES, o + 3 * LANES
        s0, s1, s2, s3 = load(y, o), load(y, o1), load(y, o2), load(y, o3)
        t0, t1, t2, t3 = load(other, o), load(other, o1), load(other, o2), load(other, o3)
        for r in range(rank):
            v, w = spread(h[r]), spread(other_h[r])
            prefetch(b, (r + ahead) * size + o, lines_of(b, 4 * LANES))
            one, two = load(b[r], o), load(b[r], o1)
            s0 += one * v
            t0 += one * w
            s1 += two * v
            t1 += two * w
            one, two = load(b[r], o2), load(b[r], o3)
            s2 += one * v
            t2 += one * w
            s3 += two * v
            t3 += two * w
        store(y, o, s0)
        store(y, o1, s1)
        store(y, o2, s2)
        store(y, o3, s3)
        store(other, o, t0)
        store(other, o1, t1)
        store(other, o2, t2)
        store(other, o3, t3)
        o += 4 * LANES
    add_rows(y[o:], h, b[:, o:])
    add_rows(other[o:], other_h, b[:, o:])
