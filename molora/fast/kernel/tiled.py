"""Many tokens through weights of 16 levels in bfloat16, and what adapters add to it: the way of CPUs with AMX.

As in `panels` each panel is unpacked once for all tokens; but an adapter's tokens go through all experts, for products
are cheap here, and what they do not pick has no weight on it.

Axes: see `panels`; C what all that read one input have of ranks, up to a multiple of `STEP`; Q panels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Floats, Narrow, load, silu, spread, store, where_same
from molora.fast.kernel.layers import Adapter, Linears, Norm
from molora.fast.kernel.levels import WORDS
from molora.fast.kernel.numbers import address_of
from molora.fast.kernel.parallel import share
from molora.fast.kernel.picks import pick_many
from molora.fast.kernel.prefetching import LINE, lines_of, prefetch_rows
from molora.fast.kernel.prompt import route
from molora.fast.kernel.ranks import narrow_room, room
from molora.fast.kernel.rounding import PAIRS, round_row, unpack_rounded
from molora.fast.kernel.several import WIDTH
from molora.fast.kernel.shares import chunks_by, holder
from molora.fast.kernel.tiles import (
    GROUP,
    NONE,
    NOTHING,
    PANEL_STEP,
    SIDE,
    STEP,
    Ahead,
    Halves,
    Lines,
    done,
    halves_at,
    line_of,
    lines_at,
    multiply,
    ready,
)
from molora.fast.kernel.token import norm_row

_APART = 96
"""Tokens from which on a thread keeps to its own, as in `panels`; products are quicker here, so they are fewer"""
_STEPS = 10
"""Of a panel, with what adapters have for it, and of some tokens, that stay in a core's first cache"""


@inner
def wide_of(ranks: int) -> int:
    """C"""
    return -(-ranks // STEP) * STEP


@inner
def first_of(tiles: tuple[Narrow, Narrow]) -> Ahead:
    """What of an adapter is read first, all A's."""
    return address_of(tiles[0], 0), lines_of(tiles[0], tiles[0].size)


@inner
def _width(words: NDArray[np.int32]) -> int:
    """I"""
    return words.shape[1] // (WORDS * LANES) * PAIRS * 2


@inner
def _from(block: int, blocks: int, steps: int, more: int) -> int:
    """Of a panel's steps the first one of a block, of which the last ones may have fewer, or none, for what comes then:
    all have as much to do."""
    return min(-(-(steps + more) * block // blocks), steps)


@inner
def _through(
    x: Lines, tokens: int, panel: Narrow, h: Lines, bank: Narrow, more: int, start: Halves, y: Halves, ahead: Ahead
) -> None:
    """So many tokens through a panel, part after part; `ahead`: an address, and how many lines all of them ask for from
    there on. All else as `tiles.multiply` takes it."""
    (x_at, x_line), (h_at, h_line) = lines_at(x), lines_at(h)
    (s_at, s_line, s_apart), (y_at, y_line, y_apart) = halves_at(start), halves_at(y)
    panel_at, bank_at, steps = address_of(panel, 0), address_of(bank, 0), len(panel) // SIDE
    blocks, (next_, lines) = -(-(steps + more) // _STEPS), ahead
    each = -(-lines // max(steps * -(-tokens // GROUP), 1))
    for block in range(blocks):
        k, k1 = _from(block, blocks, steps, more), _from(block + 1, blocks, steps, more)
        own, last = panel_at + k * PANEL_STEP, more if block + 1 == blocks else 0
        for n in range(0, tokens, GROUP):
            read, low = (x_at + n * x_line + k * 2 * STEP, x_line), (h_at + n * h_line, h_line)
            to = y_at + n * y_line, y_line, y_apart
            begin = to if block else (s_at + n * s_line, s_line, s_apart)
            multiply(read, own, k1 - k, low, bank_at, last, begin, to, min(GROUP, tokens - n), (next_, each))
            next_ += (k1 - k) * each * LINE


@inner
def _weigh(found: Floats, picked: Floats, count: int, rank: int, scaling: float, low: Narrow) -> None:
    """What a chunk's tokens found in ranks [N, C or more] to [N, C], with the weights of those picked [N, P, E+2K] on
    it: nothing of others, even where it overflows."""
    top_k, wide, zero = (picked.shape[2] - count) // 2, low.shape[1], spread(np.float32(0))
    gates = np.empty(wide, np.float32)
    for n in range(len(low)):
        gates[:] = 0
        for p in range(picked.shape[1]):
            for k in range(count, count + top_k):
                expert, weight = int(picked[n, p, k]), picked[n, p, k + top_k] * np.float32(scaling)
                if expert >= 0:
                    first = (p * count + expert) * rank
                    for r in range(first, first + rank):
                        gates[r] = weight
        for r in range(0, wide, LANES):
            gate = load(gates, r)
            own = load(found, n * found.shape[1] + r) * gate
            store(low, n * wide + r, where_same(gate, zero, zero, own))


@inner
def _lower(
    x: Floats,
    norm: Norm,
    span: tuple[int, int],
    read: tuple[Narrow, Narrow],
    adapter: Adapter,
    down: Narrow,
    masks: Floats,
    rows: Floats,
    low: Narrow,
    found: Floats,
) -> None:
    """A chunk of the tokens: what they `read` [N, I or more] of x in bfloat16, the rest of it, and what comes of it in
    ranks, low [N, C]; `down` and rows as `all_tiled` has them. `found`: room for a chunk's tokens by all A's and
    routers, and a line of zeros behind them."""
    (begin, end), (whole, rest), (router, bias, a, _, _, scaling) = span, read, adapter
    size, wide, own, read_line = x.shape[1], low.shape[1], x[begin:end], whole.shape[1]
    if len(norm[0]):
        own = np.empty((end - begin, size), np.float32)
    for n in range(begin, end):
        if len(norm[0]):
            norm_row(x[n], *norm, own[n - begin])
        round_row(own[n - begin], whole[n], rest[n])
    if not wide:
        return
    (linears, count, rank, _), line, zero = a.shape, len(down) * WIDTH, spread(np.float32(0))
    ranks, none = linears * count * rank, found[len(found) - 1]
    for q in range(len(down)):
        columns = ranks - q * WIDTH if q * WIDTH < wide else linears * count
        apart = LANES if columns > LANES else 0
        to, start = (found.reshape(-1), q * WIDTH, line, apart), (none, NONE, NONE, NONE + LANES)
        tokens, left = (whole, begin * read_line, read_line), (rest, begin * read_line, read_line)
        _through(tokens, end - begin, down[q], tokens, down[q], NONE, start, to, NOTHING)
        if q * WIDTH >= wide:  # routers read what rounding leaves, too
            _through(left, end - begin, down[q], left, down[q], NONE, to, to, NOTHING)
    if not len(router):
        for n in range(begin, end):
            for r in range(0, wide, LANES):
                store(low, n * wide + r, load(found, (n - begin) * line + r) if r < ranks else zero)
        return
    picked = rows[begin:end]
    if line > wide:
        for p in range(linears):
            first = wide + p * count
            pick_many(found[:, first : first + count], bias[p], masks[p], picked[:, p])
    else:
        route(own, router, bias, masks, picked)
    _weigh(found, picked, count, rank, scaling, low[begin:end])


@inner
def _add_row(row: Floats, at: int, y: Halves, tokens: int) -> None:
    """Two registers of a row, from a place on, to those of so many lines."""
    (to, first, line, apart), low = y, load(row, at)
    high = load(row, at + apart)
    for n in range(first, first + tokens * line, line):
        store(to, n, load(to, n) + low)
        if apart:
            store(to, n + apart, load(to, n + apart) + high)


@inner
def _share(
    part: tuple[int, int],
    apart: bool,
    ends: Any,
    base: tuple[NDArray[np.int32], NDArray[np.int64], Floats],
    banks: Narrow,
    ranks: int,
    read: Narrow,
    low: Narrow,
    gates: bool,
    y: Floats,
    onto: bool,
    after: Ahead,
) -> None:
    """A part of the results, by its number and how many there are, or where they are `apart` all of its own tokens.
    `ranks`: those of one linear. All else as in `all_tiled`."""
    (number, parts), (words, first, bias) = part, base
    sites, width, wide, line = len(first) - 1, _width(words), low.shape[1], read.shape[1]
    size, together = (first[1], sites) if gates else (first[-1], 1)
    weights = narrow_room(together * width // 2, 2 * WIDTH).reshape(together, width // 2, 2 * WIDTH)
    most_tokens, before, asked = 0, 0, 0
    lines, each = lines_of(words, 2 * words.shape[1]), -(-2 * after[1] // len(words))
    for chunk in range(len(ends) - 1):
        most_tokens = max(most_tokens, ends[chunk + 1] - ends[chunk])
    adds = onto and np.any(bias)
    sums, none = room(2 * most_tokens if gates else 0, WIDTH).reshape(-1), weights[0, :0]
    for p in range(0, sites, together):
        registers = (first[p + 1] - first[p]) // LANES
        panels = (registers + 1) // 2
        for one in range(0, panels) if apart else range(panels * number // parts, panels * (number + 1) // parts):
            o, o1 = 2 * one * LANES, min(2 * one + 1, registers - 1) * LANES
            for i in range(together):
                at, at1 = first[p + i] + o, first[p + i] + o1
                if ranks:
                    prefetch_rows(banks[before + i * panels + one])
                unpack_rounded(words[at // LANES], 0, weights[i])
                unpack_rounded(words[at1 // LANES], LANES, weights[i])
            unpacked = True  # just now: other chunks ask for what comes after
            for chunk in range(len(ends) - 1):
                if apart and holder(chunk, parts) != number:
                    continue
                begin, end = ends[chunk], ends[chunk + 1]
                for i in range(together):
                    at, low_at = first[p + i] + o, (p + i) * ranks // STEP * STEP
                    more = (wide_of((p + i + 1) * ranks) - low_at) // STEP
                    to = (y, begin * size + at, size, o1 - o)
                    if gates:
                        to = (sums, i * most_tokens * WIDTH, WIDTH, LANES)
                    start = to if onto else (bias, at, 0, o1 - o)
                    if adds:
                        _add_row(bias, at, to, end - begin)
                    tokens, lows = (read, begin * line, line), (low, begin * wide + low_at, wide)
                    bank = banks[before + i * panels + one] if ranks else none
                    soon = address_of(words, (at // LANES + 2) * words.shape[1]), lines
                    later = after[0] + asked * LINE, min(each, after[1] - asked)
                    asked += 0 if unpacked else later[1]
                    ahead = soon if unpacked else later
                    _through(tokens, end - begin, weights[i], lows, bank, more, start, to, ahead)
                unpacked = False
                for m in range(end - begin if gates else 0):
                    for at in range(0, WIDTH, LANES):
                        own, to_ = m * WIDTH + at, (begin + m) * size + (o if at == 0 else o1)
                        store(y, to_, silu(load(sums, own)) * load(sums, most_tokens * WIDTH + own))
        before += together * panels


@inner
def _tile_some(
    part: int,
    parts: int,
    turn: int,
    apart: bool,
    x: Floats,
    norm: Norm,
    ends: Any,
    linears: Linears,
    tiles: tuple[Narrow, Narrow],
    ranks: int,
    read: tuple[Narrow, Narrow],
    masks: Floats,
    rows: Floats,
    low: Narrow,
    gates: bool,
    y: Floats,
    onto: bool,
    after: Ahead,
) -> None:
    """A thread's tokens down at its first turn, and what comes of them up: at once where it keeps to its own, which
    are then `apart`, or else at the second, when all are down."""
    (words, first, bias, adapter), (down, banks) = linears, tiles
    ready()
    if turn == 0:
        most = np.max(ends[1:] - ends[:-1])
        found = room(most + 1, len(down) * WIDTH)
        found[most] = 0
        for chunk in range(len(ends) - 1):
            if holder(chunk, parts) == part and ends[chunk] < ends[chunk + 1]:
                _lower(x, norm, (ends[chunk], ends[chunk + 1]), read, adapter, down, masks, rows, low, found)
    if apart or turn == 1:
        base = words, first, bias
        _share((part, parts), apart, ends, base, banks, ranks, read[0], low, gates, y, onto, after)
    done()


@kept
def all_tiled(
    x: Floats,
    norm: Norm,
    linears: Linears,
    tiles: tuple[Narrow, Narrow],
    lora: bool,
    masks: Floats,
    rows: Floats,
    gates: bool,
    y: Floats,
    onto: bool,
    after: Ahead,
    parts: int,
) -> None:
    """As `panels.all_adapted`. tiles: all A's as panels up to C, and behind them routers where they are bfloat16, down
    [Q, I/2, 2*`WIDTH`]; and of each panel of a linear what all experts have for it by pairs of ranks, as many as the
    steps hold that a linear's ranks lie in, [panels, any, 2*`WIDTH`]. `after`: an address, and how many lines are read
    from there on by what comes next."""
    (words, _, _, adapter), tokens = linears, len(x)
    router, _, a, _, _, _ = adapter
    ranks = a.shape[1] * a.shape[2] if lora or len(router) else 0
    line, wide = line_of(_width(words)), wide_of(a.shape[0] * ranks)
    ends, apart = chunks_by(GROUP, tokens, parts), tokens >= _APART
    read, rest, low = narrow_room(tokens, line), narrow_room(tokens, line), narrow_room(tokens, wide)
    for turn in range(1 if apart else 2):
        share(
            _tile_some,
            parts,
            turn,
            apart,
            x,
            norm,
            ends,
            linears,
            tiles,
            ranks,
            (read, rest),
            masks,
            rows,
            low,
            gates,
            y,
            onto,
            after,
        )
