"""Single numbers, and arrays at an address."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from molora.fast.kernel.keeping import inner

FAST = "reassoc", "contract", "nsz"
_FIT = 1.53375768e-4, 1.33998604e-3, 9.61851953e-3, 5.550329e-2, 0.240226466, 0.693147206, 1.0
"""Of 2 ** x from -0.5 to 0.5, the highest power first"""


@intrinsic
def wide(typing_context: Any, value: Any) -> Any:
    """One of a narrow array as float32."""

    def bits(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(args[0], word), ir.Constant(word, 16)), ir.FloatType())

    def same(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[0]

    return types.float32(value), bits if value == types.uint16 else same


@intrinsic
def pointer(typing_context: Any, address: Any) -> Any:
    def cast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.intp), cast


@inner
def float_array(address: int, shape: Any) -> Any:
    return carray(pointer(address), shape, np.float32)


@inner
def half_array(address: int, shape: Any) -> Any:
    return carray(pointer(address), shape, np.uint16)


@inner
def narrow_array(address: int, shape: Any, like: Any) -> Any:
    return carray(pointer(address), shape, like.dtype)


class Words(NamedTuple):
    """The types of a float32 or of several side by side, and of the integers beside them."""

    floats: Any
    words: Any
    halves: Any
    count: int

    @classmethod
    def of(cls, count: int = 1) -> Words:
        kinds = ir.FloatType(), ir.IntType(32), ir.IntType(16)
        return cls(*(kind if count == 1 else ir.VectorType(kind, count) for kind in kinds), count)

    def each(self, number: int | float) -> Any:
        kind = self.floats if isinstance(number, float) else self.words
        return ir.Constant(kind, number if self.count == 1 else [number] * self.count)


def rounded(builder: Any, value: Any, kind: Words) -> Any:
    """Instructions for bfloat16's bits: the nearest, the even one of two."""
    bits = builder.bitcast(value, kind.words)
    even = builder.and_(builder.lshr(bits, kind.each(16)), kind.each(1))
    sum_ = builder.add(builder.add(bits, kind.each(0x7FFF)), even)
    return builder.trunc(builder.lshr(sum_, kind.each(16)), kind.halves)


def exponential(builder: Any, x: Any, kind: Words) -> Any:
    """Instructions for e to the x: 2 to the whole part of x / ln 2 by its bits, to the rest, -0.5 to 0.5, by a least
    squares fit."""
    power = builder.fmul(x, kind.each(1.44269504))
    for worst, beyond in ((-126.0, "<"), (126.0, ">")):
        limit = kind.each(worst)
        power = builder.select(builder.fcmp_ordered(beyond, power, limit), limit, power)
    whole = builder.fptosi(builder.fadd(power, kind.each(127.5)), kind.words)  # the nearest, and the exponent's 127
    rest = builder.fsub(power, builder.sitofp(builder.sub(whole, kind.each(127)), kind.floats))
    near = kind.each(_FIT[0])
    for factor in _FIT[1:]:
        near = builder.fadd(builder.fmul(near, rest, flags=FAST), kind.each(factor), flags=FAST)
    return builder.fmul(near, builder.bitcast(builder.shl(whole, kind.each(23)), kind.floats))


@intrinsic
def half(typing_context: Any, value: Any) -> Any:
    """bfloat16's bits of a float32, rounded to the nearest, to the even one of two."""

    def bits(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return rounded(builder, args[0], Words.of())

    return types.uint16(types.float32), bits


@intrinsic
def as_in(typing_context: Any, array: Any, value: Any) -> Any:
    """A float32 as a narrow array has it."""

    def bits(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return rounded(builder, args[1], Words.of())

    def same(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[1]

    return array.dtype(array, types.float32), bits if array.dtype == types.uint16 else same


@intrinsic
def exp(typing_context: Any, x: Any) -> Any:
    """e to the x, from 1e-38 to 1e38, to 4e-6 of it, 1e-7 from -1 to 1. A call of the library's for each number would
    leave the others of a loop waiting."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return exponential(builder, args[0], Words.of())

    return types.float32(types.float32), of
