"""Products of bfloat16 by tiles of 16 tokens and 16 columns of a panel, which AMX has registers for.

A panel holds pairs along what is summed up, [pairs, 2 * `WIDTH`], beside each other those of `WIDTH` columns; so do the
tokens' numbers, which lie in lines. What a CPU without AMX does here is the same in its other registers.

`Lines` are an array, where in it the first line begins, and how far apart two of them lie; `Halves` also how far apart
a line's two registers do, 0 where only the first is made. Products take the same in bytes, from an address on: see
`numbers.address_of`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from molora.fast.kernel.granted import TILES
from molora.fast.kernel.instructions import called, index
from molora.fast.kernel.keeping import inner
from molora.fast.kernel.lanes import LANES, Floats, Narrow, load, store
from molora.fast.kernel.numbers import address_of, float_array, pairs_array
from molora.fast.kernel.pairs import PAIRED, dot, load_pairs, spread_pair
from molora.fast.kernel.prefetching import LINE, asked
from molora.fast.kernel.several import WIDTH

Lines = tuple[Narrow, int, int]
Halves = tuple[Floats, int, int, int]
LinesAt = tuple[int, int]
HalvesAt = tuple[int, int, int]
Ahead = tuple[int, int]
"""What is read next: an address, and how many lines of the cache from there on each step asks for. All at once would
keep it from what it reads itself."""

NONE = np.int64(0)
"""How many, of a type with those that are counted: for a 0 as written all that takes it would be compiled once more"""
NOTHING = NONE, NONE
"""Ahead"""

SIDE = 16
"""Rows of a register"""
GROUP = 2 * SIDE
"""Tokens that are multiplied at once"""
STEP = 2 * SIDE
"""Numbers of a line that are: each register's row has as many"""
PANEL_STEP = SIDE * 4 * WIDTH
"""Bytes of a panel that a step takes"""

_BYTE, _BYTES = ir.IntType(8), ir.IntType(8).as_pointer()
_SUMS, _TOKENS, _COLUMNS = 0, 4, 6
"""The first registers of each kind: sums of two groups of tokens by two of columns, then two of either"""


def _tile(number: int) -> Any:
    return ir.Constant(_BYTE, number)


def _call(builder: Any, name: str, *args: Any) -> None:
    called(builder, f"x86.{name}", ir.VoidType(), *args)


def _configure(builder: Any, rows: Any) -> None:
    """Registers of so many rows, None: of 16, for tokens, and of 16 for columns, each of 64 bytes."""
    room = cgutils.alloca_once(builder, ir.ArrayType(_BYTE, 64))
    room.align = 64
    plain = [1, *[0] * 15, *[64, 0] * 8, *[0] * 16, *[SIDE] * 8, *[0] * 8]
    builder.store(ir.Constant(room.type.pointee, bytearray(plain)), room)
    if rows is not None:
        for number in range(_COLUMNS):
            place = builder.gep(room, [index(0), index(48 + number)])
            builder.store(builder.trunc(rows, _BYTE), place)
    _call(builder, "ldtilecfg", builder.bitcast(room, _BYTES))


def _place(builder: Any, value: Any) -> tuple[Any, Any]:
    """To where the first line begins, and how many bytes two are apart."""
    first, line = cgutils.unpack_tuple(builder, value)[:2]
    return builder.inttoptr(first, _BYTES), line


def _beyond(builder: Any, place: Any, *bytes_: Any) -> Any:
    for more in bytes_:
        place = builder.gep(place, [more])
    return place


def _product(groups: int, halves: int) -> Any:
    """Of so many groups of 16 tokens, and of so many registers' columns of the panel; where the group is one, of as
    many rows as are said."""

    @intrinsic
    def product(
        typing_context: Any,
        x: Any,
        panel: Any,
        steps: Any,
        h: Any,
        bank: Any,
        more: Any,
        start: Any,
        y: Any,
        rows: Any,
        ahead: Any,
    ) -> Any:
        def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if groups == 1:
                _configure(builder, args[8])
            (next_, next_line), lines = _place(builder, args[9]), index(LINE)
            (begin, begin_line), (to, to_line) = (_place(builder, args[i]) for i in (6, 7))
            each = [(m, n) for m in range(groups) for n in range(halves)]

            def corner(place: Any, line: Any, value: Any, m: int, n: int) -> Any:
                apart = cgutils.unpack_tuple(builder, value)[2]
                return _beyond(builder, place, builder.mul(line, index(SIDE * m)), *[apart] * n)

            for m, n in each:
                corner_ = corner(begin, begin_line, args[6], m, n)
                _call(builder, "tileloadd64", _tile(_SUMS + 2 * m + n), corner_, begin_line)
            for i in (0, 3):
                (tokens, line), columns = _place(builder, args[i]), builder.inttoptr(args[i + 1], _BYTES)

                def load_tokens(along: Any, m: int, line: Any = line) -> None:
                    own = _beyond(builder, along, builder.mul(line, index(SIDE * m)))
                    _call(builder, "tileloadd64", _tile(_TOKENS + m), own, line)

                def add(m: int, n: int) -> None:
                    _call(builder, "tdpbf16ps", *map(_tile, (_SUMS + 2 * m + n, _TOKENS + m, _COLUMNS + n)))

                with cgutils.for_range(builder, args[i + 2]) as loop:
                    along = _beyond(builder, tokens, builder.mul(loop.index, index(2 * STEP)))
                    down = _beyond(builder, columns, builder.mul(loop.index, index(PANEL_STEP)))
                    if i == 0:
                        own = _beyond(builder, next_, builder.mul(loop.index, builder.mul(next_line, lines)))
                        asked(builder, own, next_line)
                    for n in range(halves):  # each product as soon as what it takes is there
                        own = _beyond(builder, down, index(2 * PAIRED * n))
                        if n == 0:
                            load_tokens(along, 0)
                        _call(builder, "tileloadd64", _tile(_COLUMNS + n), own, index(4 * WIDTH))
                        add(0, n)
                    for m in range(1, groups):
                        load_tokens(along, m)
                        for n in range(halves):
                            add(m, n)
            for m, n in each:
                corner_ = corner(to, to_line, args[7], m, n)
                _call(builder, "tilestored64", _tile(_SUMS + 2 * m + n), corner_, to_line)
            if groups == 1:
                _configure(builder, None)
            return context.get_dummy_value()

        one, lines, halves_ = types.intp, types.UniTuple(types.intp, 2), types.UniTuple(types.intp, 3)
        return types.void(lines, one, one, lines, one, one, halves_, halves_, one, lines), of

    return product


_two_groups, _one_group, _two_groups_of_half, _one_group_of_half = (_product(m, n) for n in (2, 1) for m in (2, 1))


@intrinsic
def ready(typing_context: Any) -> Any:
    """Readies registers, which a thread must before it multiplies; once for many times."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if TILES:
            _configure(builder, None)
        return context.get_dummy_value()

    return types.void(), of


@intrinsic
def done(typing_context: Any) -> Any:
    """Lets go of them, or the system would keep them for the thread whenever another one has its turn."""

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if TILES:
            _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), of


@inner
def line_of(numbers: int) -> int:
    """For so many bfloat16 of a token as many and some more, so that tokens' do not fall on the same few places of the
    first cache: an odd number of its lines."""
    return (-(-numbers // STEP) | 1) * STEP


@inner
def lines_at(lines: Lines) -> LinesAt:
    array, first, line = lines
    return address_of(array, first), line * array.itemsize


@inner
def halves_at(halves: Halves) -> HalvesAt:
    array, first, line, apart = halves
    return address_of(array, first), line * array.itemsize, apart * array.itemsize


@inner
def in_tiles(
    x: LinesAt,
    panel: int,
    steps: int,
    h: LinesAt,
    bank: int,
    more: int,
    start: HalvesAt,
    y: HalvesAt,
    rows: int,
    ahead: Ahead,
) -> None:
    """See `multiply`."""
    if rows == GROUP:
        if y[2]:
            _two_groups(x, panel, steps, h, bank, more, start, y, rows, ahead)
        else:
            _two_groups_of_half(x, panel, steps, h, bank, more, start, y, rows, ahead)
        return
    (x_at, x_line), (h_at, h_line), (s_at, s_line, s_apart), (y_at, y_line, y_apart) = x, h, start, y
    for n in range(0, rows, SIDE):
        read, low = (x_at + n * x_line, x_line), (h_at + n * h_line, h_line)
        begin, to = (s_at + n * s_line, s_line, s_apart), (y_at + n * y_line, y_line, y_apart)
        if y_apart:
            _one_group(read, panel, steps, low, bank, more, begin, to, min(SIDE, rows - n), ahead)
        else:
            _one_group_of_half(read, panel, steps, low, bank, more, begin, to, min(SIDE, rows - n), ahead)


@inner
def _with(sums: Any, line: int, panel: int, half: int, steps: int) -> Any:
    pairs = steps * SIDE
    numbers, flat, found = pairs_array(line, 2 * pairs), pairs_array(panel, pairs * 2 * WIDTH), sums
    for pair in range(pairs):
        each = spread_pair(numbers, 2 * pair)
        found = dot(found, load_pairs(flat, pair * 2 * WIDTH + half * PAIRED), each)
    return found


@inner
def in_lanes(
    x: LinesAt,
    panel: int,
    steps: int,
    h: LinesAt,
    bank: int,
    more: int,
    start: HalvesAt,
    y: HalvesAt,
    rows: int,
    ahead: Ahead,
) -> None:
    """See `multiply`."""
    (x_at, x_line), (h_at, h_line), (s_at, s_line, s_apart), (y_at, y_line, y_apart) = x, h, start, y
    for n in range(rows):
        for half in range(2 if y_apart else 1):
            begin = float_array(s_at + n * s_line + half * s_apart, (LANES,))
            to = float_array(y_at + n * y_line + half * y_apart, (LANES,))
            found = _with(load(begin, 0), x_at + n * x_line, panel, half, steps)
            store(to, 0, _with(found, h_at + n * h_line, bank, half, more))


multiply = in_tiles if TILES else in_lanes
"""y, for so many rows up to `GROUP`, from the `start` on, of x times a panel at an address, of so many `steps`, and of
h times a bank of so many `more`, while what is `ahead` is asked for."""
