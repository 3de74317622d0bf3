"""Single numbers, and arrays at an address."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from molora.fast.kernel.instructions import Kind, exponential, narrowed, rounded, widened
from molora.fast.kernel.keeping import inner

_ALONE = Kind.of()


@intrinsic
def wide(typing_context: Any, value: Any) -> Any:
    """One of a narrow array as float32."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return widened(builder, args[0], signature.args[0], _ALONE)

    return types.float32(value), of


@intrinsic
def pointer(typing_context: Any, address: Any) -> Any:
    def cast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.intp), cast


@intrinsic
def address_of(typing_context: Any, array: Any, at: Any) -> Any:
    """Of an array's number, as long as somebody holds the array: who does is counted at each call that is given one,
    which takes as long as a small product."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(builder.gep(data, [args[1]]), ir.IntType(64))

    return types.intp(array, types.intp), of


@inner
def float_array(address: int, shape: Any) -> Any:
    return carray(pointer(address), shape, np.float32)


@inner
def float16_array(address: int, shape: Any) -> Any:
    return carray(pointer(address), shape, np.int16)


@inner
def narrow_array(address: int, shape: Any, like: Any) -> Any:
    return carray(pointer(address), shape, like.dtype)


@inner
def pairs_array(address: int, count: int) -> Any:
    """bfloat16 one after the other."""
    return carray(pointer(address), (count,), np.uint16)


@intrinsic
def float_of(typing_context: Any, bits: Any) -> Any:
    """The float32 that has these bits."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), of


@intrinsic
def half(typing_context: Any, value: Any) -> Any:
    """bfloat16's bits of a float32, rounded to the nearest, to the even one of two."""

    def bits(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return rounded(builder, args[0], _ALONE)

    return types.uint16(types.float32), bits


@intrinsic
def put(typing_context: Any, array: Any, at: Any, value: Any) -> Any:
    """A float32 into a narrow array."""

    def to(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        narrow = narrowed(builder, args[2], kind.dtype, _ALONE)
        data = context.make_array(kind)(context, builder, args[0]).data
        builder.store(narrow, builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.float32), to


@intrinsic
def exp(typing_context: Any, x: Any) -> Any:
    """e to the x, from 1e-38 to 1e38, to 4e-6 of it, 1e-7 from -1 to 1. A call of the library's for each number would
    leave the others of a loop waiting."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return exponential(builder, args[0], _ALONE)

    return types.float32(types.float32), of
