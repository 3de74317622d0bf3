"""How functions are compiled, and kept on disk for the next start."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

from molora.fast.kernel.granted import TILES

REORDERS = "reassoc", "contract", "nsz"
"""Sums may be taken in any order, as in any fast product; infinities count, since edits are made of them."""

inner = njit(fastmath=set(REORDERS), nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""For functions that only compiled ones call."""


def _stamp() -> str:
    """Of all code in this folder: numba looks only at the file that a function stands in, not at what it calls,
    nor at what the system grants."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12] + "_tiles" * TILES


_STAMP = _stamp()


def kept(function: Callable[..., Any]) -> Any:
    """Compiled, and kept on disk for the next start; only for this one where no folder can be written to."""
    function.__qualname__ += f"_{_STAMP}"  # numba keeps it by this name
    how = {"fastmath": set(REORDERS), "nogil": True}
    try:
        return njit(cache=True, **how)(function)
    except RuntimeError:
        return njit(**how)(function)
