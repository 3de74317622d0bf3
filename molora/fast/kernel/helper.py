"""The helper: a process that at a first start compiles some of the functions, while this one compiles the others.

numba compiles one function at a time, whatever thread asks for it. What the helper has compiled is found on disk.
"""

from __future__ import annotations

import gc
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
from molora.fast.kernel.passes import read_one
from molora.fast.kernel.prompt import mixed
from molora.fast.kernel.scoring import scored
from molora.fast.kernel.table import TableType
from molora.fast.kernel.tiled_causal import attended_in_tiles
from molora.fast.kernel.token import all_normed

_ROOT = Path(__file__).parents[3]
_FUNCTIONS = {
    "all_normed": all_normed,
    "attended_by_many": attended_by_many,
    "attended_in_tiles": attended_in_tiles,
    "best": best,
    "mixed": mixed,
    "multiplied": multiplied,
    "read_one": read_one,
    "scored": scored,
}


def kinds_of(narrow: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """What numba calls the types of each function's arguments. `narrow`: of routers, A's and B's, which may be
    "float32" or "uint16", see `kernel`."""
    (router, a, b), floats, index = (getattr(types, one) for one in narrow), types.float32, types.intp
    vector, matrix, cube = (_array(floats, axes) for axes in (1, 2, 3))
    adapter = _array(router, 3), matrix, _array(a, 4), _array(types.int32, 5), _array(b, 4), types.float64
    linears = types.Tuple((_array(types.int32, 2), _array(index, 1), vector, types.Tuple(adapter)))
    norm, shape = types.Tuple((vector, types.float64)), types.UniTuple(index, 3)
    layers = TableType(types.Tuple((norm, linears, linears, norm, linears, linears)))
    turn, lora = types.UniTuple(vector, 2), types.UniTuple(types.boolean, 2)
    experts = types.Tuple((_array(router, 3), matrix, _array(a, 4), _array(b, 4), types.float64))
    where = index, index, shape, matrix
    return {
        "all_normed": (matrix, vector, types.float64, matrix, index),
        "attended_by_many": (cube, *where, cube, index),
        "attended_in_tiles": (_array(types.uint16, 3), *where, cube, index),
        "best": (index, index, matrix),
        "mixed": (matrix, _array(index, 1), _array(types.uint16, 2), experts, cube, cube, types.boolean, index),
        "multiplied": (index, _array(types.int32, 2), index, index, index),
        "read_one": (vector, layers, norm, turn, types.float64, _array(index, 1), shape, lora, cube, matrix, index),
        "scored": (vector, matrix, vector, index, vector, index),
    }


def _array(kind: Any, axes: int) -> Any:
    return types.Array(kind, axes, "C")


@cache
def helper(names: tuple[str, ...], narrow: tuple[str, ...]) -> subprocess.Popen[bytes] | None:
    """One for each choice; None where a core is all there is, or all of that is on disk. How it ends does not matter:
    what is not found then is compiled here."""
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
    names, narrow = (argument.split(",") for argument in sys.argv[1:])
    kinds = kinds_of(narrow)
    for name in names:
        _FUNCTIONS[name].compile(kinds[name])


if __name__ == "__main__":
    main()
