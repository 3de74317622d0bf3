"""Some rows of a weight times some tokens, both read along I: as many sums at once as fill registers when they are
added up.

Axes: W numbers of a register, `_LANES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from molora.fast.kernel.instructions import Kind, index
from molora.fast.kernel.keeping import REORDERS
from molora.fast.kernel.lanes import LANES, loaded

_LANES = min(LANES, 8)
"""No more than 256 bits: products of floats in longer registers, for more than some microseconds, make Intel's CPUs do
all else in such registers slower for a millisecond (by 4% to 7%), which is more than they save here"""
TOKENS = 4
ROWS = 4 if LANES == 16 else _LANES // TOKENS
"""With `TOKENS` half of the registers, of which there are 32 where there are longer ones"""

_KIND = Kind.of(_LANES)
_INDEX = ir.IntType(64)


@intrinsic
def dots(
    typing_context: Any, weight: Any, row: Any, x: Any, begin: Any, end: Any, tokens: Any, at: Any, h: Any, to: Any
) -> Any:
    """Adds to `ROWS` columns of h [M, any], from one on, what as many rows of a weight, from one on, give for x [N, I]
    from `begin` to `end` along I, for `TOKENS` of the tokens [M] from a place on; the last one's several times, but
    added once, where there are fewer."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        weight, x, tokens, h = (context.make_array(signature.args[i])(context, builder, args[i]) for i in (0, 2, 5, 7))
        last = builder.sub(cgutils.unpack_tuple(builder, tokens.shape)[0], index(1))
        places = [builder.add(args[6], index(more)) for more in range(TOKENS)]
        places = [builder.select(builder.icmp_signed("<", place, last), place, last) for place in places]
        inputs = [_row(builder, x, builder.load(builder.gep(tokens.data, [place]))) for place in places]
        rows = [_row(builder, weight, builder.add(args[1], index(more))) for more in range(ROWS)]
        sums = [cgutils.alloca_once(builder, _KIND.floats) for _ in range(TOKENS * ROWS)]
        for place in sums:
            builder.store(_KIND.each(0.0), place)
        with cgutils.for_range(builder, builder.udiv(builder.sub(args[4], args[3]), index(_LANES))) as loop:
            o = builder.mul(loop.index, index(_LANES))
            i = builder.add(args[3], o)
            read = [loaded(builder, builder.gep(own, [i]), signature.args[2].dtype, _KIND) for own in inputs]
            weights = [loaded(builder, builder.gep(own, [o]), signature.args[0].dtype, _KIND) for own in rows]
            for number, place in enumerate(sums):
                product = builder.fmul(weights[number % ROWS], read[number // ROWS], flags=REORDERS)
                builder.store(builder.fadd(builder.load(place), product, flags=REORDERS), place)
        each, parts, targets = [builder.load(place) for place in sums], [], []
        found = [_added_up(builder, each[first : first + _LANES]) for first in range(0, len(each), _LANES)]
        for number, place in enumerate(places):
            which, first = divmod(number * ROWS, _LANES)
            own = ir.Constant(ir.VectorType(ir.IntType(32), ROWS), list(range(first, first + ROWS)))
            part = builder.shuffle_vector(found[which], ir.Constant(found[which].type, ir.Undefined), own)
            target = builder.gep(_row(builder, h, place), [args[8]])
            targets.append(builder.bitcast(target, part.type.as_pointer()))
            parts.append(builder.fadd(builder.load(targets[-1], align=4), part, flags=REORDERS))
        for part, target in zip(parts, targets, strict=True):  # when all are read: some may be the same one
            builder.store(part, target, align=4)
        return context.get_dummy_value()

    number = types.intp
    return types.void(weight, number, x, number, number, tokens, number, h, number), of


def _row(builder: Any, array: Any, number: Any) -> Any:
    """To a row's first number."""
    first = builder.ptrtoint(array.data, _INDEX)
    line = cgutils.unpack_tuple(builder, array.strides)[0]
    return builder.inttoptr(builder.add(first, builder.mul(number, line)), array.data.type)


def _added_up(builder: Any, lanes: Sequence[Any]) -> Any:
    """The sum of each of W registers, side by side in one: halves of two are added to each other, then quarters
    of two that hold such sums, and so on, in a third of the steps that it takes for each of them alone."""
    length = _LANES
    while len(lanes) > 1:
        length //= 2
        firsts = [2 * length * part + more for part in range(_LANES // length) for more in range(length)]
        low, high = (ir.Constant(_KIND.words, [at + half for at in firsts]) for half in (0, length))
        lanes = [
            builder.fadd(
                builder.shuffle_vector(one, other, low), builder.shuffle_vector(one, other, high), flags=REORDERS
            )
            for one, other in zip(lanes[::2], lanes[1::2], strict=True)
        ]
    return lanes[0]
