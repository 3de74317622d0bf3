"""Softmax of several tokens' scores at once, before and after they weigh values."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from molora.fast.kernel.building import arrays_of, following, place_of, variables
from molora.fast.kernel.instructions import Kind, exponential, in_all, index, narrowed, reduced
from molora.fast.kernel.keeping import REORDERS
from molora.fast.kernel.lanes import LANES
from molora.fast.kernel.several import TOGETHER, sums_type

_LEAST = -87.0
"""Of which e to it is a float32 that a CPU does not take a hundred times as long for; what is hidden is less"""
_KIND = Kind.of(LANES)
_WORD, _SINGLE = ir.IntType(32), ir.FloatType()


@intrinsic
def weigh(typing_context: Any, scores: Any, row: Any, read: Any, seen: Any, length: Any, totals: Any, to: Any) -> Any:
    """Of scores [M, any] in `TOGETHER` rows from one on the first ones, so many `read`, give e to each less the largest
    that their token sees, and 0 where it does not, to a narrow array [M, any], which may be the scores: the first token
    sees as many as are `seen`, each other one more than that before it, but no more than the `length`. totals [M] take
    each token's sum."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, row, read, seen, length, _, _ = args
        kinds = signature.args
        scores, totals, to = arrays_of(context, builder, (kinds[0], *kinds[5:]), (args[0], *args[5:]))
        each_row = [builder.add(row, index(n)) for n in range(TOGETHER)]
        rows, targets = (
            [builder.gep(one.data, [builder.mul(own, cgutils.unpack_tuple(builder, one.shape)[1])]) for own in each_row]
            for one in (scores, to)
        )
        each_end = following(builder, seen, length, TOGETHER)
        ends = [in_all(builder, builder.trunc(one, _WORD), _KIND.words) for one in each_end]
        each, nothing = ir.Constant(_KIND.words, list(range(LANES))), _KIND.each(-math.inf)
        most = variables(builder, [nothing] * TOGETHER)
        sums = variables(builder, [_KIND.each(0.0)] * TOGETHER)

        def over(work: Any) -> None:
            """Takes each token's places through work; where all are seen, no mask is made."""
            full, steps = builder.udiv(seen, index(LANES)), builder.udiv(read, index(LANES))
            for begin, end in ((index(0), full), (full, steps)):
                with cgutils.for_range(builder, builder.sub(end, begin)) as loop:
                    at = builder.mul(builder.add(begin, loop.index), index(LANES))
                    places = builder.add(each, in_all(builder, builder.trunc(at, _WORD), _KIND.words))
                    for n in range(TOGETHER):
                        work(n, at, None if end is full else builder.icmp_signed("<", places, ends[n]))

        def score_of(n: int, at: Any) -> Any:
            return builder.load(place_of(builder, rows[n], at, _KIND.floats), align=4)

        def compared(n: int, at: Any, sees: Any) -> None:
            score, before = score_of(n, at), builder.load(most[n])
            score = score if sees is None else builder.select(sees, score, nothing)
            builder.store(builder.select(builder.fcmp_ordered(">", score, before), score, before), most[n])

        def weighed(n: int, at: Any, sees: Any) -> None:
            less = builder.fsub(score_of(n, at), largest[n])
            counts = builder.fcmp_ordered(">", less, _KIND.each(_LEAST))
            counts = counts if sees is None else builder.and_(counts, sees)
            weight = builder.select(counts, exponential(builder, less, _KIND), _KIND.each(0.0))
            value, (held, size) = narrowed(builder, weight, kinds[6].dtype, _KIND), _KIND.of_array(kinds[6].dtype)
            builder.store(value, place_of(builder, targets[n], at, held), align=size)
            builder.store(builder.fadd(builder.load(sums[n]), weight, flags=REORDERS), sums[n])

        over(compared)
        largest = [in_all(builder, reduced(builder, "fmax", builder.load(one), _KIND), _KIND.floats) for one in most]
        over(weighed)
        for one, own in zip(sums, each_row, strict=True):
            builder.store(reduced(builder, "fadd", builder.load(one), _KIND), builder.gep(totals.data, [own]))
        return context.get_dummy_value()

    return types.void(scores, types.intp, types.intp, types.intp, types.intp, totals, to), of


@intrinsic
def divided(typing_context: Any, sums: Any, totals: Any, row: Any) -> Any:
    """The tokens' sums, each divided by its token's of the totals [M], from a row on."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (totals,), made = arrays_of(context, builder, signature.args[1:2], args[1:2]), []
        for number, own in enumerate(cgutils.unpack_tuple(builder, args[0])):
            total = builder.load(builder.gep(totals.data, [builder.add(args[2], index(number // 2))]))
            part = builder.fdiv(ir.Constant(_SINGLE, 1.0), total)
            made.append(builder.fmul(own, in_all(builder, part, _KIND.floats)))
        return context.make_tuple(builder, signature.return_type, made)

    return sums_type(sums, totals, types.intp), of
