"""Instructions that are the same for one float32 and for several side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils

from molora.fast.kernel.keeping import REORDERS

_FIT = 1.53375768e-4, 1.33998604e-3, 9.61851953e-3, 5.550329e-2, 0.240226466, 0.693147206, 1.0
"""Of 2 ** x from -0.5 to 0.5, the highest power first"""

LARGEST = 65504.0
"""Of float16"""


class Kind(NamedTuple):
    """The types of a float32 or of several side by side, and of the integers beside them."""

    floats: Any
    words: Any
    halves: Any
    size: int

    @classmethod
    def of(cls, size: int = 1) -> Kind:
        each = (ir.FloatType(), ir.IntType(32), ir.IntType(16))
        floats, words, halves = each if size == 1 else (ir.VectorType(one, size) for one in each)
        return cls(floats, words, halves, size)

    def of_array(self, dtype: Any) -> tuple[Any, int]:
        """The type of what a narrow array holds, and the bytes of one."""
        return (self.halves, 2) if dtype in (types.uint16, types.int16) else (self.floats, 4)

    def each(self, number: int | float) -> Any:
        kind = self.floats if isinstance(number, float) else self.words
        return ir.Constant(kind, number if self.size == 1 else [number] * self.size)


class _Bfloat(ir.Type):
    """LLVM's own, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"


def bfloats(size: int) -> Any:
    """What so many bfloat16 are to LLVM's own instructions; elsewhere they are 16 bits each."""
    return ir.VectorType(_Bfloat(), size)


_SIXTEEN = bfloats(16)
MULTIPLIES = bool(binding.get_host_cpu_features().get("avx512bf16")) and binding.llvm_version_info >= (16,)
"""Whether this CPU has instructions for bfloat16, 16 float32 at a time, and LLVM names them as it does today"""


def index(value: int) -> Any:
    """A place in an array."""
    return ir.Constant(ir.IntType(64), value)


def in_all(builder: Any, value: Any, vector: Any) -> Any:
    """Instructions for one number in all places of a vector."""
    nothing, word = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(nothing, value, ir.Constant(word, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(word, vector.count), [0] * vector.count))


def rounded(builder: Any, value: Any, kind: Kind) -> Any:
    """Instructions for bfloat16's bits: the nearest, the even one of two."""
    if MULTIPLIES and kind.size == 16:
        return builder.bitcast(called(builder, "x86.avx512bf16.cvtneps2bf16.512", _SIXTEEN, value), kind.halves)
    bits = builder.bitcast(value, kind.words)
    even = builder.and_(builder.lshr(bits, kind.each(16)), kind.each(1))
    sum_ = builder.add(builder.add(bits, kind.each(0x7FFF)), even)
    return builder.trunc(builder.lshr(sum_, kind.each(16)), kind.halves)


def widened(builder: Any, value: Any, dtype: Any, kind: Kind) -> Any:
    """Instructions for the float32 of what a narrow array holds."""
    if dtype == types.uint16:
        return builder.bitcast(builder.shl(builder.zext(value, kind.words), kind.each(16)), kind.floats)
    return builder.fpext(builder.bitcast(value, _float16(kind)), kind.floats) if dtype == types.int16 else value


def narrowed(builder: Any, value: Any, dtype: Any, kind: Kind) -> Any:
    """Instructions for what a narrow array holds of float32: the nearest, the even one of two. What is beyond float16
    becomes its largest."""
    if dtype == types.uint16:
        return rounded(builder, value, kind)
    if dtype != types.int16:
        return value
    for limit, beyond in ((kind.each(-LARGEST), "<"), (kind.each(LARGEST), ">")):
        value = builder.select(builder.fcmp_ordered(beyond, value, limit), limit, value)
    return builder.bitcast(builder.fptrunc(value, _float16(kind)), kind.halves)


def _float16(kind: Kind) -> Any:
    return ir.HalfType() if kind.size == 1 else ir.VectorType(ir.HalfType(), kind.size)


def called(builder: Any, name: str, result: Any, *args: Any, flags: tuple[str, ...] = ()) -> Any:
    """Instructions for what one of LLVM's own functions gives."""
    kind = ir.FunctionType(result, [one.type for one in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}"), args, fastmath=flags)


def reduced(builder: Any, how: str, value: Any, kind: Kind) -> Any:
    """Instructions for the sum of several floats, `fadd`, or the greatest of them, `fmax`."""
    first = [ir.Constant(ir.FloatType(), 0.0)] if how == "fadd" else []
    flags = REORDERS if how == "fadd" else ()
    return called(builder, f"vector.reduce.{how}.v{kind.size}f32", ir.FloatType(), *first, value, flags=flags)


def exponential(builder: Any, x: Any, kind: Kind) -> Any:
    """Instructions for e to the x: 2 to the whole part of x / ln 2 by its bits, to the rest, -0.5 to 0.5, by a least
    squares fit."""
    power = builder.fmul(x, kind.each(1.44269504))
    for worst, beyond in ((-126.0, "<"), (126.0, ">")):
        limit = kind.each(worst)
        power = builder.select(builder.fcmp_ordered(beyond, power, limit), limit, power)
    if kind.size == 16:  # AVX-512 has an instruction for each half of it
        whole = called(builder, "rint.v16f32", kind.floats, power)
        near = _near(builder, builder.fsub(power, whole), kind)
        everywhere = ir.Constant(ir.IntType(16), -1), ir.Constant(ir.IntType(32), 4)
        return called(builder, "x86.avx512.mask.scalef.ps.512", kind.floats, near, whole, near, *everywhere)
    whole = builder.fptosi(builder.fadd(power, kind.each(127.5)), kind.words)  # the nearest, and the exponent's 127
    rest = builder.fsub(power, builder.sitofp(builder.sub(whole, kind.each(127)), kind.floats))
    return builder.fmul(_near(builder, rest, kind), builder.bitcast(builder.shl(whole, kind.each(23)), kind.floats))


def _near(builder: Any, rest: Any, kind: Kind) -> Any:
    near = kind.each(_FIT[0])
    for factor in _FIT[1:]:
        near = builder.fadd(builder.fmul(near, rest, flags=REORDERS), kind.each(factor), flags=REORDERS)
    return near


def silu_of(builder: Any, x: Any, kind: Kind) -> Any:
    """Instructions for x / (1 + e to the -x)."""
    below = builder.fadd(kind.each(1.0), exponential(builder, builder.fneg(x), kind))
    if kind.size != 16:
        return builder.fdiv(x, below)
    # AVX-512 guesses 14 bits of 1 / below in a quarter of the time of a division; Newton's step doubles them
    everywhere = ir.Constant(ir.IntType(16), -1)
    part = called(builder, "x86.avx512.rcp14.ps.512", kind.floats, below, kind.each(0.0), everywhere)
    missing = builder.fsub(kind.each(1.0), builder.fmul(below, part, flags=REORDERS), flags=REORDERS)
    part = builder.fadd(part, builder.fmul(part, missing, flags=REORDERS), flags=REORDERS)
    return builder.fmul(x, part)
