"""Tuples of arrays, as many as a model has layers, handed over at once: a row of each says where its arrays are.

numba's own list holds such tuples too, but takes seconds to compile, and counts who holds each array at each visit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core.pythonapi import NativeValue
from numba.extending import intrinsic, models, register_model, typeof_impl, unbox
from numba.np.arrayobj import populate_array

_INDEX = ir.IntType(64)


class Table:
    """Raises TypeError unless all tuples are of one type: of arrays and floats, or of such tuples. Holds the arrays."""

    def __init__(self, tuples: Sequence[Any]) -> None:
        kinds = {typeof(one) for one in tuples}
        if len(kinds) != 1:
            raise TypeError(f"Of one type each, not of {len(kinds)}")
        self.kind = TableType(kinds.pop())
        self.tuples = list(tuples)
        self._rows = np.array([list(_flat(one)) for one in tuples], np.int64)
        self.address: int = self._rows.ctypes.data


class TableType(types.Type):
    """Of tuples of one kind."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        super().__init__(f"Table({kind})")


@intrinsic
def row(typing_context: Any, table: Any, number: Any) -> Any:
    """A tuple of them, with arrays that are nobody's: the table holds them."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, (address, number) = signature.return_type, args
        begin = builder.mul(number, ir.Constant(_INDEX, _width(kind)))
        place, at = builder.inttoptr(address, _INDEX.as_pointer()), 0

        def read(pointer: Any = _INDEX) -> Any:
            nonlocal at
            at += 1
            where = builder.gep(place, [builder.add(begin, ir.Constant(_INDEX, at - 1))])
            return builder.load(builder.bitcast(where, pointer.as_pointer()))

        def made(kind: Any) -> Any:
            if isinstance(kind, types.BaseTuple):
                return context.make_tuple(builder, kind, [made(one) for one in kind])
            if isinstance(kind, types.Float):
                return read(context.get_value_type(kind))
            array = context.make_array(kind)(context, builder)
            data = read(array.data.type)
            shape, strides = ([read() for _ in range(kind.ndim)] for _ in range(2))
            item = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
            populate_array(array, data=data, shape=shape, strides=strides, itemsize=item, meminfo=None)
            return array._getvalue()

        return made(kind)

    return table.kind(table, types.intp), of


def _flat(value: Any) -> Iterator[int]:
    """As `row` reads it."""
    if isinstance(value, tuple):
        for one in value:
            yield from _flat(one)
    elif isinstance(value, np.ndarray):
        yield from (value.ctypes.data, *value.shape, *value.strides)
    else:
        yield int(np.float64(value).view(np.int64))


def _width(kind: Any) -> int:
    """How many numbers `row` reads."""
    if isinstance(kind, types.BaseTuple):
        return sum(_width(one) for one in kind)
    return 1 + 2 * kind.ndim if isinstance(kind, types.Array) else 1


@register_model(TableType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _INDEX)


@typeof_impl.register(Table)
def _kind(table: Table, _: Any) -> Any:
    return table.kind


@unbox(TableType)
def _address(_: Any, table: Any, c: Any) -> Any:
    address = c.pyapi.object_getattr_string(table, "address")
    native = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    return NativeValue(native)
