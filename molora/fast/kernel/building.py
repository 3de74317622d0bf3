"""What instructions for several tokens at once are built of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from molora.fast.kernel.instructions import in_all, index
from molora.fast.kernel.keeping import REORDERS


def arrays_of(context: Any, builder: Any, kinds: Any, values: Any) -> list[Any]:
    return [context.make_array(kind)(context, builder, one) for kind, one in zip(kinds, values, strict=True)]


def place_of(builder: Any, data: Any, at: Any, target: Any) -> Any:
    """To `target`s from a place in an array's numbers on."""
    return builder.bitcast(builder.gep(data, [at]), target.as_pointer())


def read_at(builder: Any, data: Any, at: Any, kind: Any, count: int, align: int) -> list[Any]:
    """As many registers as lie side by side from a place on."""
    first = place_of(builder, data, at, kind)
    return [builder.load(builder.gep(first, [index(number)]), align=align) for number in range(count)]


def everywhere(builder: Any, data: Any, at: Any, kind: Any, vector: Any, align: int) -> Any:
    """The number at a place, in a whole register."""
    return in_all(builder, builder.load(place_of(builder, data, at, kind), align=align), vector)


def add_product(builder: Any, place: Any, one: Any, other: Any) -> None:
    """To what is there."""
    product = builder.fmul(one, other, flags=REORDERS)
    builder.store(builder.fadd(builder.load(place), product, flags=REORDERS), place)


def four_sums(builder: Any, four: Sequence[Any], size: int) -> Any:
    """Those of four registers, side by side: half the work of one sum after the other."""
    for order in ((0, size, 1, size + 1), (0, 1, size, size + 1)):  # one of each in turns, then two of each
        halves = [[first + at for first in range(begin, size, 4) for at in order] for begin in (0, 2)]
        four = [_added(builder, *both, halves) for both in zip(four[::2], four[1::2], strict=True)]
    (sums,) = four
    while size > 4:
        size //= 2
        sums = _added(builder, sums, sums, [list(range(size)), list(range(size, 2 * size))])
    return sums


def _added(builder: Any, one: Any, other: Any, halves: Sequence[list[int]]) -> Any:
    """Two choices of the numbers of two registers."""
    kinds = [ir.VectorType(ir.IntType(32), len(half)) for half in halves]
    both = [
        builder.shuffle_vector(one, other, ir.Constant(kind, half)) for kind, half in zip(kinds, halves, strict=True)
    ]
    return builder.fadd(*both, flags=REORDERS)


def following(builder: Any, first: Any, last: Any, count: int, step: int = 1) -> list[Any]:
    """So many numbers, a step more each time, but none beyond the last."""
    each = [builder.add(first, index(more)) for more in range(0, count * step, step)]
    return [builder.select(builder.icmp_signed("<", one, last), one, last) for one in each]


def variables(builder: Any, values: Sequence[Any]) -> list[Any]:
    """Made anew wherever a loop comes by."""
    places = [cgutils.alloca_once(builder, value.type) for value in values]
    for place, value in zip(places, values, strict=True):
        builder.store(value, place)
    return places
