"""What a program must ask the system for before a CPU does it."""

from __future__ import annotations

import ctypes
import platform
import sys

from llvmlite import binding

_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA = 158, 0x1023, 18
"""Linux on x86-64: see its documentation of extended states"""


def _granted() -> bool:
    has = binding.get_host_cpu_features()
    if not all(has.get(name) for name in ("amx-tile", "amx-bf16", "avx512bf16")):
        return False
    if sys.platform != "linux" or platform.machine() != "x86_64" or binding.llvm_version_info < (16,):
        return False
    asked: int = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA)
    return asked == 0


TILES = _granted()
"""Whether threads of this process may use the registers of AMX, which hold 16 rows of 64 bytes, for bfloat16"""
