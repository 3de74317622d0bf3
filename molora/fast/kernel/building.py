"""What instructions for several tokens at once are built of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def following(builder: Any, first: Any, last: Any, count: int) -> list[Any]:
    """So many numbers, one more each time, but none beyond the last."""
    each = [builder.add(first, index(more)) for more in range(count)]
    return [builder.select(builder.icmp_signed("<", one, last), one, last) for one in each]


def variables(builder: Any, values: Sequence[Any]) -> list[Any]:
    """Made anew wherever a loop comes by."""
    places = [cgutils.alloca_once(builder, value.type) for value in values]
    for place, value in zip(places, values, strict=True):
        builder.store(value, place)
    return places
