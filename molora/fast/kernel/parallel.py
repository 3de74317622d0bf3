"""Work that threads share: those of the OpenMP that torch brings, which it computes with itself.

numba's own way to share a loop compiles all that it calls twice more, and starts threads of its own beside torch's.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch  # noqa: F401  # with it comes OpenMP
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTE, _WORD, _INDEX = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_DATA = _BYTE.as_pointer()
_THREAD = ir.FunctionType(ir.VoidType(), [_DATA])
_SOME = ir.FunctionType(ir.VoidType(), [_DATA, _INDEX, _INDEX])
_START = ir.FunctionType(ir.VoidType(), [_THREAD.as_pointer(), _DATA, _WORD, _WORD])
_NUMBER = ir.FunctionType(_WORD, [])
_NAMES = "GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads"
"""What starts threads, see the ABI of GCC's libgomp; of a thread its number, and how many there are"""


@ctypes.CFUNCTYPE(ctypes.c_int)
def _missing() -> int:
    """Stands where there is no OpenMP, and all work has one part."""
    return 0


def _found() -> list[Any]:
    for library in (None, "libgomp.so.1") if sys.platform == "linux" else ():
        try:
            return [getattr(ctypes.CDLL(library), name) for name in _NAMES]
        except (AttributeError, OSError):
            continue
    return []


def _bind() -> bool:
    """Whether there is OpenMP, which code that is kept on disk finds by these names."""
    found = _found()
    for name, one in zip(_NAMES, found or [_missing] * len(_NAMES), strict=True):
        binding.add_symbol(f"molora_{name}", ctypes.cast(one, ctypes.c_void_p).value)
    return bool(found)


OPENMP = _bind()


@intrinsic
def share(typing_context: Any, work: Any, parts: Any, *given: Any) -> Any:
    """Calls `work(part, parts, *given)` for each of so many parts, by as many threads: the same ones for the same
    parts each time. For compiled code to call.

    Raises MemoryError where a part raised something, for there is nothing else that it could raise.
    """
    kinds = types.StarArgTuple(given)
    called = work.get_call_type(typing_context, (types.intp, types.intp, *given), {})

    def of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        made = work.dispatcher.get_compile_result(called)
        context.add_linking_libs([made.library])
        _, parts, packed = args
        lent = [_lent(context, builder, *one) for one in zip(given, cgutils.unpack_tuple(builder, packed), strict=True)]
        values = [parts, ir.Constant(_BYTE, 0), *lent]
        kind = ir.LiteralStructType([value.type for value in values])
        data = cgutils.alloca_once(builder, kind)
        for number, value in enumerate(values):
            builder.store(value, _field(builder, data, number))
        some = _some(context, builder.module, kind, made.fndesc, called)
        place = builder.bitcast(data, _DATA)
        with builder.if_else(builder.icmp_signed(">", parts, ir.Constant(_INDEX, 1))) as (several, alone):
            with several:
                start = cgutils.get_or_insert_function(builder.module, _START, f"molora_{_NAMES[0]}")
                count = builder.trunc(parts, _WORD)
                builder.call(start, [_thread(builder.module, some), place, count, ir.Constant(_WORD, 0)])
            with alone:
                builder.call(some, [place, ir.Constant(_INDEX, 0), ir.Constant(_INDEX, 1)])
        failed = builder.load(_field(builder, data, 1))
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, failed)):
            context.call_conv.return_user_exc(builder, MemoryError, ("There is no room for what threads work on.",))
        return context.get_dummy_value()

    return types.void(work, types.intp, kinds), of


def _lent(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The same with arrays that are nobody's: who holds one is counted whenever a part of it is taken, and threads that
    count in the same place wait for each other. The caller holds them all meanwhile."""
    if isinstance(kind, types.BaseTuple):
        each = zip(kind, cgutils.unpack_tuple(builder, value), strict=True)
        return context.make_tuple(builder, kind, [_lent(context, builder, *one) for one in each])
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    return array._getvalue()


def _field(builder: Any, data: Any, number: int) -> Any:
    return builder.gep(data, [ir.Constant(_WORD, 0), ir.Constant(_WORD, number)], inbounds=True)


def _some(context: Any, module: Any, kind: Any, made: Any, called: Any) -> Any:
    """A function of data, a part's number and a step: works on that part and, step by step, on those that follow."""
    function = _function(module, _SOME)
    data, first, step = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    fields = builder.bitcast(data, kind.as_pointer())
    parts, _, *values = [builder.load(_field(builder, fields, number)) for number in range(len(kind.elements))]
    with cgutils.for_range_slice(builder, first, parts, step) as (part, _):
        status, _ = context.call_internal_no_propagate(builder, made, called, [part, parts, *values])
        with cgutils.if_unlikely(builder, status.is_error):
            builder.store(ir.Constant(_BYTE, 1), _field(builder, fields, 1))
    builder.ret_void()
    return function


def _thread(module: Any, some: Any) -> Any:
    """What each thread does: the parts from its own number on, as many steps apart as there are threads."""
    function = _function(module, _THREAD)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    asked = [cgutils.get_or_insert_function(module, _NUMBER, f"molora_{name}") for name in _NAMES[1:]]
    builder.call(some, [function.args[0], *(builder.sext(builder.call(one, []), _INDEX) for one in asked)])
    builder.ret_void()
    return function


def _function(module: Any, kind: Any) -> Any:
    function = ir.Function(module, kind, module.get_unique_name("shared"))
    function.linkage = "internal"
    return function
