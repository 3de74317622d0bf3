"""Numbers in bfloat16, side by side as products take them by pairs: beside each of the first four of eight the one four
places on, as levels lie in their words, or beside each row of a matrix the next one.

Axes: see `panels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from molora.fast.kernel.instructions import Kind, rounded
from molora.fast.kernel.keeping import REORDERS, inner
from molora.fast.kernel.lanes import LANES, Floats, Narrow, lanes_type, load, pointer_to, spread
from molora.fast.kernel.levels import HALVES, LEVELS_BLOCK, WORDS, halves_of
from molora.fast.kernel.pairs import PAIRED, load_pairs, store_pairs, words_type
from molora.fast.kernel.several import WIDTH

PAIRS = LEVELS_BLOCK // 2
"""Of a block"""
_KIND = Kind.of(LANES)
_HALF = Kind.of(LEVELS_BLOCK // 2)
_WEIGHTS = ir.VectorType(ir.IntType(16), PAIRED)


def _paired(builder: Any, both: Sequence[Any], kind: Kind) -> Any:
    """Floats side by side as bfloat16, each with the other's."""
    halves = [builder.zext(rounded(builder, one, kind), kind.words) for one in both]
    return builder.or_(halves[0], builder.shl(halves[1], kind.each(16)))


def _left(builder: Any, floats: Any, kind: Kind) -> Any:
    """What rounding takes from them."""
    bits = builder.shl(builder.zext(rounded(builder, floats, kind), kind.words), kind.each(16))
    return builder.fsub(floats, builder.bitcast(bits, kind.floats))


@intrinsic
def _rounded(typing_context: Any, x: Any, at: Any, to: Any, rest: Any) -> Any:
    """One block of x, to the same places of two arrays: in bfloat16, and what is then left of it."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, at, to, rest = args
        place = pointer_to(context, builder, signature.args[0], (x, at), ir.VectorType(ir.FloatType(), LEVELS_BLOCK))
        block = builder.load(place, align=4)
        halves = [builder.shuffle_vector(block, ir.Constant(block.type, ir.Undefined), own) for own in HALVES]
        left = [_left(builder, half, _HALF) for half in halves]
        for kind, array, own in ((signature.args[2], to, halves), (signature.args[3], rest, left)):
            builder.store(
                _paired(builder, own, _HALF), pointer_to(context, builder, kind, (array, at), _HALF.words), align=2
            )
        return context.get_dummy_value()

    return types.void(x, types.intp, to, rest), of


@inner
def round_row(x: Floats, to: Narrow, rest: Narrow) -> None:
    """x [I] in bfloat16, and what is then left of it, both in the order of levels."""
    for at in range(0, len(x), LEVELS_BLOCK):
        _rounded(x, at, to, rest)


@intrinsic
def _weights(typing_context: Any, words: Any, place: Any, scale: Any, least: Any) -> Any:
    """Of both halves of words the level at a place, times a scale, and what level 0 stands for: pairs."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words, place, scale, least = args
        at, found = builder.trunc(builder.mul(place, ir.Constant(place.type, 4)), ir.IntType(32)), []
        for half in (0, 16):
            bits = builder.add(at, ir.Constant(at.type, half))
            shift = builder.insert_element(ir.Constant(_KIND.words, ir.Undefined), bits, ir.Constant(ir.IntType(32), 0))
            shift = builder.shuffle_vector(shift, shift, ir.Constant(_KIND.words, [0] * LANES))
            level = builder.and_(builder.lshr(words, shift), _KIND.each(15))
            level = builder.sitofp(level, _KIND.floats)
            found.append(builder.fadd(builder.fmul(level, scale, flags=REORDERS), least, flags=REORDERS))
        return _paired(builder, found, _KIND)

    return words_type(words, types.intp, lanes_type, lanes_type), of


@inner
def unpack_rounded(words: NDArray[np.int32], at: int, panel: Narrow) -> None:
    """Rows side by side, words [G * `WORDS` * W], to their place in a panel [G*16, 2*`WIDTH`]. No row of them is taken
    by itself, as in `picks.pick`."""
    for g in range(len(words) // (WORDS * LANES)):
        first = g * WORDS * LANES
        scale, centre = halves_of(words, first + (WORDS - 1) * LANES)
        least = centre - spread(np.float32(8)) * scale
        for number in range(WORDS - 1):
            eight = load_pairs(words, first + number * LANES)
            for place in range(4):
                pair = g * PAIRS + number * 4 + place
                store_pairs(panel, (pair * WIDTH + at) * 2, _weights(eight, place, scale, least))


@intrinsic
def _braid(typing_context: Any, one: Any, other: Any) -> Any:
    """Pairs of two lanes."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _paired(builder, args, _KIND)

    return words_type(lanes_type, lanes_type), of


@inner
def braid(matrix: Narrow, first: int, other: int, columns: int, panel: Narrow, to: int) -> None:
    """Two lines of a matrix, from two places in its numbers on, to a place in a panel's."""
    for i in range(0, columns, LANES):
        store_pairs(panel, to + 2 * i, _braid(load(matrix, first + i), load(matrix, other + i)))
