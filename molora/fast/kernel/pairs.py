"""Pairs of 16 bits side by side: a CPU that multiplies such pairs adds two products at once.

They are bfloat16, whose products go to a float32, or whole numbers, whose products go to one of 32 bits. What a CPU
cannot do with bfloat16 itself is done in float32, to the same result but for the order of the sums.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic, models, register_model

from molora.fast.kernel.instructions import MULTIPLIES, Kind, bfloats, called, in_all
from molora.fast.kernel.keeping import REORDERS
from molora.fast.kernel.lanes import LANES, lanes_type, pointer_to

PAIRED = 2 * LANES
"""How many 16 bits lie side by side"""

_ADDS = bool(binding.get_host_cpu_features().get("avx512vnni")) and LANES == 16
if _ADDS:
    binding.initialize_native_asmparser()
_KIND = Kind.of(LANES)
_BFLOATS = bfloats(PAIRED)
_SHORTS = ir.VectorType(ir.IntType(16), PAIRED)
_WIDE = ir.VectorType(ir.IntType(32), PAIRED)


class _Pairs(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Pairs")


@register_model(_Pairs)
class _PairsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _KIND.words)


words_type = _Pairs()


@intrinsic
def load_pairs(typing_context: Any, array: Any, at: Any) -> Any:
    """Those of an array from a place on."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(pointer_to(context, builder, signature.args[0], args, _KIND.words), align=2)

    return words_type(array, types.intp), of


@intrinsic
def store_pairs(typing_context: Any, array: Any, at: Any, pairs: Any) -> Any:
    def to(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], pointer_to(context, builder, signature.args[0], args[:2], _KIND.words), align=2)
        return context.get_dummy_value()

    return types.void(array, types.intp, pairs), to


@intrinsic
def braided(typing_context: Any, one: Any, other: Any, at: Any) -> Any:
    """The bfloat16 of two arrays from a place on, each with the other's."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low, high = (
            builder.zext(
                builder.load(pointer_to(context, builder, signature.args[0], (array, args[2]), _KIND.halves), align=2),
                _KIND.words,
            )
            for array in args[:2]
        )
        return builder.or_(low, builder.shl(high, _KIND.each(16)))

    return words_type(one, other, types.intp), of


@intrinsic
def spread_pair(typing_context: Any, array: Any, at: Any) -> Any:
    """The two at a place, in all of them."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(pointer_to(context, builder, signature.args[0], args, ir.IntType(32)), align=2)
        return in_all(builder, value, _KIND.words)

    return words_type(array, types.intp), of


@intrinsic
def dot(typing_context: Any, lanes: Any, one: Any, other: Any) -> Any:
    """Lanes with both products of each pair added."""

    def multiplied(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        both = (builder.bitcast(pairs, _BFLOATS) for pairs in args[1:])
        return called(builder, "x86.avx512bf16.dpbf16ps.512", _KIND.floats, args[0], *both)

    def widened(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        result = args[0]
        for part in (
            lambda pairs: builder.shl(pairs, _KIND.each(16)),
            lambda pairs: builder.and_(pairs, _KIND.each(0xFFFF0000)),
        ):
            floats = (builder.bitcast(part(pairs), _KIND.floats) for pairs in args[1:])
            result = builder.fadd(result, builder.fmul(*floats, flags=REORDERS), flags=REORDERS)
        return result

    return lanes_type(lanes, words_type, words_type), multiplied if MULTIPLIES else widened


def both(builder: Any, one: Any, other: Any) -> Any:
    """Instructions for both products of each pair of whole numbers, added; x86 has one for it."""
    product = builder.mul(*(builder.sext(builder.bitcast(pairs, _SHORTS), _WIDE) for pairs in (one, other)))
    nothing = ir.Constant(_WIDE, ir.Undefined)
    every = [ir.Constant(_KIND.words, list(range(first, PAIRED, 2))) for first in (0, 1)]
    return builder.add(*(builder.shuffle_vector(product, nothing, places) for places in every))


def both_onto(builder: Any, sums: Any, one: Any, other: Any) -> Any:
    """Instructions for sums, whole numbers, with both products of each pair. Where a CPU has one instruction for all of
    it, that one is named: LLVM takes two instead where it supposes that a sum is waited for."""
    if not _ADDS:
        return builder.add(sums, both(builder, one, other))
    kind = ir.FunctionType(_KIND.words, [_KIND.words] * 3)
    return builder.asm(kind, "vpdpwssd $2, $1, $0", "=v,v,v,0", [one, other, sums], side_effect=False)
