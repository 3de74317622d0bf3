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
