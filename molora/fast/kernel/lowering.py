"""A prompt's way down into ranks in whole numbers, which the base's product has made of what tokens read: a CPU does
two such products in the time of one of float32.

Axes: Q registers of a rank, each of W ranks: `LANES`, or half as many where a rank has no more, with two pairs of each
side by side; what is left of the last one is filled up with zeros. Else as in `several`. Words [.., G, rows * `LANES`]:
for each block those of pairs of whole numbers, and at last of scales.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from molora.fast.kernel.building import add_product, arrays_of, everywhere, place_of, read_at, variables
from molora.fast.kernel.instructions import Kind, index
from molora.fast.kernel.keeping import REORDERS, inner, kept
from molora.fast.kernel.lanes import LANES, Floats, Narrow, lanes_type
from molora.fast.kernel.levels import LEVELS_BLOCK
from molora.fast.kernel.numbers import wide
from molora.fast.kernel.pairs import both_onto
from molora.fast.kernel.parallel import share
from molora.fast.kernel.several import TOGETHER

_ROWS = 4
"""Whose products make one sum of whole numbers"""
_BITS = 14
"""What a weight becomes has at most: two of each row, times numbers up to `levels.MOST`, add up to less than 2**31"""
_SMALLEST = 1e-30
"""What a block's largest weight must reach not to count as zero: scales and their inverses are no denormals"""
_PAIRS = LEVELS_BLOCK // 2
_SUMS = 2 if LANES == 16 else 1
"""Made in turns for each token, so that none waits for its last product"""
_KIND = Kind.of(LANES)
_SINGLE = ir.FloatType()
_SOME = {1: _KIND.words, 2: ir.VectorType(ir.IntType(64), LANES // 2)}
"""What so many pairs of a token are in all places of a register"""
_ranks_type = types.UniTuple(lanes_type, TOGETHER)


def beside(rank: int) -> int:
    """How many pairs of a rank lie side by side."""
    return 2 if 2 * rank <= LANES else 1


def rows_of(beside: int) -> int:
    """Registers of words for a block."""
    return _PAIRS // beside + 1


def _lowered(beside: int) -> Any:
    rows, some = rows_of(beside), ir.IntType(32 * beside)

    @intrinsic
    def lowered(typing_context: Any, words: Any, which: Any, read: Any, tokens: Any) -> Any:
        def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            (words,) = arrays_of(context, builder, signature.args[:1], args[:1])
            whole, steps = arrays_of(context, builder, signature.args[2], cgutils.unpack_tuple(builder, args[2]))
            blocks, tokens = cgutils.unpack_tuple(builder, steps.shape)[1], cgutils.unpack_tuple(builder, args[3])
            begin, lines = builder.mul(args[1], blocks), [builder.mul(n, blocks) for n in tokens]
            wholes = [builder.gep(whole.data, [builder.mul(line, index(LEVELS_BLOCK))]) for line in lines]
            every_step = [builder.gep(steps.data, [line]) for line in lines]
            totals = variables(builder, [_KIND.each(0.0)] * TOGETHER)
            with cgutils.for_range(builder, blocks) as loop:
                number = builder.mul(builder.add(begin, loop.index), index(rows * LANES))
                weights, at = builder.gep(words.data, [number]), builder.mul(loop.index, index(LEVELS_BLOCK))
                found: list[list[Any]] = [[] for _ in range(TOGETHER)]
                for first in range(0, rows - 1, _ROWS * _SUMS):
                    sums = [[_KIND.each(0)] * TOGETHER for _ in range(_SUMS)]
                    for row in range(first, first + _ROWS):
                        for more, own in enumerate(sums):
                            here = row + more * _ROWS
                            (pairs,) = read_at(builder, weights, index(here * LANES), _KIND.words, 1, 4)
                            place = builder.add(at, index(2 * beside * here))
                            for n in range(TOGETHER):
                                each = everywhere(builder, wholes[n], place, some, _SOME[beside], 2)
                                own[n] = both_onto(builder, own[n], pairs, builder.bitcast(each, _KIND.words))
                    for own in sums:
                        for n in range(TOGETHER):
                            found[n].append(builder.sitofp(own[n], _KIND.floats))
                (scale,) = read_at(builder, weights, index((rows - 1) * LANES), _KIND.floats, 1, 4)
                for n, place in enumerate(totals):
                    step = everywhere(builder, every_step[n], loop.index, _SINGLE, _KIND.floats, 4)
                    add_product(
                        builder, place, reduce(builder.fadd, found[n]), builder.fmul(scale, step, flags=REORDERS)
                    )
            made = [_in_line(builder, builder.load(place), beside) for place in totals]
            return context.make_tuple(builder, signature.return_type, made)

        return _ranks_type(words, types.intp, read, tokens), of

    return lowered


def _in_line(builder: Any, lanes: Any, beside: int) -> Any:
    """Of each rank what its pairs give together, from the first lane on."""
    if beside == 1:
        return lanes
    each = [ir.Constant(_KIND.words, [(2 * at + more) % LANES for at in range(LANES)]) for more in range(2)]
    return builder.fadd(*(builder.shuffle_vector(lanes, lanes, one) for one in each), flags=REORDERS)


_one, _two, _ROWS_OF_ONE = _lowered(1), _lowered(2), rows_of(1)


@inner
def ranks_in(words: NDArray[np.int32]) -> int:
    """W"""
    return LANES if words.shape[-1] == _ROWS_OF_ONE * LANES else LANES // 2


@inner
def lowered(words: NDArray[np.int32], which: int, read: Any, tokens: Any) -> Any:
    """One register of ranks of each of the tokens: which, of all that the words have. read: whole numbers [N, G*32] and
    steps [N, G], see `levels.quantize_less`."""
    if ranks_in(words) == LANES:
        return _one(words, which, read, tokens)
    return _two(words, which, read, tokens)


@intrinsic
def laid(typing_context: Any, ranks: Any, gates: Any, of: Any, h: Any, group: Any) -> Any:
    """The tokens' registers, times the gates [groups, T] `of` a group, into a group of h [groups, W, T]: without any
    they must add nothing even where they overflow."""

    def to(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        gates, h = arrays_of(context, builder, signature.args[1:4:2], args[1:4:2])
        wide = builder.mul(cgutils.unpack_tuple(builder, h.shape)[1], index(TOGETHER))
        first, nothing, found = builder.mul(args[4], wide), _KIND.each(0.0), []
        own_gates = builder.gep(gates.data, [builder.mul(args[2], index(TOGETHER))])
        for n, own in enumerate(cgutils.unpack_tuple(builder, args[0])):
            gate = everywhere(builder, own_gates, index(n), _SINGLE, _KIND.floats, 4)
            weighs = builder.fcmp_unordered("!=", gate, nothing)
            found.append(builder.select(weighs, builder.fmul(own, gate), nothing))
        for number in range(TOGETHER):
            at, full = index(number * LANES), number < TOGETHER // 2
            with nullcontext() if full else builder.if_then(builder.icmp_signed("<", at, wide)):
                place = place_of(builder, h.data, builder.add(first, at), _KIND.floats)
                builder.store(_across(builder, found, number * LANES), place, align=4)
        return context.get_dummy_value()

    return types.void(ranks, gates, types.intp, h, types.intp), to


def _across(builder: Any, tokens: Sequence[Any], first: int) -> Any:
    """One register of what stands rank after rank, the tokens' side by side, from a place on."""
    made = ir.Constant(tokens[0].type, ir.Undefined)
    for n, own in enumerate(tokens):
        places = list(range(LANES))
        for lane in places:
            rank, token = divmod(first + lane, len(tokens))
            if token == n:
                places[lane] = LANES + rank
        made = builder.shuffle_vector(made, own, ir.Constant(_KIND.words, places))
    return made


@inner
def _pack_row(row: Narrow, shorts: NDArray[np.int16], floats: Floats, lane: int, beside: int) -> None:
    """One rank's row [I] to its lanes, from one on, of a register's words [G, any], here as 16 bits and as float32. The
    scale is a power of two: what a bfloat16 says is lost only where it is small beside the largest of its block."""
    for g in range(len(floats)):
        largest, first, finite = np.float32(0), g * LEVELS_BLOCK, True
        for i in range(first, first + LEVELS_BLOCK):
            size = abs(wide(row[i]))
            largest, finite = max(largest, size), finite and size < np.inf
        scale, inverse = np.float32(0 if finite else np.nan), np.float32(0)
        if finite and largest > _SMALLEST:
            _, power = math.frexp(largest)
            scale, inverse = np.float32(math.ldexp(1.0, power - _BITS)), np.float32(math.ldexp(1.0, _BITS - power))
        for more in range(beside):
            floats[g, floats.shape[1] - LANES + lane + more] = scale
        for at in range(LEVELS_BLOCK):
            i, pair = first + at // 8 * 8 + at % 8 // 2 + at % 2 * 4, at // 2  # as `levels.quantize` has them
            number = np.rint(wide(row[i]) * inverse) if finite else np.float32(0)
            shorts[g, 2 * (pair // beside * LANES + lane + pair % beside) + at % 2] = np.int16(number)


@inner
def _pack_some(part: int, parts: int, a: Narrow, words: NDArray[np.int32], beside: int) -> None:
    shorts, floats, ranks = words.view(np.int16), words.view(np.float32), LANES // beside
    for m in range(len(a) * part // parts, len(a) * (part + 1) // parts):
        for r in range(a.shape[1]):
            _pack_row(a[m, r], shorts[m, r // ranks], floats[m, r // ranks], r % ranks * beside, beside)


@kept
def packed_ranks(a: Narrow, words: NDArray[np.int32], beside: int, parts: int) -> None:
    """A's [M, R, I] to words [M, Q, G, any], of which those for no rank stay. Each part of the work packs some."""
    share(_pack_some, parts, a, words, beside)
