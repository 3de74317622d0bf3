"""Products with weights of 16 levels, in whole numbers: a CPU adds two products of 16 bits to a float's width at once.

Axes: G blocks of 32 weights along I, W rows of a weight side by side: `LANES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from molora.fast.kernel.instructions import Kind, called, in_all, reduced
from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Floats, lanes_type, pointer_to, spread, store
from molora.fast.kernel.numbers import float_array
from molora.fast.kernel.pairs import PAIRED, both
from molora.fast.kernel.parallel import share
from molora.fast.kernel.prefetching import LINE, prefetch

LEVELS_BLOCK = 32
WORDS = 5
"""Of one row and block: four of 8 levels each, and one with scale and centre, both bfloat16"""

_AHEAD = 16
"""Blocks that are asked for ahead of time"""
_LINES = -(-WORDS * LANES * 4 // LINE)
_LARGEST = 32767
MOST = 2**14 - 1
"""What a number of a prompt becomes at most: a block's products with levels, -8 to 7, then add up to less than 2**22,
and such a sum is made a float32 by what it begins with, see `AWAY_BITS`"""
_SMALLEST = 1e-33
"""What a block must reach not to count as zeros: what the inputs of one far below are multiplied by is infinite"""
_KIND = Kind.of(LANES)
_SHORTS = ir.VectorType(ir.IntType(16), PAIRED)
_HALF = Kind.of(LEVELS_BLOCK // 2)
HALVES = [
    ir.Constant(_HALF.words, [first + at for first in range(0, LEVELS_BLOCK, 8) for at in range(begin, begin + 4)])
    for begin in (0, 4)
]
"""Of a block the first four of each eight, and the last: two of them lie side by side in the words of levels"""
AWAY, AWAY_BITS = 1.5 * 2**23, 0x4B400000
"""A float32 so large that what is added to it is rounded to whole numbers, which are its last bits; and its bits"""


@intrinsic
def _summed(typing_context: Any, words: Any, at: Any, x: Any, x_at: Any, first: Any) -> Any:
    """Lanes: the first number and, of W rows, the levels of one block times 32 of x."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words_kind, _, x_kind = signature.args[:3]
        words, at, x, x_at, first = args
        index, word = ir.IntType(64), ir.IntType(32)
        zero = _KIND.each(0)
        # for each place in a word a sum of its own, of levels as they lie there
        sums = [in_all(builder, first, _KIND.words), zero, zero, zero]
        for number in range(LEVELS_BLOCK // 8):
            here = builder.add(at, ir.Constant(index, number * LANES))
            whole = builder.load(pointer_to(context, builder, words_kind, (words, here), _KIND.words), align=4)
            for place in range(4):
                part = (
                    builder.and_(whole, _KIND.each(0x000F000F << 4 * place))
                    if place < 3
                    else builder.lshr(builder.bitcast(whole, _SHORTS), ir.Constant(_SHORTS, [12] * 2 * LANES))
                )
                here = builder.add(x_at, ir.Constant(index, number * 8 + place * 2))
                pair = builder.load(pointer_to(context, builder, x_kind, (x, here), word), align=2)
                each = in_all(builder, pair, _KIND.words)
                sums[place] = builder.add(sums[place], both(builder, part, each))
        low, high = (builder.ashr(sums[place], _KIND.each(4 * place)) for place in (1, 2))
        total = builder.add(builder.add(sums[0], sums[3]), builder.add(low, high))
        return builder.sitofp(total, _KIND.floats)

    return lanes_type(words, types.intp, x, types.intp, types.int32), of


@intrinsic
def halves_of(typing_context: Any, words: Any, at: Any) -> Any:
    """Lanes: the lower and the upper bfloat16 of each word."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = builder.load(pointer_to(context, builder, signature.args[0], args, _KIND.words), align=4)
        both = builder.shl(whole, _KIND.each(16)), builder.and_(whole, _KIND.each(0xFFFF0000))
        return context.make_tuple(builder, signature.return_type, [builder.bitcast(one, _KIND.floats) for one in both])

    return types.UniTuple(lanes_type, 2)(words, types.intp), of


@intrinsic
def _quantized(typing_context: Any, x: Any, at: Any, whole: Any, most: Any) -> Any:
    """One block of x to whole numbers up to the most: the step between two, the sum of x and that of the numbers."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        single, word = ir.FloatType(), ir.IntType(32)
        x, at, whole, most = args
        place = pointer_to(context, builder, signature.args[0], (x, at), ir.VectorType(single, LEVELS_BLOCK))
        block = builder.load(place, align=4)
        halves = [builder.shuffle_vector(block, ir.Constant(block.type, ir.Undefined), places) for places in HALVES]
        # as whole numbers, in whose order the bits of positive floats are: one instruction where floats take three
        sizes = [builder.and_(builder.bitcast(half, _HALF.words), _HALF.each(0x7FFFFFFF)) for half in halves]
        size = builder.select(builder.icmp_signed(">", *sizes), *sizes)
        reduce_to = f"vector.reduce.{{}}.v{_HALF.size}i32"
        largest = builder.bitcast(called(builder, reduce_to.format("smax"), word, size), single)
        total = reduced(builder, "fadd", builder.fadd(*halves), _HALF)
        counts = builder.fcmp_ordered(">", largest, ir.Constant(single, _SMALLEST))
        inverse = builder.select(counts, builder.fdiv(most, largest), ir.Constant(single, 0.0))
        inverse = in_all(builder, inverse, _HALF.floats)
        near = [builder.fadd(builder.fmul(half, inverse), _HALF.each(AWAY)) for half in halves]
        low, high = (builder.bitcast(half, _HALF.words) for half in near)
        pairs = builder.or_(builder.and_(low, _HALF.each(0xFFFF)), builder.shl(high, _HALF.each(16)))
        builder.store(pairs, pointer_to(context, builder, signature.args[2], (whole, at), _HALF.words), align=2)
        numbers = builder.sub(builder.add(low, high), _HALF.each(2 * AWAY_BITS - 2**32))
        step = builder.fdiv(largest, most)
        return context.make_tuple(
            builder, signature.return_type, [step, total, called(builder, reduce_to.format("add"), word, numbers)]
        )

    return types.Tuple((types.float32, types.float32, types.int32))(x, types.intp, whole, types.float32), of


@inner
def quantize(x: Floats, whole: NDArray[np.int16], steps: Floats, sums: Floats) -> None:
    """x [I] to 16 bits of the largest in each block: whole [I] times steps [G], beside each of the first
    four of eight the one four places on; sums [2, G], of x and of `whole`."""
    for g in range(steps.shape[0]):
        steps[g], sums[0, g], sums[1, g] = _quantized(x, g * LEVELS_BLOCK, whole, np.float32(_LARGEST))


@inner
def quantize_less(x: Floats, whole: NDArray[np.int16], steps: Floats, sums: Floats) -> None:
    """The same to 15 bits, see `MOST`, and without the sums of `whole`; sums [G], of x."""
    for g in range(steps.shape[0]):
        steps[g], sums[g], _ = _quantized(x, g * LEVELS_BLOCK, whole, np.float32(MOST))


@inner
def row_of(words: NDArray[np.int32], whole: NDArray[np.int16], steps: Floats, sums: Floats) -> Any:
    """Lanes: ((level - 8) * scale + centre) @ x of W rows, words [G * `WORDS` * W], for x as `quantize` leaves it."""
    row = spread(np.float32(0))
    for g in range(steps.shape[0]):
        at = g * WORDS * LANES
        prefetch(words, at + _AHEAD * WORDS * LANES, _LINES)
        scale, centre = halves_of(words, at + (WORDS - 1) * LANES)
        levels = _summed(words, at, whole, g * LEVELS_BLOCK, np.int32(-8) * np.int32(sums[1, g]))
        row += scale * spread(steps[g]) * levels + centre * spread(sums[0, g])
    return row


@inner
def _quantize_some(part: int, parts: int, x: Floats, whole: NDArray[np.int16], steps: Floats, sums: Floats) -> None:
    for n in range(len(x) * part // parts, len(x) * (part + 1) // parts):
        quantize(x[n], whole[n], steps[n], sums[n])


@inner
def _multiply_some(
    part: int,
    parts: int,
    words: NDArray[np.int32],
    whole: NDArray[np.int16],
    steps: Floats,
    sums: Floats,
    y: Floats,
) -> None:
    for o in range(len(words) * part // parts, len(words) * (part + 1) // parts):
        for n in range(len(y)):
            store(y[n], o * LANES, row_of(words[o], whole[n], steps[n], sums[n]))


@kept
def multiplied(x_at: int, words: NDArray[np.int32], y_at: int, tokens: int, parts: int) -> None:
    """x [N, I] to y [N, O], for weights of 16 levels.

    words [O / W, G * `WORDS` * W]: of W rows side by side, for each block four words of 8 levels, from the lowest bits
    on, and one of a scale below a centre. Each part of the work makes some of the rows.
    """
    count, blocks = words.shape[0], words.shape[1] // (WORDS * LANES)
    size = blocks * LEVELS_BLOCK
    x, y = float_array(x_at, (tokens, size)), float_array(y_at, (tokens, count * LANES))
    whole = np.empty((tokens, size), np.int16)
    steps, sums = np.empty((tokens, blocks), np.float32), np.empty((tokens, 2, blocks), np.float32)
    share(_quantize_some, min(parts, tokens), x, whole, steps, sums)
    share(_multiply_some, parts, words, whole, steps, sums, y)
