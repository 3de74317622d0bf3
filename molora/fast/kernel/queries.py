"""Several queries of one key head at once: what is read of its keys and values serves all of them.

Beyond the last query, token or number of a head the last one stands again, and is worked on in vain.

Axes: Q queries of the key head, D their size, T tokens.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from molora.fast.kernel.building import add_product, arrays_of, everywhere, following, four_sums, place_of, variables
from molora.fast.kernel.instructions import Kind, index
from molora.fast.kernel.lanes import LANES, loaded
from molora.fast.kernel.prefetching import LINE, asked

QUERIES, ROWS, REGISTERS = 3, 4, 4
"""At once: with AVX2 there are 16 registers, and sums take twelve"""
_KIND, _SINGLE = Kind.of(LANES), ir.FloatType()


@intrinsic
def score(typing_context: Any, query: Any, first: Any, keys: Any, at: Any, scores: Any) -> Any:
    """Products of `QUERIES` of the queries [Q, D] with `ROWS` of the keys [T, D], narrow, from one of each on, to their
    place in scores [Q, T, up to whole registers]."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        query, keys, scores = arrays_of(context, builder, kinds[::2], args[::2])
        queries, rows = _rows(builder, query, args[1], QUERIES), _rows(builder, keys, args[3], ROWS)
        sums = variables(builder, [_KIND.each(0.0)] * QUERIES * ROWS)
        size = cgutils.unpack_tuple(builder, keys.shape)[1]
        with cgutils.for_range(builder, builder.udiv(size, index(LANES))) as loop:
            d = builder.mul(loop.index, index(LANES))
            each = [loaded(builder, builder.gep(row, [d]), types.float32) for row in queries]
            for number, row in enumerate(rows):
                key = loaded(builder, builder.gep(row, [d]), kinds[2].dtype)
                for q, own in enumerate(each):
                    add_product(builder, sums[q * ROWS + number], key, own)
        for q, row in enumerate(_rows(builder, scores, args[1], QUERIES)):
            four = [builder.load(one) for one in sums[q * ROWS : (q + 1) * ROWS]]
            found = four_sums(builder, four, LANES)
            builder.store(found, place_of(builder, row, args[3], found.type), align=4)
        return context.get_dummy_value()

    return types.void(query, types.intp, keys, types.intp, scores), of


@intrinsic
def add_weighted(
    typing_context: Any, weights: Any, first: Any, values: Any, span: Any, y: Any, at: Any, ahead: Any
) -> Any:
    """Adds to `QUERIES` of y [Q, D] from the first on, in `REGISTERS` from a number on, a span of the values [T, D],
    narrow, by weights [Q, T or more]; values `ahead` tokens on are asked for in time."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        weights, values, y = arrays_of(context, builder, kinds[:5:2], args[:5:2])
        size = cgutils.unpack_tuple(builder, values.shape)[1]
        last = builder.sub(size, index(LANES))
        places = following(builder, args[5], last, REGISTERS, LANES)
        to = [builder.gep(row, [d]) for row in _rows(builder, y, args[1], QUERIES) for d in places]
        each, (begin, end) = _rows(builder, weights, args[1], QUERIES), cgutils.unpack_tuple(builder, args[3])
        sums = variables(builder, [loaded(builder, place, types.float32) for place in to])
        lines = -(-REGISTERS * LANES * kinds[2].dtype.bitwidth // (8 * LINE))
        with cgutils.for_range(builder, end, begin) as loop:
            row = builder.gep(values.data, [builder.mul(loop.index, size)])
            later = builder.gep(row, [builder.add(builder.mul(args[6], size), args[5])])
            asked(builder, builder.bitcast(later, ir.IntType(8).as_pointer()), index(lines))
            own = [everywhere(builder, one, loop.index, _SINGLE, _KIND.floats, 4) for one in each]
            for number, d in enumerate(places):
                value = loaded(builder, builder.gep(row, [d]), kinds[2].dtype)
                for q, weight in enumerate(own):
                    add_product(builder, sums[q * REGISTERS + number], value, weight)
        for place, one in zip(to, sums, strict=True):
            builder.store(builder.load(one), builder.bitcast(place, _KIND.floats.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(weights, types.intp, values, types.UniTuple(types.intp, 2), y, types.intp, types.intp), of


def _rows(builder: Any, array: Any, first: Any, count: int) -> list[Any]:
    """Where so many rows of a matrix begin."""
    rows, columns = cgutils.unpack_tuple(builder, array.shape)
    each = following(builder, first, builder.sub(rows, index(1)), count)
    return [builder.gep(array.data, [builder.mul(row, columns)]) for row in each]
