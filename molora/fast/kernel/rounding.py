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
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from molora.fast.kernel.instructions import MULTIPLIES, Kind, bfloats, called, index, rounded
from molora.fast.kernel.keeping import REORDERS, inner
from molora.fast.kernel.lanes import LANES, Floats, Narrow, lanes_type, load, pointer_to, spread
from molora.fast.kernel.levels import HALVES, LEVELS_BLOCK, WORDS, halves_of
from molora.fast.kernel.pairs import PAIRED, store_pairs, words_type
from molora.fast.kernel.several import WIDTH

PAIRS = LEVELS_BLOCK // 2
"""Of a block"""
_KIND = Kind.of(LANES)
_HALF = Kind.of(LEVELS_BLOCK // 2)
_WEIGHTS = ir.VectorType(ir.IntType(16), PAIRED)
_DIGITS, _ONE = 19, 0x3F800000
"""Where the last of a float32's upper four digits lies, and the bits of 1"""


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
def _twice(typing_context: Any, lanes: Any) -> Any:
    """Each of the lanes beside itself, in two registers."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        each = [ir.Constant(_KIND.words, [at // 2 for at in range(first, first + LANES)]) for first in (0, LANES)]
        both = [builder.shuffle_vector(args[0], args[0], places) for places in each]
        return context.make_tuple(builder, signature.return_type, both)

    return types.UniTuple(lanes_type, 2)(lanes), of


@intrinsic
def _unpack_eight(typing_context: Any, words: Any, at: Any, scales: Any, leasts: Any, panel: Any, to: Any) -> Any:
    """Eight levels of each row from a place in the words on, to four lines of a panel's pairs from a place on. As the
    upper digits of a float32 from 1 to 2 a level needs no other conversion: each counts 1/16."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        whole = builder.load(pointer_to(context, builder, kinds[0], args[:2], _KIND.words), align=4)
        shorts = builder.bitcast(whole, _WEIGHTS)
        parts = [ir.Constant(_KIND.words, list(range(first, first + LANES))) for first in (0, LANES)]
        halves = [builder.zext(builder.shuffle_vector(shorts, shorts, part), _KIND.words) for part in parts]
        both = [cgutils.unpack_tuple(builder, value) for value in args[2:4]]
        for place in range(4):
            found = []
            for half, scale, least in zip(halves, *both, strict=True):
                digits = builder.and_(builder.shl(half, _KIND.each(_DIGITS - 4 * place)), _KIND.each(15 << _DIGITS))
                number = builder.bitcast(builder.or_(digits, _KIND.each(_ONE)), _KIND.floats)
                found.append(builder.fadd(builder.fmul(number, scale, flags=REORDERS), least, flags=REORDERS))
            line = builder.add(args[5], index(place * 2 * WIDTH))
            builder.store(
                _in_line(builder, found), pointer_to(context, builder, kinds[4], (args[4], line), _KIND.words), align=2
            )
        return context.get_dummy_value()

    return types.void(words, types.intp, scales, leasts, panel, types.intp), of


def _in_line(builder: Any, floats: Sequence[Any]) -> Any:
    """Two registers as bfloat16, one after the other."""
    if MULTIPLIES and LANES == 16:
        name, kind = "x86.avx512bf16.cvtne2ps2bf16.512", bfloats(PAIRED)
        return builder.bitcast(called(builder, name, kind, *reversed(floats)), _KIND.words)
    one, other = (rounded(builder, each, _KIND) for each in floats)
    places = ir.Constant(ir.VectorType(ir.IntType(32), PAIRED), list(range(PAIRED)))
    return builder.bitcast(builder.shuffle_vector(one, other, places), _KIND.words)


@inner
def unpack_rounded(words: NDArray[np.int32], at: int, panel: Narrow) -> None:
    """Rows side by side, words [G * `WORDS` * W], to their place in a panel [G*16, 2*`WIDTH`]. No row of them is taken
    by itself, as in `picks.pick`."""
    for g in range(len(words) // (WORDS * LANES)):
        first = g * WORDS * LANES
        scale, centre = halves_of(words, first + (WORDS - 1) * LANES)
        scales = _twice(spread(np.float32(16)) * scale)
        leasts = _twice(centre - spread(np.float32(24)) * scale)
        for number in range(WORDS - 1):
            to = ((g * PAIRS + number * 4) * WIDTH + at) * 2
            _unpack_eight(words, first + number * LANES, scales, leasts, panel, to)


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
