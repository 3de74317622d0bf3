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
from molora.fast.kernel.lanes import LANES, Floats, Narrow, load, store
from molora.fast.kernel.levels import LEVELS_BLOCK, WORDS, halves_of, quantize
from molora.fast.kernel.numbers import float_array
from molora.fast.kernel.pairs import PAIRED, load_pairs, store_pairs, words_type
from molora.fast.kernel.prompt import go_into, route
from molora.fast.kernel.ranks import down_room, go_down, laid_down, room
from molora.fast.kernel.several import TOGETHER, WIDTH, begun, gated, held, put, raised, some, with_levels
from molora.fast.kernel.token import Experts

_PAIRS = LEVELS_BLOCK // 2
_KIND = Kind.of(LANES)
_SHORTS = ir.VectorType(ir.IntType(16), PAIRED)


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
            eight = load_pairs(words, first + number * LANES)
            for place in range(4):
                store_pairs(panel[g * _PAIRS + number * 4 + place], 2 * at, _levels(eight, place))
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
def _quantized(x: Floats, part: tuple[int, int], read: tuple[NDArray[np.int16], Floats, Floats]) -> None:
    """A part of the tokens x [N, I] as `with_levels` reads them."""
    whole, steps, sums = read
    for n in range(*part):
        quantize(x[n], whole[n], steps[n], sums[n])


@inner
def _low(x: Floats, down: Narrow, h: Floats) -> None:
    """Plain LoRA's way down: tokens x [N, I] to h [P, N, R], by down [P*R, I]."""
    linears, tokens, rank = h.shape
    weight = laid_down(down, down_room(x, down, linears * rank), x)
    found = np.empty((tokens, linears * rank), np.float32)
    go_down(weight, x, np.arange(tokens), found)
    for p in range(linears):
        h[p] = found[:, p * rank : (p + 1) * rank]


@inner
def _routed(
    x: Floats,
    part: tuple[int, int],
    experts: Experts,
    masks: Floats,
    rows: Floats,
    h: Floats,
    firsts: NDArray[np.int64],
) -> None:
    """A part of the tokens x [N, I] through routers and down through experts: h [P, N*K, R], and where in a bank each
    one's rows begin, firsts [P, N, K]; rows as `all_adapted` has them."""
    (router, offset, a, _, scaling), (begin, end) = experts, part
    (linears, count, rank, _), top_k = a.shape, firsts.shape[2]
    for p in range(linears):
        taken = rows[begin:end, p]
        route(x[begin:end], router[p], offset[p], masks[p], taken)
        go_into(x[begin:end], a[p], scaling, taken, h[p, begin * top_k : end * top_k])
        for n in range(begin, end):
            for k in range(top_k):  # for one that is switched off h is 0
                firsts[p, n, k] = max(int(rows[n, p, count + k]), 0) * rank


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

    Goes to y [N, P*O] at an address, or where it `gates` silu of the first one's times the second's, to y [N, O].
    first [P+1]: where each linear's results begin in a row.
    words as in `levels.multiplied`; bias, lora, experts, masks, and rows, here [N, P, E+2K], as in `token.adapted`; of
    lora and experts one alone. Each part of the work sees some of the tokens, then makes some of the results.
    """
    tokens, blocks, linears, width = len(x), words.shape[1] // (WORDS * LANES), len(first) - 1, first[-1]
    (down, up, _), b, routers = lora, experts[3], experts[3].shape[0]
    count, rank, top_k = (*b.shape[1:3], (rows.shape[2] - b.shape[1]) // 2) if routers else (1, up.shape[0], 1)
    h, firsts = np.empty((linears, tokens * top_k, rank), np.float32), np.zeros((linears, tokens, top_k), np.int64)
    whole = np.empty((tokens, blocks * LEVELS_BLOCK), np.int16)
    read = whole, np.empty((tokens, blocks), np.float32), np.empty((tokens, 2, blocks), np.float32)
    for part in prange(parts):
        begin, end = tokens * part // parts, tokens * (part + 1) // parts
        _quantized(x, (begin, end), read)
        if routers:
            _routed(x, (begin, end), experts, masks, rows, h, firsts)
        elif rank:
            _low(x[begin:end], down, h[:, begin:end])
    size = first[1] if gates else width
    y = float_array(y_at, (tokens * size,))
    for part in prange(parts):
        rooms = room(blocks * _PAIRS, WIDTH).view(np.int16), room(blocks, WIDTH), room(blocks, WIDTH)
        bank, gate = room(count * rank, WIDTH), room(tokens if gates else 0, WIDTH)
        for p in range(1 if gates else linears):
            groups = (first[p + 1] - first[p]) // LANES
            panels = (groups + 1) // 2
            for one in range(panels * part // parts, panels * (part + 1) // parts):
                o, o1 = 2 * one * LANES, min(2 * one + 1, groups - 1) * LANES
                for own in range(p, linears if gates else p + 1):
                    at, at1 = first[own] + o, first[own] + o1
                    if routers:
                        _fill(bank, b[own].reshape(count * rank, b.shape[3]), o, o1)
                    else:
                        _fill(bank, up, at, at1)
                    _unpack(words[at // LANES], 0, *rooms)
                    _unpack(words[at1 // LANES], LANES, *rooms)
                    low, high, adapter = load(bias, at), load(bias, at1), (bank, h[own], firsts[own], rank)
                    for n in range(0, tokens, TOGETHER):
                        them = some(n, tokens)
                        found = raised(with_levels(begun(low, high), rooms, read, them), *adapter, them)
                        if gates and own == p:
                            put(found, (gate, 0, WIDTH, LANES), them)
                        else:
                            found = gated(held(gate, them), found) if gates else found
                            put(found, (y, o if gates else at, size, o1 - o), them)
