"""Helpers: processes that at a first start compile the larger functions side by side, and leave them on disk.

numba compiles one function at a time, whatever thread asks for it, and keeps all other threads of Python waiting.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from numba import types

from molora.fast.kernel.causal import attended_by_many
from molora.fast.kernel.levels import multiplied
from molora.fast.kernel.likeliest import best
from molora.fast.kernel.panels import all_adapted
from molora.fast.kernel.passes import read_many, read_one, read_tiled
from molora.fast.kernel.prompt import mixed
from molora.fast.kernel.scoring import scored
from molora.fast.kernel.table import TableType
from molora.fast.kernel.tiled_causal import attended_in_tiles
from molora.fast.kernel.token import all_normed
from molora.fast.kernel.turning import all_turned

_ROOT = Path(__file__).parents[3]
_COMPILED = (
    all_adapted,
    all_normed,
    all_turned,
    attended_by_many,
    attended_in_tiles,
    best,
    mixed,
    multiplied,
    read_many,
    read_one,
    read_tiled,
    scored,
)
_FUNCTIONS = {function.py_func.__name__: function for function in _COMPILED}


def kinds_of(narrow: Sequence[str]) -> dict[str, list[tuple[Any, ...]]]:
    """What numba calls the types of each function's arguments, one or two of each. `narrow`: of routers, A's and B's,
    keys and values, see `kernel`."""
    (router, a, b, kept), yes, index = (getattr(types, one) for one in narrow), types.boolean, types.intp
    real = types.float64
    vector, matrix, cube = (_array(types.float32, axes) for axes in (1, 2, 3))
    halves, half_cube, places = _array(types.uint16, 2), _array(types.uint16, 3), _array(index, 1)
    norm, shape = types.Tuple((vector, real)), types.UniTuple(index, 3)
    routers, down, up = (_array(router, 3), matrix), _array(a, 4), _array(b, 4)
    adapter = types.Tuple((*routers, down, _array(types.int32, 5), up, real))
    linears = types.Tuple((_array(types.int32, 2), places, vector, adapter))
    layers = TableType(types.Tuple((norm, linears, linears, norm, linears, linears)))
    tiled = TableType(types.UniTuple(types.UniTuple(half_cube, 2), 4))
    one, many = types.UniTuple(vector, 2), types.UniTuple(matrix, 2)
    how, mixture = (real, places, shape, types.UniTuple(yes, 2), cube), types.Tuple((*routers, down, up, real))
    rest, where = (*how, cube, matrix, index), (index, index, shape, matrix, cube, index)
    return {
        "all_adapted": [(matrix, norm, linears, yes, cube, cube, yes, vector, yes, index)],
        "all_normed": [(matrix, vector, real, matrix, index)],
        "all_turned": [(half_cube, matrix, matrix, real, half_cube, _array(types.float32, 4), index, index)],
        "attended_by_many": [(cube, *where)],
        "attended_in_tiles": [(half_cube, *where)],
        "best": [(index, index, matrix)],
        "mixed": [(x, places, halves, mixture, cube, cube, yes, index) for x in (matrix, halves)],
        "multiplied": [(index, _array(types.int32, 2), index, index, index)],
        "read_many": [(matrix, layers, many, *rest)],
        "read_one": [(vector, layers, norm, _array(kept, 4), one, *how, matrix, index)],
        "read_tiled": [(matrix, layers, tiled, many, *rest)],
        "scored": [(vector, matrix, vector, index, vector, index)],
    }


def _array(kind: Any, axes: int) -> Any:
    return types.Array(kind, axes, "C")


@cache
def helper(names: tuple[str, ...], narrow: tuple[str, ...]) -> subprocess.Popen[bytes] | None:
    """For so many functions, one for each choice; None where a core is all there is, or all of them are on disk. How it
    ends does not matter: what is not found then is compiled here."""
    if torch.get_num_threads() < 2 or all(map(_on_disk, names)):
        return None
    command = [sys.executable, "-m", __name__, ",".join(names), ",".join(narrow)]
    none = subprocess.DEVNULL
    try:
        return subprocess.Popen(command, cwd=_ROOT, stdin=none, stdout=none, stderr=none)
    except OSError:
        return None


def _on_disk(name: str) -> bool:
    """Also where nothing can be kept there."""
    function = _FUNCTIONS[name]
    folder = function.stats.cache_path
    return folder is None or any(Path(folder).glob(f"*.{function.py_func.__qualname__}-*.nbi"))


def main() -> None:
    gc.disable()  # a tenth of the time, and what it would find is gone soon
    if hasattr(os, "nice"):
        os.nice(5)  # who asks meanwhile comes first
    names, narrow = (argument.split(",") for argument in sys.argv[1:])
    kinds = kinds_of(narrow)
    for name in names:
        for each in kinds[name]:
            _FUNCTIONS[name].compile(each)


if __name__ == "__main__":
    main()
