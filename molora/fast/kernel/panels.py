"""Many tokens through weights of 16 levels, and what adapters add to it.

A panel, a few rows of a weight, is unpacked once for all tokens. Products are in whole numbers, as in `levels`.

Axes: G blocks of 32 weights along I, B rows of a bank: what all experts, or plain LoRA, have for the rows of a panel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from molora.fast.kernel.instructions import Kind, in_all
from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Floats, Narrow, load, store
from molora.fast.kernel.layers import Adapter, Linears, Norm
from molora.fast.kernel.levels import LEVELS_BLOCK, WORDS, halves_of, quantize_less
from molora.fast.kernel.lowering import laid, lowered, ranks_in
from molora.fast.kernel.pairs import PAIRED, load_pairs, store_pairs, words_type
from molora.fast.kernel.parallel import share
from molora.fast.kernel.prompt import by_expert, go_into, route, weighted
from molora.fast.kernel.ranks import room
from molora.fast.kernel.several import (
    TOGETHER,
    WIDTH,
    added,
    begun,
    gated,
    held,
    put,
    raised,
    some,
    tokens_of,
    with_levels,
)
from molora.fast.kernel.shares import CHUNK, chunks_of, holder
from molora.fast.kernel.token import norm_row

_APART = 256
"""Tokens from which on a thread keeps to its own: unpacking all weights takes it less time than tokens that lie in
another core's cache"""
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
    [G, `WIDTH`]. No row of them is taken by itself, as in `picks.pick`."""
    for g in range(scales.shape[0]):
        first = g * WORDS * LANES
        for number in range(WORDS - 1):
            eight = load_pairs(words, first + number * LANES)
            for place in range(4):
                pairs = g * _PAIRS + number * 4 + place
                store_pairs(panel, (pairs * WIDTH + at) * 2, _levels(eight, place))
        scale, centre = halves_of(words, first + (WORDS - 1) * LANES)
        store(scales, g * WIDTH + at, scale)
        store(centres, g * WIDTH + at, centre)


@inner
def _widen(bank: Floats, up: Narrow, panel: int) -> None:
    """All experts' rows of a panel to a bank [E*R, `WIDTH`]: none is taken by itself, as in `_unpack`."""
    (count, panels, rank, _), to = up.shape, 0
    for e in range(count):
        first = (e * panels + panel) * rank * WIDTH
        for at in range(first, first + rank * WIDTH, LANES):
            store(bank, to, load(up, at))
            to += LANES


@inner
def _copy(picked: Floats, rows: Floats, begin: int) -> None:
    """What is picked [M, P, E+2K] to rows [N, P, E+2K] from one on. A slice that takes a slice would be compiled with
    all that is said where they do not fit."""
    for n in range(picked.shape[0]):
        for p in range(picked.shape[1]):
            for at in range(picked.shape[2]):
                rows[begin + n, p, at] = picked[n, p, at]


@inner
def _lower(
    x: Floats,
    read: tuple[NDArray[np.int16], Floats],
    span: tuple[int, int],
    adapter: Adapter,
    masks: Floats,
    rows: Floats,
    low: tuple[Floats, NDArray[np.int64], NDArray[np.int64]],
    chunk: int,
) -> None:
    """A chunk of the tokens x [N, I], which are `read` as whole numbers, through routers and down through experts, or
    down through plain LoRA, which is an expert that all of them pick. rows and `low` as `all_adapted` has them: an
    expert's tokens by groups, the last one several times where no other follows."""
    (router, bias, a, down, _, scaling), (begin, _), (h, order, starts), own = adapter, span, low, x[slice(*span)]
    (linears, count, rank, _), (_, registers, _, _, _), routed, top_k = a.shape, h.shape, len(router) > 0, 1
    tokens = np.minimum(np.arange(-(-len(own) // TOGETHER) * TOGETHER), len(own) - 1)
    gates, first = np.ones(len(tokens), np.float32), np.array([0, len(tokens)])
    picked = np.empty((len(own), linears, rows.shape[2]), np.float32)  # nearer to each other than all layers' are
    if routed:
        top_k = (rows.shape[2] - count) // 2
        route(own, router, bias, masks, picked)
        _copy(picked, rows, begin)
    before = begin * top_k // TOGETHER + chunk * count
    for p in range(linears):
        if routed:
            _, tokens, gates, first = by_expert(picked[:, p], count, top_k, scaling, TOGETHER)
        in_line = order[p].reshape(-1)
        for m in range(len(tokens)):
            in_line[before * TOGETHER + m] = begin + tokens[m]
        starts[chunk, p] = before + first // TOGETHER
        if len(down) == 0:
            found = np.empty((len(tokens), rank), np.float32)
            go_into(own, a[p], tokens, first, found)
            for m in range(len(tokens)):
                for r in range(rank):
                    h[p, 0, before + m // TOGETHER, r, m % TOGETHER] = weighted(found[m, r], gates[m])
            continue
        for e in range(count):
            for group in range(starts[chunk, p, e], starts[chunk, p, e + 1]):
                them = tokens_of(order[p], group)
                for q in range(registers):
                    ranks = lowered(down, (p * count + e) * registers + q, read, them)
                    laid(ranks, gates, group - before, h[p, q], group)


@inner
def _put_chunk(
    span: tuple[int, int],
    start: tuple[Any, Any],
    rooms: tuple[NDArray[np.int16], Floats, Floats],
    read: tuple[NDArray[np.int16], Floats, Floats],
    adapter: tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]],
    routed: bool,
    onto: bool,
    to: tuple[Floats, int, int, int],
) -> None:
    """A chunk of tokens through a panel: the base's product, from the `start` on, `onto` what is there, and what an
    adapter adds by a bank [E*R, `WIDTH`] of h [Q, groups, W, T], each expert's groups from the first of [E+1] on:
    of all tokens side by side, or where it is `routed` of those in the order [groups, T]. `to`: as `put` takes it."""
    (begin, end), (bank, h, order, first) = span, adapter
    experts = len(first) - 1
    rank, group = len(bank) // experts, first[0]
    for n in range(begin, end, TOGETHER):
        them = some(n, end)
        found = with_levels(begun(*start), rooms, read, them)
        if rank and not routed:
            found = raised(found, bank, (0, min(rank, h.shape[2])), h[0], group)
            group += 1
        if onto:
            found = added(found, held(to, them))
        put(found, to, them)
    for q in range(0 if routed else 1, len(h)):
        for e in range(experts):
            rows = e * rank + q * h.shape[2], min(rank - q * h.shape[2], h.shape[2])
            for group in range(first[e], first[e + 1]):
                them = tokens_of(order, group)
                put(raised(held(to, them), bank, rows, h[q], group), to, them)


@inner
def _share(
    part: tuple[int, int],
    apart: bool,
    ends: NDArray[np.int64],
    words: NDArray[np.int32],
    first: NDArray[np.int64],
    bias: Floats,
    up: Narrow,
    routed: bool,
    read: tuple[NDArray[np.int16], Floats, Floats],
    low: tuple[Floats, NDArray[np.int64], NDArray[np.int64]],
    gates: bool,
    onto: bool,
    y: Floats,
) -> None:
    """A part of the results, by its number and how many there are, or where they are `apart` all of its own tokens; all
    else as in `all_adapted`."""
    (number, parts), (h, order, starts), blocks, linears = part, low, read[1].shape[1], len(first) - 1
    size, together = (first[1], linears) if gates else (first[-1], 1)
    levels = room(together * blocks * _PAIRS, WIDTH).view(np.int16).reshape(together, blocks * _PAIRS, 2 * WIDTH)
    scales = room(together * blocks, WIDTH).reshape(together, blocks, WIDTH)
    centres = room(together * blocks, WIDTH).reshape(together, blocks, WIDTH)
    rows = up.shape[0] * up.shape[2]
    bank = room(together * rows, WIDTH).reshape(together, rows, WIDTH)
    sums, before = room(together * CHUNK if gates else 0, WIDTH).reshape(-1), 0
    for p in range(0, linears, together):
        registers = (first[p + 1] - first[p]) // LANES
        panels = (registers + 1) // 2
        for one in range(0, panels) if apart else range(panels * number // parts, panels * (number + 1) // parts):
            o, o1 = 2 * one * LANES, min(2 * one + 1, registers - 1) * LANES
            for i in range(together):
                at, at1 = first[p + i] + o, first[p + i] + o1
                if rows:
                    _widen(bank[i], up, before + i * panels + one)
                _unpack(words[at // LANES], 0, levels[i], scales[i], centres[i])
                _unpack(words[at1 // LANES], LANES, levels[i], scales[i], centres[i])
            for chunk in range(len(ends) - 1):
                if apart and holder(chunk, parts) != number:
                    continue
                span = begin, end = ends[chunk], ends[chunk + 1]
                for i in range(together):
                    at, at1 = first[p + i] + o, first[p + i] + o1
                    to = (sums, (i * CHUNK - begin) * WIDTH, WIDTH, LANES) if gates else (y, at, size, o1 - o)
                    adapter = bank[i], h[p + i], order[p + i], starts[chunk, p + i]
                    start, rooms = (load(bias, at), load(bias, at1)), (levels[i], scales[i], centres[i])
                    _put_chunk(span, start, rooms, read, adapter, routed, onto, to)
                if gates:
                    for n in range(begin, end, TOGETHER):
                        them = some(n, end)
                        gate = held((sums, -begin * WIDTH, WIDTH, LANES), them)
                        found = held((sums, (CHUNK - begin) * WIDTH, WIDTH, LANES), them)
                        put(gated(gate, found), (y, o, size, o1 - o), them)
        before += together * panels


@inner
def _adapt_some(
    part: int,
    parts: int,
    turn: int,
    apart: bool,
    x: Floats,
    norm: Norm,
    own: Floats,
    ends: NDArray[np.int64],
    linears: Linears,
    up: Narrow,
    adds: bool,
    masks: Floats,
    rows: Floats,
    read: tuple[NDArray[np.int16], Floats, Floats],
    low: tuple[Floats, NDArray[np.int64], NDArray[np.int64]],
    gates: bool,
    onto: bool,
    y: Floats,
) -> None:
    """A thread's tokens down at its first turn, and what comes of them up: at once where it keeps to its own, which
    are then `apart`, or else at the second, when all are down. `own`: room for what a norm makes of x."""
    (words, first, bias, adapter), (whole, steps, sums) = linears, read
    for chunk in range(len(ends) - 1 if turn == 0 else 0):
        if holder(chunk, parts) != part:
            continue
        span = begin, end = ends[chunk], ends[chunk + 1]
        for n in range(begin, end):
            if len(own):
                norm_row(x[n], *norm, own[n])
            quantize_less(own[n] if len(own) else x[n], whole[n], steps[n], sums[n])
        if adds:
            _lower(own if len(own) else x, (whole, steps), span, adapter, masks, rows, low, chunk)
    if apart or turn == 1:
        routed = len(adapter[0]) > 0
        _share((part, parts), apart, ends, words, first, bias, up, routed, read, low, gates, onto, y)


@kept
def all_adapted(
    x: Floats,
    norm: Norm,
    linears: Linears,
    lora: bool,
    masks: Floats,
    rows: Floats,
    gates: bool,
    y: Floats,
    onto: bool,
    parts: int,
) -> None:
    """Many tokens through linears that read x [N, I], or what a norm makes of it: the base's product and what their
    adapters add to it, plain LoRA only where it is on.

    Goes to y [N * P*O], or is added `onto` it, or where it `gates` silu of the first one's times the second's to y
    [N * O]. masks and rows, here [N, P, E+2K], as in `token.adapted`. Each part of the work sees some of the tokens,
    and makes their results, or where they are few some of all results.
    """
    words, first, _, adapter = linears
    (router, _, a, down, up, _), tokens, sites = adapter, len(x), len(first) - 1
    blocks, routed, count, top_k, registers, wide = words.shape[1] // (WORDS * LANES), len(router) > 0, 1, 1, 0, 0
    adds = len(a) > 0 and (lora or routed)
    if adds:
        count, registers, wide = a.shape[1], 1, a.shape[2]
        top_k = (rows.shape[2] - count) // 2 if routed else 1
        if len(down):
            registers, wide = down.shape[2], ranks_in(down)
    else:
        up = up[:0]
    ends, apart = chunks_of(tokens, parts), tokens >= _APART
    whole, sums = np.empty((tokens, blocks * LEVELS_BLOCK), np.int16), np.empty((tokens, blocks), np.float32)
    steps, groups = np.empty((tokens, blocks), np.float32), -(-tokens * top_k // TOGETHER) + (len(ends) - 1) * count
    h = np.empty((sites, registers, groups, wide, TOGETHER), np.float32)
    own = np.empty((tokens if len(norm[0]) else 0, x.shape[1]), np.float32)
    order = np.empty((sites, groups, TOGETHER), np.int64)  # tokens by expert, chunk after chunk, as h has them
    starts = np.zeros((len(ends) - 1, sites, count + 1), np.int64)  # where in each chunk an expert's begin
    for turn in range(1 if apart else 2):
        share(
            _adapt_some,
            parts,
            turn,
            apart,
            x,
            norm,
            own,
            ends,
            linears,
            up,
            adds,
            masks,
            rows,
            (whole, steps, sums),
            (h, order, starts),
            gates,
            onto,
            y,
        )
