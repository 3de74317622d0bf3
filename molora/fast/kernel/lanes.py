"""Several float32 side by side as one value, as wide as the CPU's registers.

Left to itself the compiler puts a loop on such registers only where it can prove that no array overlaps another, which
a few arrays more, or a call taken into a loop, are enough to keep it from.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core.typing import signature
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model
from numpy.typing import NDArray

from molora.fast.kernel.instructions import Kind, exponential, in_all, narrowed, reduced, silu_of, widened
from molora.fast.kernel.keeping import REORDERS

Floats = NDArray[np.float32]
Narrow = NDArray[Any]
Float16 = NDArray[np.int16]
"""Its bits: numba has no float16 on a CPU"""

_HAS = binding.get_host_cpu_features()
LANES = 16 if _HAS.get("avx512f") else 8 if _HAS.get("avx") else 4
"""How many"""

_KIND = Kind.of(LANES)


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _KIND.floats)


lanes_type = _Lanes()


def pointer_to(context: Any, builder: Any, kind: Any, place: Any, target: Any) -> Any:
    """To `target`s from a `place` on, an array of a kind and an index."""
    array, at = place
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), target.as_pointer())


def loaded(builder: Any, place: Any, dtype: Any, kind: Kind = _KIND) -> Any:
    """Instructions for the lanes of narrow numbers from a place on."""
    held, size = kind.of_array(dtype)
    return widened(builder, builder.load(builder.bitcast(place, held.as_pointer()), align=size), dtype, kind)


def _arithmetic(operation: Any, instruction: str) -> None:
    """Lets compiled code write an operation of two as it does for numbers."""

    @infer_global(operation)
    class _Template(ConcreteTemplate):
        cases = (signature(lanes_type, lanes_type, lanes_type),)

    @lower_builtin(operation, _Lanes, _Lanes)
    def _lowered(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args, flags=REORDERS)


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.iadd, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_operation, _instruction)


@intrinsic
def load(typing_context: Any, array: Any, at: Any) -> Any:
    """Those of a narrow array [any] from a place on."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, (array, at) = signature.args[0], args
        data = context.make_array(kind)(context, builder, array).data
        return loaded(builder, builder.gep(data, [at]), kind.dtype)

    return lanes_type(array, types.intp), of


@intrinsic
def load_two(typing_context: Any, array: Any, at: Any) -> Any:
    """Those of a narrow array from a place on, and as many after them. Of bfloat16, which lie two in a word, those in
    the lower halves and those in the upper ones: see `as_two` and `in_line`."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        if kind.dtype != types.uint16:
            place = pointer_to(context, builder, kind, args, _KIND.of_array(kind.dtype)[0])
            both = [loaded(builder, builder.gep(place, [ir.Constant(ir.IntType(32), i)]), kind.dtype) for i in range(2)]
        else:
            words = builder.load(pointer_to(context, builder, kind, args, _KIND.words), align=2)
            halves = builder.shl(words, _KIND.each(16)), builder.and_(words, _KIND.each(0xFFFF0000))
            both = [builder.bitcast(half, _KIND.floats) for half in halves]
        return context.make_tuple(builder, signature.return_type, both)

    return types.UniTuple(lanes_type, 2)(array, types.intp), of


def _placed(typing_context: Any, array: Any, one: Any, other: Any, places: tuple[list[int], list[int]]) -> Any:
    """Both, in float32 as they are, else from the given places of the two side by side."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        both = args[1:]
        if signature.args[0].dtype == types.uint16:
            word = ir.VectorType(ir.IntType(32), LANES)
            both = [builder.shuffle_vector(*args[1:], ir.Constant(word, own)) for own in places]
        return context.make_tuple(builder, signature.return_type, both)

    return types.UniTuple(lanes_type, 2)(array, one, other), of


@intrinsic
def as_two(typing_context: Any, array: Any, one: Any, other: Any) -> Any:
    """Lanes one after the other, as `load_two` has those of such an array."""
    return _placed(typing_context, array, one, other, (list(range(0, 2 * LANES, 2)), list(range(1, 2 * LANES, 2))))


@intrinsic
def in_line(typing_context: Any, array: Any, one: Any, other: Any) -> Any:
    """Lanes as `load_two` has them, one after the other again."""
    line = [at // 2 + at % 2 * LANES for at in range(2 * LANES)]
    return _placed(typing_context, array, one, other, (line[:LANES], line[LANES:]))


@intrinsic
def store(typing_context: Any, array: Any, at: Any, lanes: Any) -> Any:
    """Puts them there, see `instructions.narrowed`."""

    def to(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        (held, size), value = _KIND.of_array(kind.dtype), narrowed(builder, args[2], kind.dtype, _KIND)
        builder.store(value, pointer_to(context, builder, kind, args[:2], held), align=size)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), to


@intrinsic
def spread(typing_context: Any, value: Any) -> Any:
    """The same float32 in all of them."""

    def one(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return in_all(builder, args[0], _KIND.floats)

    return lanes_type(types.float32), one


@intrinsic
def spread_one(typing_context: Any, array: Any, at: Any) -> Any:
    """The float32 at a place, in all of them: unlike an index, a place is not looked at for being negative."""

    def one(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(pointer_to(context, builder, signature.args[0], args, ir.FloatType()), align=4)
        return in_all(builder, value, _KIND.floats)

    return lanes_type(array, types.intp), one


@intrinsic
def silu(typing_context: Any, lanes: Any) -> Any:
    """x / (1 + e to the -x)."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return silu_of(builder, args[0], _KIND)

    return lanes_type(lanes_type), of


@intrinsic
def exp_lanes(typing_context: Any, lanes: Any) -> Any:
    """e to each."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return exponential(builder, args[0], _KIND)

    return lanes_type(lanes_type), of


@intrinsic
def larger(typing_context: Any, one: Any, other: Any) -> Any:
    """Of each two the larger."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return lanes_type(lanes_type, lanes_type), of


def _where(typing_context: Any, how: str, *lanes: Any) -> Any:
    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(how, *args[:2]), *args[2:])

    return lanes_type(*lanes), of


@intrinsic
def where_larger(typing_context: Any, one: Any, other: Any, yes: Any, no: Any) -> Any:
    """Where one is larger than the other, what is to be there then, and elsewhere the last."""
    return _where(typing_context, ">", one, other, yes, no)


@intrinsic
def where_same(typing_context: Any, one: Any, other: Any, yes: Any, no: Any) -> Any:
    """The same where they are equal."""
    return _where(typing_context, "==", one, other, yes, no)


@intrinsic
def greatest(typing_context: Any, lanes: Any) -> Any:
    """Of all the one."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return reduced(builder, "fmax", args[0], _KIND)

    return types.float32(lanes_type), of


@intrinsic
def total(typing_context: Any, lanes: Any) -> Any:
    """Their sum."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return reduced(builder, "fadd", args[0], _KIND)

    return types.float32(lanes_type), of
