"""Asks memory ahead of time for what is read soon: CPUs guess it only a little ahead, and not across gaps, so that one
token, for which all weights are read once, waits for memory most of its time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from molora.fast.kernel.instructions import called, index
from molora.fast.kernel.keeping import inner
from molora.fast.kernel.lanes import Narrow, pointer_to

LINE = 64
"""Bytes that a CPU reads at once"""

_TO_READ = [ir.Constant(ir.IntType(32), flag) for flag in (0, 2, 1)]
"""No write, kept in the second cache, data: the first one has room for too little ahead of time, and loses it again"""


def asked(builder: Any, first: Any, lines: Any) -> None:
    """Instructions that ask for so many lines from a place on."""
    with cgutils.for_range(builder, lines) as loop:
        place = builder.gep(first, [builder.mul(loop.index, index(LINE))])
        called(builder, "prefetch.p0i8", ir.VoidType(), place, *_TO_READ)


@intrinsic
def prefetch(typing_context: Any, array: Any, at: Any, lines: Any) -> Any:
    """So many lines from a number of the array on. What is asked for beyond its end is not read."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, at, lines = args
        asked(builder, pointer_to(context, builder, signature.args[0], (array, at), ir.IntType(8)), lines)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), of


@inner
def lines_of(array: Narrow, count: int) -> int:
    """That so many of an array's numbers take."""
    return -(-count * array.itemsize // LINE)


@inner
def prefetch_rows(weight: Narrow) -> None:
    """All of a part of a weight, whose rows lie one after the other."""
    for at in range(0, weight.size, LINE // weight.itemsize):
        prefetch(weight, at, 1)
