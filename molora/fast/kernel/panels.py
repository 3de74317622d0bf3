"""Many tokens through weights of 16 levels, and what adapters add to it.

A panel, a few rows of a weight, is unpacked once for all tokens. Products are in whole numbers, as in `levels`.

Axes: G blocks of 32 weights along I, B rows of a bank: what all experts, or plain LoRA, have for the rows of a panel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from molora.fast.kernel.instructions import Kind, in_all
from molora.fast.kernel.keeping import inner, shared
from molora.fast.kernel.lanes import LANES, Floats, Narrow, lanes_type, load, spread, spread_one, store
from molora.fast.kernel.levels import LEVELS_BLOCK, WORDS, halves_of, quantize
from molora.fast.kernel.numbers import float_array
from molora.fast.kernel.pairs import PAIRED, both, load_pairs, spread_pair, store_pairs, words_type
from molora.fast.kernel.prompt import gate, go_into, route
from molora.fast.kernel.ranks import down_room, go_down, laid_down, room
from molora.fast.kernel.token import Experts

WIDTH = 2 * LANES
"""Rows of a panel"""

_PAIRS = LEVELS_BLOCK // 2
_KIND = Kind.of(LANES)
_SHORTS = ir.VectorType(ir.IntType(16), PAIRED)


@intrinsic
def _nothing(typing_context: Any) -> Any:
    """Whole numbers of 0."""

    def zeros(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _KIND.each(0)

    return words_type(), zeros


@intrinsic
def _added(typing_context: Any, sums: Any, one: Any, other: Any) -> Any:
    """Sums, whole numbers, and both products of each pair."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.add(args[0], both(builder, *args[1:]))

    return words_type(sums, one, other), of


@intrinsic
def _floats(typing_context: Any, whole: Any) -> Any:
    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sitofp(args[0], _KIND.floats)

    return lanes_type(whole), of


@intrinsic
def _levels(typing_context: Any, words: Any, place: Any) -> Any:
    """Of both halves of words the level at a place, less 8."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words, place = args
        bits = in_all(builder, builder.trunc(builder.mul(place, ir.Constant(place.type, 4)), ir.IntType(16)), _SHORTS)
        level = builder.lshr(builder.bitcast(words, _SHORTS), bits)
        fifteen, eight = (ir.Constant(_SHORTS, [number] * PAIRED) for number in (15, 8))
        return builder.bitcast(builder.sub(builder.and_(level, fifteen), eight), _KIND.words)

    return words_type(words, types.intp), of


@inner
def _unpack(words: NDArray[np.int32], at: int, panel: NDArray[np.int16], scales: Floats, centres: Floats) -> None:
    """Of rows side by side, words [G * `WORDS` * W], their place in a panel: [G*16, 2*`WIDTH`], scales and centres
    [G, `WIDTH`]."""
    for g in range(scales.shape[0]):
        first = g * WORDS * LANES
        for number in range(WORDS - 1):
            some = load_pairs(words, first + number * LANES)
            for place in range(4):
                store_pairs(panel[g * _PAIRS + number * 4 + place], 2 * at, _levels(some, place))
        scale, centre = halves_of(words, first + (WORDS - 1) * LANES)
        store(scales[g], at, scale)
        store(centres[g], at, centre)


@inner
def _fill(bank: Floats, weight: Narrow, first: int, last: int) -> None:
    """Of a weight [B, O] the columns of a panel; the last ones twice where there are not enough."""
    for row in range(bank.shape[0]):
        store(bank[row], 0, load(weight[row], first))
        store(bank[row], LANES, load(weight[row], last))


@inner
def _four(
    panel: NDArray[np.int16],
    scales: Floats,
    centres: Floats,
    tokens: tuple[int, int, int, int],
    read: tuple[NDArray[np.int16], Floats, Floats],
) -> Any:
    """What four tokens give with the rows of a panel: two registers of each."""
    whole, steps, sums = read
    n, m, p, q = tokens
    x0, x1, x2, x3 = whole[n], whole[m], whole[p], whole[q]
    zero = spread(np.float32(0))
    a0, a1, b0, b1, c0, c1, d0, d1 = zero, zero, zero, zero, zero, zero, zero, zero
    for g in range(scales.shape[0]):
        none = _nothing()
        s0, s1, t0, t1, u0, u1, v0, v1 = none, none, none, none, none, none, none, none
        for pair in range(_PAIRS):
            row, at = panel[g * _PAIRS + pair], g * LEVELS_BLOCK + 2 * pair
            w0, w1 = load_pairs(row, 0), load_pairs(row, PAIRED)
            x = spread_pair(x0, at)
            s0, s1 = _added(s0, w0, x), _added(s1, w1, x)
            x = spread_pair(x1, at)
            t0, t1 = _added(t0, w0, x), _added(t1, w1, x)
            x = spread_pair(x2, at)
            u0, u1 = _added(u0, w0, x), _added(u1, w1, x)
            x = spread_pair(x3, at)
            v0, v1 = _added(v0, w0, x), _added(v1, w1, x)
        f0, f1, g0, g1 = load(scales[g], 0), load(scales[g], LANES), load(centres[g], 0), load(centres[g], LANES)
        step, sum_ = spread(steps[n, g]), spread(sums[n, 0, g])
        a0, a1 = a0 + (f0 * step * _floats(s0) + g0 * sum_), a1 + (f1 * step * _floats(s1) + g1 * sum_)
        step, sum_ = spread(steps[m, g]), spread(sums[m, 0, g])
        b0, b1 = b0 + (f0 * step * _floats(t0) + g0 * sum_), b1 + (f1 * step * _floats(t1) + g1 * sum_)
        step, sum_ = spread(steps[p, g]), spread(sums[p, 0, g])
        c0, c1 = c0 + (f0 * step * _floats(u0) + g0 * sum_), c1 + (f1 * step * _floats(u1) + g1 * sum_)
        step, sum_ = spread(steps[q, g]), spread(sums[q, 0, g])
        d0, d1 = d0 + (f0 * step * _floats(v0) + g0 * sum_), d1 + (f1 * step * _floats(v1) + g1 * sum_)
    return a0, a1, b0, b1, c0, c1, d0, d1


@inner
def _raised(four: Any, tokens: tuple[int, int, int, int], bank: Floats, h: Floats, ids: Floats, rank: int) -> Any:
    """The same with what h [N*K*R] adds through the rows of the experts that are picked, bank [B*`WIDTH`] and ids [N,
    K]: four tokens at once, so that no sum waits for its last one.

    No array is reshaped here: its holders would be counted at each call, in one place for all threads.
    """
    a0, a1, b0, b1, c0, c1, d0, d1 = four
    n, m, p, q = tokens
    size, width = rank * WIDTH, ids.shape[1] * rank
    n, m, p, q = n * width, m * width, p * width, q * width
    for k in range(ids.shape[1]):
        # for one switched off h is 0
        e, f = max(int(ids[tokens[0], k]), 0) * size, max(int(ids[tokens[1], k]), 0) * size
        g, i = max(int(ids[tokens[2], k]), 0) * size, max(int(ids[tokens[3], k]), 0) * size
        for r in range(rank):
            at, x = k * rank + r, r * WIDTH
            v = spread_one(h, n + at)
            a0 += load(bank, e + x) * v
            a1 += load(bank, e + x + LANES) * v
            v = spread_one(h, m + at)
            b0 += load(bank, f + x) * v
            b1 += load(bank, f + x + LANES) * v
            v = spread_one(h, p + at)
            c0 += load(bank, g + x) * v
            c1 += load(bank, g + x + LANES) * v
            v = spread_one(h, q + at)
            d0 += load(bank, i + x) * v
            d1 += load(bank, i + x + LANES) * v
    return a0, a1, b0, b1, c0, c1, d0, d1


@inner
def _put(y: Floats, place: int, other: int, low: Any, high: Any) -> None:
    store(y, place, low)
    store(y, other, high)


@inner
def _low(x: Floats, down: Narrow, h: Floats) -> None:
    """Plain LoRA's way down: tokens x [N, I] to h [P, N, R], by down [P*R, I]."""
    linears, tokens, rank = h.shape
    weight = laid_down(down, down_room(x, down, linears * rank), x)
    one, other = np.empty(linears * rank, np.float32), np.empty(linears * rank, np.float32)
    for n in range(0, tokens, 2):
        m = min(n + 1, tokens - 1)  # a last one alone goes with itself
        go_down(weight, x[n], x[m], one, other)
        for p in range(linears):
            for r in range(rank):
                h[p, n, r], h[p, m, r] = one[p * rank + r], other[p * rank + r]


@shared
def all_adapted(
    x: Floats,
    words: NDArray[np.int32],
    y_at: int,
    first: NDArray[np.int64],
    bias: Floats,
    lora: tuple[Narrow, Narrow, NDArray[np.int64]],
    experts: Experts,
    masks: Floats,
    rows: Floats,
    gates: bool,
    parts: int,
) -> None:
    """Many tokens through linears that read x [N, I]: the base's product and what their adapters add to it.

    Goes to y [N, P*O] at an address. first [P+1]: where each linear's results begin in a row. Where it `gates`, each
    one's results are apart, [P, N, O], and silu of the first one's times the second's takes the place of the first's.
    words as in `levels.multiplied`; bias, lora, experts, masks, and rows, here [N, P, E+2K], as in `token.adapted`; of
    lora and experts one alone. Each part of the work sees some of the tokens, then makes some of the results.
    """
    tokens, blocks, linears, width = len(x), words.shape[1] // (WORDS * LANES), len(first) - 1, first[-1]
    (down, up, _), (router, offset, a, b, scaling) = lora, experts
    routers, count, top_k = a.shape[0], a.shape[1], (rows.shape[2] - a.shape[1]) // 2
    rank, picked, banked = (a.shape[2], top_k, count * a.shape[2]) if routers else (up.shape[0], 1, up.shape[0])
    h, ids = np.empty((linears, tokens, picked * rank), np.float32), np.zeros((linears, tokens, picked), np.float32)
    whole = np.empty((tokens, blocks * LEVELS_BLOCK), np.int16)
    steps, sums = np.empty((tokens, blocks), np.float32), np.empty((tokens, 2, blocks), np.float32)
    for part in prange(parts):
        begin, end = tokens * part // parts, tokens * (part + 1) // parts
        for n in range(begin, end):
            quantize(x[n], whole[n], steps[n], sums[n])
        for p in range(routers):
            taken = rows[begin:end, p]
            route(x[begin:end], router[p], offset[p], masks[p], taken)
            go_into(x[begin:end], a[p], scaling, taken, h[p, begin:end])
            ids[p, begin:end] = taken[:, count : count + top_k]
        if not routers and rank:
            _low(x[begin:end], down, h[:, begin:end])
    y = float_array(y_at, (tokens * width,))
    for part in prange(parts):
        panel, bank = room(blocks * _PAIRS, WIDTH).view(np.int16), room(banked, WIDTH)
        scales, centres, rows_up = room(blocks, WIDTH), room(blocks, WIDTH), bank.reshape(-1)
        for p in range(linears):
            begin, groups, own, picks = first[p], (first[p + 1] - first[p]) // LANES, h[p].reshape(-1), ids[p]
            start, line = (begin * tokens, first[p + 1] - begin) if gates else (begin, width)
            panels = (groups + 1) // 2
            for one in range(panels * part // parts, panels * (part + 1) // parts):
                o, o1 = 2 * one * LANES, min(2 * one + 1, groups - 1) * LANES
                _unpack(words[(begin + o) // LANES], 0, panel, scales, centres)
                _unpack(words[(begin + o1) // LANES], LANES, panel, scales, centres)
                if routers:
                    _fill(bank, b[p].reshape(banked, b.shape[3]), o, o1)
                else:
                    _fill(bank, up, begin + o, begin + o1)
                low, high = load(bias, begin + o), load(bias, begin + o1)
                for n in range(0, tokens, 4):
                    m, q, r = min(n + 1, tokens - 1), min(n + 2, tokens - 1), min(n + 3, tokens - 1)
                    four = _four(panel, scales, centres, (n, m, q, r), (whole, steps, sums))
                    a0, a1, b0, b1, c0, c1, d0, d1 = _raised(four, (n, m, q, r), rows_up, own, picks, rank)
                    _put(y, start + n * line + o, start + n * line + o1, a0 + low, a1 + high)
                    _put(y, start + m * line + o, start + m * line + o1, b0 + low, b1 + high)
                    _put(y, start + q * line + o, start + q * line + o1, c0 + low, c1 + high)
                    _put(y, start + r * line + o, start + r * line + o1, d0 + low, d1 + high)
    if gates:
        size = first[1]
        one_y, other_y = y[: tokens * size].reshape(tokens, size), y[tokens * size :].reshape(tokens, size)
        for part in prange(parts):
            begin, end = tokens * part // parts, tokens * (part + 1) // parts
            gate(one_y[begin:end], other_y[begin:end])
