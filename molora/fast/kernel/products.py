"""Products with thin matrices: many rows of a weight at a time, so that what stays is read less often.

Last axes, but for that of h, lie side by side and are multiples of `LANES`.
"""

from __future__ import annotations

import numpy as np

from molora.fast.kernel.keeping import inner
from molora.fast.kernel.lanes import LANES, Floats, Narrow, as_two, load, load_two, spread, total

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
def products(weight: Narrow, x: Narrow, other: Narrow, h: Floats, other_h: Floats) -> None:
    """The same for two tokens."""
    r, rank, size, zero = 0, weight.shape[0], x.shape[0], spread(np.float32(0))
    while r + 4 <= rank:
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
