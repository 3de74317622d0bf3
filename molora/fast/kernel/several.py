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

from molora.fast.kernel.instructions import Kind, in_all, index, silu_of
from molora.fast.kernel.keeping import REORDERS
from molora.fast.kernel.lanes import LANES, lanes_type
from molora.fast.kernel.levels import LEVELS_BLOCK
from molora.fast.kernel.pairs import both_onto

TOGETHER = 6 if LANES == 16 else 4
"""There are 32 registers of that width, and 16 of others on most CPUs"""
WIDTH = 2 * LANES
"""Columns of a panel"""

_KIND = Kind.of(LANES)
_INDEX, _WORD, _SINGLE = ir.IntType(64), ir.IntType(32), ir.FloatType()
_tokens_type = types.UniTuple(types.intp, TOGETHER)
_sums_type = types.UniTuple(lanes_type, 2 * TOGETHER)
"""Two registers of each of the tokens"""


@intrinsic
def some(typing_context: Any, first: Any, count: Any) -> Any:
    """From the first token on as many as are read at once; where there are fewer, the last one several times."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, last = args[0], builder.sub(args[1], index(1))
        each = [builder.add(first, index(more)) for more in range(TOGETHER)]
        some = [builder.select(builder.icmp_signed("<", one, last), one, last) for one in each]
        return context.make_tuple(builder, signature.return_type, some)

    return _tokens_type(types.intp, types.intp), of


@intrinsic
def begun(typing_context: Any, low: Any, high: Any) -> Any:
    """Two registers, as the sums of each token."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, signature.return_type, list(args) * TOGETHER)

    return _sums_type(low, high), of


@intrinsic
def held(typing_context: Any, sums: Any, tokens: Any) -> Any:
    """Those of the tokens, of sums [N, `WIDTH`]."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (sums,), tokens = (
            _arrays(context, builder, signature.args[:1], args[:1]),
            cgutils.unpack_tuple(builder, args[1]),
        )
        each = [_two(builder, sums.data, builder.mul(n, index(WIDTH)), _KIND.floats, 4) for n in tokens]
        return context.make_tuple(builder, signature.return_type, [one for two in each for one in two])

    return _sums_type(sums, tokens), of


@intrinsic
def with_levels(typing_context: Any, sums: Any, rooms: Any, read: Any, tokens: Any) -> Any:
    """The tokens' sums with what they give with a panel of levels.

    rooms: pairs of levels less 8 [G*16, 2*`WIDTH`], scales and centres [G, `WIDTH`]. read: what the tokens read, in
    whole numbers [N, G*32], steps [N, G] and sums [N, 2, G], see `levels.quantize`.
    """

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        panel, scales, centres = _arrays(context, builder, signature.args[1], cgutils.unpack_tuple(builder, args[1]))
        whole, steps, sums = _arrays(context, builder, signature.args[2], cgutils.unpack_tuple(builder, args[2]))
        blocks, tokens = cgutils.unpack_tuple(builder, scales.shape)[0], cgutils.unpack_tuple(builder, args[3])
        lines = [builder.mul(n, blocks) for n in tokens]
        wholes = [builder.gep(whole.data, [builder.mul(line, index(LEVELS_BLOCK))]) for line in lines]
        every_step = [builder.gep(steps.data, [line]) for line in lines]
        every_sum = [builder.gep(sums.data, [builder.mul(line, index(2))]) for line in lines]
        totals = _variables(builder, cgutils.unpack_tuple(builder, args[0]))
        with cgutils.for_range(builder, blocks) as loop:
            g, products = loop.index, _variables(builder, [_KIND.each(0)] * 2 * TOGETHER)
            begin = builder.mul(g, index(LEVELS_BLOCK))
            with cgutils.for_range(builder, index(LEVELS_BLOCK // 2)) as pairs:
                at = builder.add(begin, builder.mul(pairs.index, index(2)))
                weights = _two(builder, panel.data, builder.mul(at, index(WIDTH)), _KIND.words, 2)
                for number, place in enumerate(products):
                    n, half = divmod(number, 2)
                    x = _everywhere(builder, wholes[n], at, _WORD, _KIND.words, 2)
                    builder.store(both_onto(builder, builder.load(place), weights[half], x), place)
            at = builder.mul(g, index(WIDTH))
            every_scale, every_centre = (_two(builder, one.data, at, _KIND.floats, 4) for one in (scales, centres))
            for number, place in enumerate(totals):
                n, half = divmod(number, 2)
                step, total = (
                    _everywhere(builder, own[n], g, _SINGLE, _KIND.floats, 4) for own in (every_step, every_sum)
                )
                levels = builder.sitofp(builder.load(products[number]), _KIND.floats)
                _add(builder, place, builder.fmul(levels, every_scale[half], flags=REORDERS), step)
                _add(builder, place, every_centre[half], total)
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in totals])

    return _sums_type(sums, rooms, read, tokens), of


@intrinsic
def raised(typing_context: Any, sums: Any, bank: Any, h: Any, firsts: Any, rank: Any, tokens: Any) -> Any:
    """The tokens' sums with what h [N*K, R] adds through rows of the bank [B, `WIDTH`], for each R from one of the
    firsts [N, K] on."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bank, h, firsts = _arrays(context, builder, signature.args[1:4], args[1:4])
        rank, tokens, top_k = (
            args[4],
            cgutils.unpack_tuple(builder, args[5]),
            cgutils.unpack_tuple(builder, firsts.shape)[1],
        )
        totals = _variables(builder, cgutils.unpack_tuple(builder, args[0]))
        places = [builder.mul(n, top_k) for n in tokens]
        with cgutils.for_range(builder, top_k) as picks:
            slots = [builder.add(place, picks.index) for place in places]
            lows = [builder.gep(h.data, [builder.mul(slot, rank)]) for slot in slots]
            rows = [builder.load(builder.gep(firsts.data, [slot])) for slot in slots]
            with cgutils.for_range(builder, rank) as ranks:
                for number, place in enumerate(totals):
                    n, half = divmod(number, 2)
                    at = builder.mul(builder.add(rows[n], ranks.index), index(WIDTH))
                    x = _everywhere(builder, lows[n], ranks.index, _SINGLE, _KIND.floats, 4)
                    _add(builder, place, _two(builder, bank.data, at, _KIND.floats, 4)[half], x)
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in totals])

    return _sums_type(sums, bank, h, firsts, rank, tokens), of


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
        y, first, line, apart = cgutils.unpack_tuple(builder, args[1])
        (y,), tokens = _arrays(context, builder, [signature.args[1][0]], [y]), cgutils.unpack_tuple(builder, args[2])
        for number, own in enumerate(cgutils.unpack_tuple(builder, args[0])):
            n, half = divmod(number, 2)
            at = builder.add(first, builder.mul(tokens[n], line))
            at = builder.add(at, apart) if half else at
            builder.store(own, _place(builder, y.data, at, _KIND.floats), align=4)
        return context.get_dummy_value()

    return types.void(sums, y, tokens), to


@intrinsic
def multiply(typing_context: Any, y: Any, x: Any, panel: Any, rows: Any, tokens: Any) -> Any:
    """Adds to `WIDTH` columns of the tokens' y their x times so many rows of a panel. Each is an array of float32,
    where in it, counted in numbers, the first token or row begins, and how far apart two of them lie."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        tokens = cgutils.unpack_tuple(builder, args[4])
        (y, y_line), (x, x_line), (panel, line) = (
            _lines(context, builder, signature.args[i], args[i]) for i in range(3)
        )
        places = [builder.mul(n, y_line) for n in tokens]
        totals = _variables(builder, [one for at in places for one in _two(builder, y, at, _KIND.floats, 4)])
        lows = [builder.gep(x, [builder.mul(n, x_line)]) for n in tokens]
        with cgutils.for_range(builder, args[3]) as loop:
            weights = _two(builder, panel, builder.mul(loop.index, line), _KIND.floats, 4)
            for number, place in enumerate(totals):
                n, half = divmod(number, 2)
                _add(builder, place, weights[half], _everywhere(builder, lows[n], loop.index, _SINGLE, _KIND.floats, 4))
        for number, place in enumerate(totals):
            n, half = divmod(number, 2)
            at = builder.add(places[n], index(half * LANES))
            builder.store(builder.load(place), _place(builder, y, at, _KIND.floats), align=4)
        return context.get_dummy_value()

    return types.void(y, x, panel, types.intp, tokens), of


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
