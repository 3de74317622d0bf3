"""A pass through all of a model's layers: one call, for each would take longer to begin than much of what it does.

Axes: see `kernel`; L layers, U routers of all of them in their order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from molora.fast.kernel.attention import attended
from molora.fast.kernel.causal import attended_by_many
from molora.fast.kernel.keeping import sharing
from molora.fast.kernel.lanes import Floats
from molora.fast.kernel.numbers import float_array
from molora.fast.kernel.panels import all_adapted
from molora.fast.kernel.token import adapted, gated, norm_row, turned
from molora.fast.kernel.turning import all_turned

_FLOAT = 4
"""Bytes"""


@sharing
def read_one(
    x: Floats,
    layers: Any,
    turn: tuple[Floats, Floats],
    scale: float,
    kept: NDArray[np.int64],
    shape: tuple[int, int, int],
    lora: tuple[bool, bool],
    masks: Floats,
    rows: Floats,
    parts: int,
) -> None:
    """One token x [I] through layers, in place.

    layers: as `layers.listed` gives them. turn: cosines and signed sines [D] of its position; `scale`: the attention's.
    kept [L]: where each layer's keys and values are, [2, G, room, D]. `shape`: G, room, and how many tokens are there
    already. lora: whether plain LoRA is on, in attention and in the MLP. masks [U, 4, E] and rows [U, E+2K] as in
    `token.adapted`.
    """
    (cos, sin), (groups, room, place), u = turn, shape, 0
    size, narrow = len(cos), len(x)
    read = np.empty(narrow, np.float32)
    for number in range(len(layers)):
        norm, qkv, out, mlp_norm, gate_up, down = layers[number]
        states = np.empty(qkv[1][-1], np.float32)
        heads, keys_at = len(states) // size - 2 * groups, kept[number]
        query, found = np.empty((heads, size), np.float32), np.empty((heads, size), np.float32)
        norm_row(x, *norm, read)
        adapted(read, qkv, lora[0], masks[:0], rows[:0], states, False, parts)
        cache = float_array(keys_at, (2 * groups, room, size))
        turned(states.reshape(-1, size), cos, sin, query, cache, place)
        values_at, sees = keys_at + _FLOAT * groups * room * size, (groups, room, place + 1)
        attended(query, scale, keys_at, values_at, sees, found, parts)
        adapted(found.reshape(-1), out, lora[0], masks[:0], rows[:0], x, True, parts)
        norm_row(x, *mlp_norm, read)
        both, routers = np.empty(gate_up[1][-1], np.float32), len(gate_up[3][0])
        adapted(read, gate_up, lora[1], masks[u : u + routers], rows[u : u + routers], both, False, parts)
        u += routers
        inner, routers = np.empty(len(both) // 2, np.float32), len(down[3][0])
        gated(both, inner)
        adapted(inner, down, lora[1], masks[u : u + routers], rows[u : u + routers], x, True, parts)
        u += routers


@sharing
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
    """The same for many one after the other, x [N, I] and cosines and sines [N, D]; rows [N, U, E+2K]. `hidden`: as
    `causal.attended_by_many` takes it."""
    (cos, sin), (groups, room, place), u, tokens = turn, shape, 0, len(x)
    size, y, none = cos.shape[1], x.reshape(-1), (np.empty(0, np.float32), 0.0)
    for number in range(len(layers)):
        norm, qkv, out, mlp_norm, gate_up, down = layers[number]
        states = np.empty(tokens * qkv[1][-1], np.float32)
        heads, keys_at = qkv[1][-1] // size - 2 * groups, kept[number]
        query, found = np.empty((heads, tokens, size), np.float32), np.empty((tokens, heads, size), np.float32)
        all_adapted(x, norm, qkv, lora[0], masks[:0], rows[:, :0], False, states, False, parts)
        cache = float_array(keys_at, (2, groups, room, size))
        all_turned(states.reshape(tokens, -1, size), cos, sin, scale, query, cache, place, parts)
        values_at, sees = keys_at + _FLOAT * groups * room * size, (groups, room, place + tokens)
        attended_by_many(query, keys_at, values_at, sees, hidden, found, parts)
        all_adapted(found.reshape(tokens, -1), none, out, lora[0], masks[:0], rows[:, :0], False, y, True, parts)
        inner, routers = np.empty(tokens * gate_up[1][1], np.float32), len(gate_up[3][0])
        own, picked = masks[u : u + routers], rows[:, u : u + routers]
        all_adapted(x, mlp_norm, gate_up, lora[1], own, picked, True, inner, False, parts)
        u += routers
        routers = len(down[3][0])
        own, picked = masks[u : u + routers], rows[:, u : u + routers]
        all_adapted(inner.reshape(tokens, -1), none, down, lora[1], own, picked, False, y, True, parts)
        u += routers
