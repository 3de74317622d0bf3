"""Several tokens at once, as many as there are registers for: what is read of a panel serves all of them, and no sum
waits for its last product.

A panel is a matrix of which two registers' worth of columns lie side by side.

Axes: T tokens, `TOGETHER`; G blocks of 32 weights along I; B rows of a bank: what all experts have for a panel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from molora.fast.kernel.instructions import Kind, called, exponential, in_all, index, reduced, silu_of
from molora.fast.kernel.keeping import REORDERS
from molora.fast.kernel.lanes import LANES, lanes_type
from molora.fast.kernel.levels import AWAY, AWAY_BITS, LEVELS_BLOCK
from molora.fast.kernel.pairs import both_onto

TOGETHER = 6 if LANES == 16 else 4
"""There are 32 registers of that width, and 16 of others on most CPUs"""
WIDTH = 2 * LANES
"""Columns of a panel"""
_LEAST = -87.0
"""Of which e to it is a float32 that a CPU does not take a hundred times as long for; what is hidden is less"""
_UNROLLS = LANES == 16
"""Whether a block's products are made without a loop; with fewer registers some would be put away and fetched again"""

_KIND = Kind.of(LANES)
_FMA = f"fma.v{LANES}f32"
"""Rounds once: of the numbers that begin with `AWAY_BITS` nothing else would be left"""
_INDEX, _WORD, _SINGLE = ir.IntType(64), ir.IntType(32), ir.FloatType()
_tokens_type = types.UniTuple(types.intp, TOGETHER)
_sums_type = types.UniTuple(lanes_type, 2 * TOGETHER)
"""Two registers of each of the tokens"""


@intrinsic
def some(typing_context: Any, first: Any, count: Any) -> Any:
    """From the first token on as many as are read at once; where there are fewer, the last one several times."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        some = _from(builder, args[0], builder.sub(args[1], index(1)))
        return context.make_tuple(builder, signature.return_type, some)

    return _tokens_type(types.intp, types.intp), of


@intrinsic
def begun(typing_context: Any, low: Any, high: Any) -> Any:
    """Two registers, as the sums of each token."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, signature.return_type, list(args) * TOGETHER)

    return _sums_type(low, high), of


@intrinsic
def tokens_of(typing_context: Any, numbers: Any, group: Any) -> Any:
    """The tokens of a group, numbers [groups, T]."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (numbers,) = _arrays(context, builder, signature.args[:1], args[:1])
        first = builder.gep(numbers.data, [builder.mul(args[1], index(TOGETHER))])
        each = [builder.load(builder.gep(first, [index(n)])) for n in range(TOGETHER)]
        return context.make_tuple(builder, signature.return_type, each)

    return _tokens_type(numbers, types.intp), of


@intrinsic
def held(typing_context: Any, y: Any, tokens: Any) -> Any:
    """The tokens' sums that `put` left in y."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _in_y(context, builder, signature.args, args)
        return context.make_tuple(builder, signature.return_type, [builder.load(place, align=4) for place in places])

    return _sums_type(y, tokens), of


@intrinsic
def with_levels(typing_context: Any, sums: Any, rooms: Any, read: Any, tokens: Any) -> Any:
    """The tokens' sums with what they give with a panel of levels.

    rooms: pairs of levels less 8 [G*16, 2*`WIDTH`], scales and centres [G, `WIDTH`]. read: what the tokens read, in
    whole numbers [N, G*32], steps [N, G] and sums [N, G], see `levels.quantize_less`.
    """

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        panel, scales, centres = _arrays(context, builder, signature.args[1], cgutils.unpack_tuple(builder, args[1]))
        whole, steps, sums = _arrays(context, builder, signature.args[2], cgutils.unpack_tuple(builder, args[2]))
        blocks, tokens = cgutils.unpack_tuple(builder, scales.shape)[0], cgutils.unpack_tuple(builder, args[3])
        lines = [builder.mul(n, blocks) for n in tokens]
        wholes = [builder.gep(whole.data, [builder.mul(line, index(LEVELS_BLOCK))]) for line in lines]
        every_step = [builder.gep(steps.data, [line]) for line in lines]
        every_sum = [builder.gep(sums.data, [line]) for line in lines]
        totals = _variables(builder, cgutils.unpack_tuple(builder, args[0]))
        with cgutils.for_range(builder, blocks) as loop:
            g, products = loop.index, [_KIND.each(AWAY_BITS)] * 2 * TOGETHER
            begin = builder.mul(g, index(LEVELS_BLOCK))

            def with_pair(products: Sequence[Any], at: Any) -> list[Any]:
                weights = _two(builder, panel.data, builder.mul(at, index(WIDTH)), _KIND.words, 2)
                each = [_everywhere(builder, own, at, _WORD, _KIND.words, 2) for own in wholes]
                numbered = enumerate(products)
                return [both_onto(builder, own, weights[number % 2], each[number // 2]) for number, own in numbered]

            if _UNROLLS:
                for pair in range(0, LEVELS_BLOCK, 2):
                    products = with_pair(products, builder.add(begin, index(pair)))
            else:
                places = _variables(builder, products)
                with cgutils.for_range(builder, index(LEVELS_BLOCK // 2)) as pairs:
                    at = builder.add(begin, builder.mul(pairs.index, index(2)))
                    made = with_pair([builder.load(place) for place in places], at)
                    for place, value in zip(places, made, strict=True):
                        builder.store(value, place)
                products = [builder.load(place) for place in places]
            at = builder.mul(g, index(WIDTH))
            every_scale, every_centre = (_two(builder, one.data, at, _KIND.floats, 4) for one in (scales, centres))
            every_shift = [builder.fmul(scale, _KIND.each(-AWAY)) for scale in every_scale]
            for number, place in enumerate(totals):
                n, half = divmod(number, 2)
                step, total = (
                    _everywhere(builder, own[n], g, _SINGLE, _KIND.floats, 4) for own in (every_step, every_sum)
                )
                levels = builder.bitcast(products[number], _KIND.floats)
                scaled = called(builder, _FMA, _KIND.floats, levels, every_scale[half], every_shift[half])
                _add(builder, place, scaled, step)
                _add(builder, place, every_centre[half], total)
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in totals])

    return _sums_type(sums, rooms, read, tokens), of


@intrinsic
def raised(typing_context: Any, sums: Any, bank: Any, first: Any, h: Any, group: Any) -> Any:
    """The tokens' sums with what their group's h [groups, R, T] adds through R rows of the bank [B, `WIDTH`], from the
    first on, which are the same for all of them."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bank, h = _arrays(context, builder, signature.args[1:4:2], args[1:4:2])
        rank = cgutils.unpack_tuple(builder, h.shape)[1]
        totals = _variables(builder, cgutils.unpack_tuple(builder, args[0]))
        low = builder.gep(h.data, [builder.mul(args[4], builder.mul(rank, index(TOGETHER)))])
        lows = [(builder.gep(low, [index(n)]), TOGETHER) for n in range(TOGETHER)]
        weights = builder.gep(bank.data, [builder.mul(args[2], index(WIDTH))])
        _multiply(builder, totals, weights, index(WIDTH), rank, lows)
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in totals])

    return _sums_type(sums, bank, types.intp, h, types.intp), of


@intrinsic
def added(typing_context: Any, sums: Any, others: Any) -> Any:
    """The tokens' sums and others."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        both = zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True)
        return context.make_tuple(builder, signature.return_type, [builder.fadd(*two) for two in both])

    return _sums_type(sums, others), of


@intrinsic
def gated(typing_context: Any, gates: Any, sums: Any) -> Any:
    """silu of the gates times the sums."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        both = zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True)
        made = [builder.fmul(silu_of(builder, gate, _KIND), own) for gate, own in both]
        return context.make_tuple(builder, signature.return_type, made)

    return _sums_type(gates, sums), of


@intrinsic
def put(typing_context: Any, sums: Any, y: Any, tokens: Any) -> Any:
    """The tokens' sums into y: an array of float32, where in it, counted in numbers, the first token's begin, how far
    apart two tokens lie, and how far a token's two registers."""

    def to(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _in_y(context, builder, signature.args[1:], args[1:])
        for own, place in zip(cgutils.unpack_tuple(builder, args[0]), places, strict=True):
            builder.store(own, place, align=4)
        return context.get_dummy_value()

    return types.void(sums, y, tokens), to


@intrinsic
def multiplied(typing_context: Any, x: Any, panel: Any, rows: Any, tokens: Any) -> Any:
    """The tokens' sums of their x times so many rows of a panel. Each is an array of float32, where in it, counted in
    numbers, the first token or row begins, and how far apart two of them lie."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (x, x_line), (panel, line) = (_lines(context, builder, signature.args[i], args[i]) for i in range(2))
        totals = _variables(builder, [_KIND.each(0.0)] * 2 * TOGETHER)
        lows = [(builder.gep(x, [builder.mul(n, x_line)]), 1) for n in cgutils.unpack_tuple(builder, args[3])]
        _multiply(builder, totals, panel, line, args[2], lows)
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in totals])

    return _sums_type(x, panel, types.intp, tokens), of


@intrinsic
def weigh(typing_context: Any, scores: Any, row: Any, read: Any, seen: Any, length: Any, totals: Any) -> Any:
    """Of scores [M, any] in `TOGETHER` rows from one on the first ones, so many `read`, become e to each less the
    largest that their token sees, and 0 where it does not: the first token sees as many as are `seen`, each other one
    more than that before it, but no more than the `length`. totals [M] take each token's sum."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, row, read, *seen, _ = args
        scores, totals = _arrays(context, builder, signature.args[:6:5], args[:6:5])
        each_row = [builder.add(row, index(n)) for n in range(TOGETHER)]
        line = cgutils.unpack_tuple(builder, scores.shape)[1]
        rows = [builder.gep(scores.data, [builder.mul(one, line)]) for one in each_row]
        ends = [in_all(builder, builder.trunc(one, _WORD), _KIND.words) for one in _from(builder, *seen)]
        each, nothing = ir.Constant(_KIND.words, list(range(LANES))), _KIND.each(-math.inf)
        most = _variables(builder, [nothing] * TOGETHER)
        sums = _variables(builder, [_KIND.each(0.0)] * TOGETHER)

        def over(work: Any) -> None:
            """Takes each token's scores through work; where all are seen, no mask is made."""
            full, steps = builder.udiv(seen[0], index(LANES)), builder.udiv(read, index(LANES))
            for begin, end in ((index(0), full), (full, steps)):
                with cgutils.for_range(builder, builder.sub(end, begin)) as loop:
                    at = builder.mul(builder.add(begin, loop.index), index(LANES))
                    places = builder.add(each, in_all(builder, builder.trunc(at, _WORD), _KIND.words))
                    for n, row in enumerate(rows):
                        sees = None if end is full else builder.icmp_signed("<", places, ends[n])
                        work(n, _place(builder, row, at, _KIND.floats), sees)

        def compared(n: int, place: Any, sees: Any) -> None:
            score, before = builder.load(place, align=4), builder.load(most[n])
            score = score if sees is None else builder.select(sees, score, nothing)
            builder.store(builder.select(builder.fcmp_ordered(">", score, before), score, before), most[n])

        def weighed(n: int, place: Any, sees: Any) -> None:
            less = builder.fsub(builder.load(place, align=4), largest[n])
            counts = builder.fcmp_ordered(">", less, _KIND.each(_LEAST))
            counts = counts if sees is None else builder.and_(counts, sees)
            weight = builder.select(counts, exponential(builder, less, _KIND), _KIND.each(0.0))
            builder.store(weight, place, align=4)
            builder.store(builder.fadd(builder.load(sums[n]), weight, flags=REORDERS), sums[n])

        over(compared)
        largest = [in_all(builder, reduced(builder, "fmax", builder.load(one), _KIND), _KIND.floats) for one in most]
        over(weighed)
        for one, own in zip(sums, each_row, strict=True):
            builder.store(reduced(builder, "fadd", builder.load(one), _KIND), builder.gep(totals.data, [own]))
        return context.get_dummy_value()

    return types.void(scores, types.intp, types.intp, types.intp, types.intp, totals), of


@intrinsic
def divided(typing_context: Any, sums: Any, totals: Any, row: Any) -> Any:
    """The tokens' sums, each divided by its token's of the totals [M], from a row on."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (totals,), made = _arrays(context, builder, signature.args[1:2], args[1:2]), []
        for number, own in enumerate(cgutils.unpack_tuple(builder, args[0])):
            total = builder.load(builder.gep(totals.data, [builder.add(args[2], index(number // 2))]))
            part = builder.fdiv(ir.Constant(_SINGLE, 1.0), total)
            made.append(builder.fmul(own, in_all(builder, part, _KIND.floats)))
        return context.make_tuple(builder, signature.return_type, made)

    return _sums_type(sums, totals, types.intp), of


def _in_y(context: Any, builder: Any, kinds: Any, args: Any) -> list[Any]:
    """Where the tokens' two registers are in what `put` takes."""
    y, first, line, apart = cgutils.unpack_tuple(builder, args[0])
    (y,), places = _arrays(context, builder, [kinds[0][0]], [y]), []
    for token in cgutils.unpack_tuple(builder, args[1]):
        low = builder.add(first, builder.mul(token, line))
        places += [_place(builder, y.data, own, _KIND.floats) for own in (low, builder.add(low, apart))]
    return places


def _multiply(
    builder: Any, totals: Sequence[Any], panel: Any, line: Any, rows: Any, lows: Sequence[tuple[Any, int]]
) -> None:
    """Adds to each token's two registers its numbers, where they begin and how far apart they lie, times so many rows
    of a panel."""
    with cgutils.for_range(builder, rows) as loop:
        weights = _two(builder, panel, builder.mul(loop.index, line), _KIND.floats, 4)
        for number, place in enumerate(totals):
            (low, apart), half = lows[number // 2], number % 2
            at = builder.mul(loop.index, index(apart))
            _add(builder, place, weights[half], _everywhere(builder, low, at, _SINGLE, _KIND.floats, 4))


def _from(builder: Any, first: Any, last: Any) -> list[Any]:
    """As many numbers as there are tokens, one more each time, but none beyond the last."""
    each = [builder.add(first, index(more)) for more in range(TOGETHER)]
    return [builder.select(builder.icmp_signed("<", one, last), one, last) for one in each]


def _lines(context: Any, builder: Any, kind: Any, value: Any) -> tuple[Any, Any]:
    """To the first of an array's numbers that count, and how far apart lines are."""
    array, first, line = cgutils.unpack_tuple(builder, value)
    data = context.make_array(kind[0])(context, builder, array).data
    return builder.gep(data, [first]), line


def _arrays(context: Any, builder: Any, kinds: Any, values: Any) -> list[Any]:
    return [context.make_array(kind)(context, builder, one) for kind, one in zip(kinds, values, strict=True)]


def _place(builder: Any, data: Any, at: Any, target: Any) -> Any:
    """To `target`s from a place in an array's numbers on."""
    return builder.bitcast(builder.gep(data, [at]), target.as_pointer())


def _two(builder: Any, data: Any, at: Any, kind: Any, align: int) -> list[Any]:
    """Both registers of a panel's row."""
    first = _place(builder, data, at, kind)
    return [builder.load(builder.gep(first, [index(half)]), align=align) for half in range(2)]


def _everywhere(builder: Any, data: Any, at: Any, kind: Any, vector: Any, align: int) -> Any:
    """The number at a place, in a whole register."""
    return in_all(builder, builder.load(_place(builder, data, at, kind), align=align), vector)


def _plus(builder: Any, sums: Any, one: Any, other: Any) -> Any:
    """The sums and a product."""
    return builder.fadd(sums, builder.fmul(one, other, flags=REORDERS), flags=REORDERS)


def _add(builder: Any, place: Any, one: Any, other: Any) -> None:
    """A product to what is there."""
    builder.store(_plus(builder, builder.load(place), one, other), place)


def _variables(builder: Any, values: Sequence[Any]) -> list[Any]:
    """Made anew wherever a loop comes by."""
    places = [cgutils.alloca_once(builder, value.type) for value in values]
    for place, value in zip(places, values, strict=True):
        builder.store(value, place)
    return places
