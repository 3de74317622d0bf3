"""Several tokens at once, as many as there are registers for: what is read of a panel serves all of them, and no sum
waits for its last product.

A panel is a matrix of which two registers' worth of columns lie side by side.

Axes: T tokens, `TOGETHER`; G blocks of 32 weights along I; B rows of a bank: what all experts have for a panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from molora.fast.kernel.building import add_product, arrays_of, everywhere, following, place_of, read_at, variables
from molora.fast.kernel.instructions import Kind, called, index, silu_of
from molora.fast.kernel.lanes import LANES, lanes_type
from molora.fast.kernel.levels import AWAY, AWAY_BITS, LEVELS_BLOCK
from molora.fast.kernel.pairs import both_onto

TOGETHER = 6 if LANES == 16 else 4
"""There are 32 registers of that width, and 16 of others on most CPUs"""
WIDTH = 2 * LANES
"""Columns of a panel"""
_UNROLLS = LANES == 16
"""Whether a block's products are made without a loop; with fewer registers some would be put away and fetched again"""

_KIND = Kind.of(LANES)
_FMA = f"fma.v{LANES}f32"
"""Rounds once: of the numbers that begin with `AWAY_BITS` nothing else would be left"""
_WORD, _SINGLE = ir.IntType(32), ir.FloatType()
tokens_type = types.UniTuple(types.intp, TOGETHER)
sums_type = types.UniTuple(lanes_type, 2 * TOGETHER)
"""Two registers of each of the tokens"""


@intrinsic
def some(typing_context: Any, first: Any, count: Any) -> Any:
    """From the first token on as many as are read at once; where there are fewer, the last one several times."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        some = following(builder, args[0], builder.sub(args[1], index(1)), TOGETHER)
        return context.make_tuple(builder, signature.return_type, some)

    return tokens_type(types.intp, types.intp), of


@intrinsic
def begun(typing_context: Any, low: Any, high: Any) -> Any:
    """Two registers, as the sums of each token."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, signature.return_type, list(args) * TOGETHER)

    return sums_type(low, high), of


@intrinsic
def tokens_of(typing_context: Any, numbers: Any, group: Any) -> Any:
    """The tokens of a group, numbers [groups, T]."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (numbers,) = arrays_of(context, builder, signature.args[:1], args[:1])
        first = builder.gep(numbers.data, [builder.mul(args[1], index(TOGETHER))])
        each = [builder.load(builder.gep(first, [index(n)])) for n in range(TOGETHER)]
        return context.make_tuple(builder, signature.return_type, each)

    return tokens_type(numbers, types.intp), of


@intrinsic
def held(typing_context: Any, y: Any, tokens: Any) -> Any:
    """The tokens' sums that `put` left in y."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _in_y(context, builder, signature.args, args)
        return context.make_tuple(builder, signature.return_type, [builder.load(place, align=4) for place in places])

    return sums_type(y, tokens), of


@intrinsic
def with_levels(typing_context: Any, sums: Any, rooms: Any, read: Any, tokens: Any) -> Any:
    """The tokens' sums with what they give with a panel of levels.

    rooms: pairs of levels less 8 [G*16, 2*`WIDTH`], scales and centres [G, `WIDTH`]. read: what the tokens read, in
    whole numbers [N, G*32], steps [N, G] and sums [N, G], see `levels.quantize_less`.
    """

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        panel, scales, centres = arrays_of(context, builder, signature.args[1], cgutils.unpack_tuple(builder, args[1]))
        whole, steps, sums = arrays_of(context, builder, signature.args[2], cgutils.unpack_tuple(builder, args[2]))
        blocks, tokens = cgutils.unpack_tuple(builder, scales.shape)[0], cgutils.unpack_tuple(builder, args[3])
        lines = [builder.mul(n, blocks) for n in tokens]
        wholes = [builder.gep(whole.data, [builder.mul(line, index(LEVELS_BLOCK))]) for line in lines]
        every_step = [builder.gep(steps.data, [line]) for line in lines]
        every_sum = [builder.gep(sums.data, [line]) for line in lines]
        totals = variables(builder, cgutils.unpack_tuple(builder, args[0]))
        with cgutils.for_range(builder, blocks) as loop:
            g, products = loop.index, [_KIND.each(AWAY_BITS)] * 2 * TOGETHER
            begin = builder.mul(g, index(LEVELS_BLOCK))

            def with_pair(products: Sequence[Any], at: Any) -> list[Any]:
                weights = read_at(builder, panel.data, builder.mul(at, index(WIDTH)), _KIND.words, 2, 2)
                each = [everywhere(builder, own, at, _WORD, _KIND.words, 2) for own in wholes]
                numbered = enumerate(products)
                return [both_onto(builder, own, weights[number % 2], each[number // 2]) for number, own in numbered]

            if _UNROLLS:
                for pair in range(0, LEVELS_BLOCK, 2):
                    products = with_pair(products, builder.add(begin, index(pair)))
            else:
                places = variables(builder, products)
                with cgutils.for_range(builder, index(LEVELS_BLOCK // 2)) as pairs:
                    at = builder.add(begin, builder.mul(pairs.index, index(2)))
                    made = with_pair([builder.load(place) for place in places], at)
                    for place, value in zip(places, made, strict=True):
                        builder.store(value, place)
                products = [builder.load(place) for place in places]
            at = builder.mul(g, index(WIDTH))
            every_scale, every_centre = (
                read_at(builder, one.data, at, _KIND.floats, 2, 4) for one in (scales, centres)
            )
            every_shift = [builder.fmul(scale, _KIND.each(-AWAY)) for scale in every_scale]
            for number, place in enumerate(totals):
                n, half = divmod(number, 2)
                step, total = (
                    everywhere(builder, own[n], g, _SINGLE, _KIND.floats, 4) for own in (every_step, every_sum)
                )
                levels = builder.bitcast(products[number], _KIND.floats)
                scaled = called(builder, _FMA, _KIND.floats, levels, every_scale[half], every_shift[half])
                add_product(builder, place, scaled, step)
                add_product(builder, place, every_centre[half], total)
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in totals])

    return sums_type(sums, rooms, read, tokens), of


@intrinsic
def raised(typing_context: Any, sums: Any, bank: Any, rows: Any, h: Any, group: Any) -> Any:
    """The tokens' sums with what a group's h [groups, W, T] adds through rows of the bank [B, `WIDTH`], which are
    the same for all of them: from the first of the `rows` on, and how many."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bank, h = arrays_of(context, builder, signature.args[1:4:2], args[1:4:2])
        first, count = cgutils.unpack_tuple(builder, args[2])
        totals = variables(builder, cgutils.unpack_tuple(builder, args[0]))
        wide = builder.mul(cgutils.unpack_tuple(builder, h.shape)[1], index(TOGETHER))
        low = builder.gep(h.data, [builder.mul(args[4], wide)])
        lows = [(builder.gep(low, [index(n)]), TOGETHER) for n in range(TOGETHER)]
        weights = builder.gep(bank.data, [builder.mul(first, index(WIDTH))])
        _multiply(builder, totals, weights, index(WIDTH), count, lows)
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in totals])

    return sums_type(sums, bank, rows, h, types.intp), of


@intrinsic
def added(typing_context: Any, sums: Any, others: Any) -> Any:
    """The tokens' sums and others."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        both = zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True)
        return context.make_tuple(builder, signature.return_type, [builder.fadd(*two) for two in both])

    return sums_type(sums, others), of


@intrinsic
def gated(typing_context: Any, gates: Any, sums: Any) -> Any:
    """silu of the gates times the sums."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        both = zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True)
        made = [builder.fmul(silu_of(builder, gate, _KIND), own) for gate, own in both]
        return context.make_tuple(builder, signature.return_type, made)

    return sums_type(gates, sums), of


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
        totals = variables(builder, [_KIND.each(0.0)] * 2 * TOGETHER)
        lows = [(builder.gep(x, [builder.mul(n, x_line)]), 1) for n in cgutils.unpack_tuple(builder, args[3])]
        _multiply(builder, totals, panel, line, args[2], lows)
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in totals])

    return sums_type(x, panel, types.intp, tokens), of


def _in_y(context: Any, builder: Any, kinds: Any, args: Any) -> list[Any]:
    """Where the tokens' two registers are in what `put` takes."""
    y, first, line, apart = cgutils.unpack_tuple(builder, args[0])
    (y,), places = arrays_of(context, builder, [kinds[0][0]], [y]), []
    for token in cgutils.unpack_tuple(builder, args[1]):
        low = builder.add(first, builder.mul(token, line))
        places += [place_of(builder, y.data, own, _KIND.floats) for own in (low, builder.add(low, apart))]
    return places


def _multiply(
    builder: Any, totals: Sequence[Any], panel: Any, line: Any, rows: Any, lows: Sequence[tuple[Any, int]]
) -> None:
    """Adds to each token's two registers its numbers, where they begin and how far apart they lie, times so many rows
    of a panel."""
    with cgutils.for_range(builder, rows) as loop:
        weights = read_at(builder, panel, builder.mul(loop.index, line), _KIND.floats, 2, 4)
        for number, place in enumerate(totals):
            low, apart = lows[number // 2]
            each = everywhere(builder, low, builder.mul(loop.index, index(apart)), _SINGLE, _KIND.floats, 4)
            add_product(builder, place, weights[number % 2], each)


def _lines(context: Any, builder: Any, kind: Any, value: Any) -> tuple[Any, Any]:
    """To the first of an array's numbers that count, and how far apart lines are."""
    array, first, line = cgutils.unpack_tuple(builder, value)
    data = context.make_array(kind[0])(context, builder, array).data
    return builder.gep(data, [first]), line
