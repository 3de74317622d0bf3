"""Products with weights of 16 levels, in whole numbers: a CPU adds two products of 16 bits to a float's width at once.

Axes: G blocks of 32 weights along I, W rows of a weight side by side: `LANES`.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from molora.fast.kernel.instructions import Kind, called, in_all, reduced
from molora.fast.kernel.keeping import inner, shared
from molora.fast.kernel.lanes import LANES, Floats, lanes_type, pointer_to, spread, store
from molora.fast.kernel.numbers import float_array
from molora.fast.kernel.pairs import PAIRED, both

LEVELS_BLOCK = 32
WORDS = 5
"""Of one row and block: four of 8 levels each, and one with scale and centre, both bfloat16"""

_LARGEST = 32767.0
_SMALLEST = 1e-33
"""What a block must reach not to count as zeros: what the inputs of one far below are multiplied by is infinite"""
_KIND = Kind.of(LANES)
_SHORTS = ir.VectorType(ir.IntType(16), PAIRED)
_MANY = Kind.of(max(LANES, 8))
_AS_LEVELS = ir.Constant(
    _MANY.words, [first + at for first in range(0, _MANY.size, 8) for at in (0, 4, 1, 5, 2, 6, 3, 7)]
)
"""Of eight, beside each of the first four the one that is four places on, as levels lie in the words"""
_AWAY, _AWAY_BITS = 1.5 * 2**23, 0x4B400000
"""A float32 so large that what is added to it is rounded to whole numbers, which are its last bits"""


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
def _quantized(typing_context: Any, x: Any, at: Any, whole: Any) -> Any:
    """One block of x to whole numbers: the step between two, the sum of x and that of the whole numbers."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_kind, _, whole_kind = signature.args
        x, at, whole = args

        single, word, index = ir.FloatType(), ir.IntType(32), ir.IntType(64)
        places = [builder.add(at, ir.Constant(index, first)) for first in range(0, LEVELS_BLOCK, _MANY.size)]
        parts = [
            builder.load(pointer_to(context, builder, x_kind, (x, place), _MANY.floats), align=4) for place in places
        ]
        # as whole numbers, in whose order the bits of positive floats are: one instruction where floats take three
        sizes = [builder.and_(builder.bitcast(part, _MANY.words), _MANY.each(0x7FFFFFFF)) for part in parts]
        most = reduce(lambda a, b: builder.select(builder.icmp_signed(">", a, b), a, b), sizes)
        reduce_to = f"vector.reduce.{{}}.v{_MANY.size}i32"
        largest = builder.bitcast(called(builder, reduce_to.format("smax"), word, most), single)
        total = reduced(builder, "fadd", reduce(builder.fadd, parts), _MANY)
        inverse = builder.fdiv(ir.Constant(single, _LARGEST), largest)
        counts = builder.fcmp_ordered(">", largest, ir.Constant(single, _SMALLEST))
        inverse = in_all(builder, builder.select(counts, inverse, ir.Constant(single, 0.0)), _MANY.floats)
        numbers = []
        for part, place in zip(parts, places, strict=True):
            near = builder.bitcast(builder.fadd(builder.fmul(part, inverse), _MANY.each(_AWAY)), _MANY.words)
            numbers.append(builder.sub(near, _MANY.each(_AWAY_BITS)))
            halves = builder.trunc(near, _MANY.halves)  # of the bits of `_AWAY` none is among them
            halves = builder.shuffle_vector(halves, ir.Constant(_MANY.halves, ir.Undefined), _AS_LEVELS)
            builder.store(halves, pointer_to(context, builder, whole_kind, (whole, place), _MANY.halves), align=2)
        whole_total = called(builder, reduce_to.format("add"), word, reduce(builder.add, numbers))
        step = builder.fmul(largest, ir.Constant(single, 1 / _LARGEST))
        return context.make_tuple(builder, signature.return_type, [step, total, whole_total])

    return types.Tuple((types.float32, types.float32, types.int32))(x, types.intp, whole), of


@inner
def quantize(x: Floats, whole: NDArray[np.int16], steps: Floats, sums: Floats) -> None:
    """x [I] to 16 bits of the largest in each block: whole [I] times steps [G], those of 8 in the order `_AS_LEVELS`;
    sums [2, G], of x and of `whole`."""
    for g in range(steps.shape[0]):
        steps[g], sums[0, g], sums[1, g] = _quantized(x, g * LEVELS_BLOCK, whole)


@inner
def row_of(words: NDArray[np.int32], whole: NDArray[np.int16], steps: Floats, sums: Floats) -> Any:
    """Lanes: ((level - 8) * scale + centre) @ x of W rows, words [G * `WORDS` * W], for x as `quantize` leaves it."""
    row = spread(np.float32(0))
    for g in range(steps.shape[0]):
        at = g * WORDS * LANES
        scale, centre = halves_of(words, at + (WORDS - 1) * LANES)
        levels = _summed(words, at, whole, g * LEVELS_BLOCK, np.int32(-8) * np.int32(sums[1, g]))
        row += scale * spread(steps[g]) * levels + centre * spread(sums[0, g])
    return row


@shared
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
    for part in prange(parts):
        for n in range(tokens * part // parts, tokens * (part + 1) // parts):
            quantize(x[n], whole[n], steps[n], sums[n])
    for part in prange(parts):
        for o in range(count * part // parts, count * (part + 1) // parts):
            for n in range(tokens):
                store(y[n], o * LANES, row_of(words[o], whole[n], steps[n], sums[n]))
