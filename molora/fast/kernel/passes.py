"""A pass through all of a model's layers: one call, for each would take longer to begin than much of what it does.

What is `no` and `yes` here would be compiled once for each if it were written as such.

Axes: see `kernel`; L layers, U routers of all of them in their order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from molora.fast.kernel.attention import attended
from molora.fast.kernel.causal import attended_by_many
from molora.fast.kernel.keeping import kept
from molora.fast.kernel.lanes import Floats, Narrow
from molora.fast.kernel.layers import Norm, routers_of, width_of
from molora.fast.kernel.numbers import float16_array, float_array, narrow_array
from molora.fast.kernel.panels import all_adapted
from molora.fast.kernel.ranks import narrow_room
from molora.fast.kernel.ranks import room as lines
from molora.fast.kernel.table import row
from molora.fast.kernel.tiled import all_tiled, first_of
from molora.fast.kernel.tiled_causal import attended_in_tiles
from molora.fast.kernel.token import adapted, gated, norm_row, turned
from molora.fast.kernel.turning import all_turned

_FLOAT, _FLOAT16 = 4, 2
"""Bytes"""


@kept
def read_one(
    x: Floats,
    layers: Any,
    last: Norm,
    like: Narrow,
    turn: tuple[Floats, Floats],
    scale: float,
    kept: NDArray[np.int64],
    shape: tuple[int, int, int],
    lora: tuple[bool, bool],
    masks: Floats,
    rows: Floats,
    parts: int,
) -> None:
    """One token x [I] through layers and a last norm, in place.

    layers: a `table.Table` of `layers.Layer`. turn: cosines and signed sines [D] of its position; `scale`: that of
    attention. kept [L]: where each layer's keys and values are, [2, G, room, D], narrow as `like`. `shape`: G, room,
    and how many tokens are there already. lora: whether plain LoRA is on, in attention and in the MLP. masks [U, 4, E]
    and rows [U, E+2K] as in `token.adapted`.
    """
    (cos, sin), (groups, room, place), u, no, yes = turn, shape, 0, len(x) == 0, len(x) > 0
    size, read = len(cos), np.empty_like(x)
    for number in range(len(kept)):
        norm, qkv, out, mlp_norm, gate_up, down = row(layers, number)
        states, both = np.empty(width_of(qkv), np.float32), np.empty(width_of(gate_up), np.float32)
        heads, keys_at = len(states) // size - 2 * groups, kept[number]
        query, found = np.empty((heads, size), np.float32), np.empty((heads, size), np.float32)
        norm_row(x, *norm, read)
        adapted(read, qkv, lora[0], masks[:0], rows[:0], states, no, parts)
        cache = narrow_array(keys_at, (2 * groups, room, size), like)
        turned(states.reshape(-1, size), cos, sin, query, cache, place)
        values_at, sees = keys_at + like.itemsize * groups * room * size, (groups, room, place + 1)
        attended(query, scale, keys_at, values_at, sees, like, found, min(parts, place + 1))
        adapted(found.reshape(-1), out, lora[0], masks[:0], rows[:0], x, yes, parts)
        norm_row(x, *mlp_norm, read)
        v = u + routers_of(gate_up)
        adapted(read, gate_up, lora[1], masks[u:v], rows[u:v], both, no, parts)
        u, inner = v + routers_of(down), np.empty(len(both) // 2, np.float32)
        gated(both, inner)
        adapted(inner, down, lora[1], masks[v:u], rows[v:u], x, yes, parts)
    norm_row(x, *last, x)


@kept
def read_many(
    x: Floats,
    layers: Any,
    turn: tuple[Floats, Floats],
    scale: float,
    kept: NDArray[np.int64],
    shape: tuple[int, int, int],
    lora: tuple[bool, bool],
    masks: Floats,
    rows: Floats,
    hidden: Floats,
    parts: int,
) -> None:
    """The same for many one after the other, x [N, I] and cosines and sines [N, D], keys and values in float32; rows
    [N, U, E+2K]. `hidden`: as `causal.attended_by_many` takes it."""
    (cos, sin), (groups, room, place), u, no, yes = turn, shape, 0, len(x) == 0, len(x) > 0
    tokens, size, y, none = len(x), cos.shape[1], x.reshape(-1), (np.empty(0, np.float32), 0.0)
    for number in range(len(kept)):
        norm, qkv, out, mlp_norm, gate_up, down = row(layers, number)
        states, inner = np.empty(tokens * width_of(qkv), np.float32), np.empty(tokens * gate_up[1][1], np.float32)
        heads, keys_at = width_of(qkv) // size - 2 * groups, kept[number]
        query, found = np.empty((heads, tokens, size), np.float32), np.empty((tokens, heads, size), np.float32)
        all_adapted(x, norm, qkv, lora[0], masks[:0], rows[:, :0], no, states, no, parts)
        cache = float_array(keys_at, (2, groups, room, size))
        all_turned(states.reshape(tokens, -1, size), cos, sin, scale, query, cache, place, parts)
        values_at, sees = keys_at + _FLOAT * groups * room * size, (groups, room, place + tokens)
        attended_by_many(query, keys_at, values_at, sees, hidden, found, parts)
        all_adapted(found.reshape(tokens, -1), none, out, lora[0], masks[:0], rows[:, :0], no, y, yes, parts)
        v = u + routers_of(gate_up)
        all_adapted(x, mlp_norm, gate_up, lora[1], masks[u:v], rows[:, u:v], yes, inner, no, parts)
        u = v + routers_of(down)
        all_adapted(inner.reshape(tokens, -1), none, down, lora[1], masks[v:u], rows[:, v:u], no, y, yes, parts)


@kept
def read_tiled(
    x: Floats,
    layers: Any,
    tiled: Any,
    turn: tuple[Floats, Floats],
    scale: float,
    kept: NDArray[np.int64],
    shape: tuple[int, int, int],
    lora: tuple[bool, bool],
    masks: Floats,
    rows: Floats,
    hidden: Floats,
    parts: int,
) -> None:
    """The same in bfloat16, keys and values in float16. `tiled`: a table, too, of each layer's adapters once more, of
    its linears as `tiled.all_tiled` takes them."""
    (cos, sin), (groups, room, place), u, no, yes = turn, shape, 0, len(x) == 0, len(x) > 0
    tokens, size, y, none = len(x), cos.shape[1], x.reshape(-1), (np.empty(0, np.float32), 0.0)
    for number in range(len(kept)):
        norm, qkv, out, mlp_norm, gate_up, down = row(layers, number)
        qkv_tiled, out_tiled, gate_up_tiled, down_tiled = row(tiled, number)
        states, inner = lines(tokens, width_of(qkv)), lines(tokens, gate_up[1][1])
        heads, keys_at = width_of(qkv) // size - 2 * groups, kept[number]
        query, found = narrow_room(heads * tokens, size).reshape(heads, tokens, size), lines(tokens, heads * size)
        own, flat, after = rows[:, :0], states.reshape(-1), first_of(out_tiled)
        all_tiled(x, norm, qkv, qkv_tiled, lora[0], masks[:0], own, no, flat, no, after, parts)
        cache = float16_array(keys_at, (2, groups, room, size))
        all_turned(states.reshape(tokens, -1, size), cos, sin, scale, query, cache, place, parts)
        values_at, sees = keys_at + _FLOAT16 * groups * room * size, (groups, room, place + tokens)
        attended_in_tiles(query, keys_at, values_at, sees, hidden, found.reshape(tokens, heads, size), parts)
        after = first_of(gate_up_tiled)
        all_tiled(found, none, out, out_tiled, lora[0], masks[:0], own, no, y, yes, after, parts)
        v = u + routers_of(gate_up)
        own, flat, after = rows[:, u:v], inner.reshape(-1), first_of(down_tiled)
        all_tiled(x, mlp_norm, gate_up, gate_up_tiled, lora[1], masks[u:v], own, yes, flat, no, after, parts)
        u = v + routers_of(down)
        own, after = rows[:, v:u], first_of(row(tiled, min(number + 1, len(kept) - 1))[0])
        all_tiled(inner, none, down, down_tiled, lora[1], masks[v:u], own, no, y, yes, after, parts)
