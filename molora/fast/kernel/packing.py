"""Weights to 16 levels for every block of 32, in one go over each: float32 ones are read from memory once.

Axes: O out_features, I in_features, G blocks of 32 weights along I, W rows of a weight side by side: `LANES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from molora.fast.kernel.instructions import Kind, in_all
from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Floats, greatest, larger, load, pointer_to, spread
from molora.fast.kernel.levels import LEVELS_BLOCK, WORDS
from molora.fast.kernel.numbers import float_of, half
from molora.fast.kernel.parallel import share

_PLACES = 8
"""Levels in a word"""
_KIND = Kind.of(_PLACES)
_SHIFTS = ir.Constant(_KIND.words, [4 * place for place in range(_PLACES)])


@inner
def _ends(row: Floats, at: int) -> tuple[np.float32, np.float32]:
    """The least and the greatest weight of a block."""
    nothing = spread(np.float32(0))
    high = load(row, at)
    low = nothing - high
    for i in range(at + LANES, at + LEVELS_BLOCK, LANES):
        some = load(row, i)
        high, low = larger(high, some), larger(low, nothing - some)
    return -greatest(low), greatest(high)


@intrinsic
def _leveled(typing_context: Any, row: Any, at: Any, low: Any, scale: Any, inverse: Any) -> Any:
    """Four words of the levels of a block; and how far off its grid a weight lies at most, as the bits of a float32,
    of which those of no number are above all others."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row, at, *numbers = args
        low, scale, inverse = (in_all(builder, number, _KIND.floats) for number in numbers)
        worst, words = _KIND.each(0), []
        for first in range(0, LEVELS_BLOCK, _PLACES):
            place = row, builder.add(at, ir.Constant(at.type, first))
            weights = builder.load(pointer_to(context, builder, signature.args[0], place, _KIND.floats), align=4)
            above = builder.fadd(builder.fmul(builder.fsub(weights, low), inverse), _KIND.each(0.5))
            levels = builder.fptosi(above, _KIND.words)  # whole parts are cut off
            near = builder.fadd(low, builder.fmul(builder.sitofp(levels, _KIND.floats), scale))
            off = builder.and_(builder.bitcast(builder.fsub(near, weights), _KIND.words), _KIND.each(0x7FFFFFFF))
            worst = builder.select(builder.icmp_signed(">", off, worst), off, worst)
            words.append(_reduced(builder, "or", builder.shl(levels, _SHIFTS)))
        found = [*words, _reduced(builder, "smax", worst)]
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.int32, WORDS)(row, types.intp, types.float32, types.float32, types.float32), of


def _reduced(builder: Any, how: str, words: Any) -> Any:
    kind = ir.FunctionType(ir.IntType(32), [_KIND.words])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.{how}.v8i32")
    return builder.call(function, [words])


@inner
def _pack_row(row: Floats, words: NDArray[np.int32], place: int) -> tuple[np.int32, np.float32]:
    """A row's `place` in words [G, `WORDS`, W]; how far off its grid a weight lies at most, as `_leveled` tells it, and
    the sum of scales."""
    worst, total = np.int32(0), np.float32(0)
    for g in range(words.shape[0]):
        low, high = _ends(row, g * LEVELS_BLOCK)
        scale = (high - low) / np.float32(15)
        inverse = np.float32(1) / scale if scale > 0 else np.float32(0)
        found = _leveled(row, g * LEVELS_BLOCK, low, scale, inverse)
        for word in range(WORDS - 1):
            words[g, word, place] = found[word]
        worst = max(worst, found[WORDS - 1])
        halves = np.int32(half(scale)) | np.int32(half(low + np.float32(8) * scale)) << np.int32(16)
        words[g, WORDS - 1, place] = halves
        total += scale
    return worst, total


@inner
def _pack_some(part: int, parts: int, weight: Floats, words: NDArray[np.int32], found: Floats) -> None:
    count, farthest = words.shape[0], np.int32(0)
    for o in range(count * part // parts * LANES, count * (part + 1) // parts * LANES):
        worst, total = _pack_row(weight[o], words[o // LANES], o % LANES)
        farthest = max(farthest, worst)
        found[part, 1] += total
    found[part, 0] = float_of(farthest)


@kept
def packed(weight: Floats, words: NDArray[np.int32], found: Floats, parts: int) -> None:
    """A weight [O, I] to words [O / W, G, `WORDS`, W], as `levels.multiplied` takes them.

    found [parts, 2] takes how far off its grid a weight lies at most and the sum of all scales; each part of the work
    packs some rows.
    """
    share(_pack_some, parts, weight, words, found)
