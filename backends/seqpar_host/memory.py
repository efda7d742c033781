"""Memory and whole numbers in compiled code: what launch.py and the conductor of cells share beyond single words."""

import platform
from typing import Any

from llvmlite import ir
from numba import types

from seqpar_host.launch import I32, I64, peek, poke
from seqpar_host.routines import routine
from seqpar_host.untyped import cgutils, intrinsic

BYTES = ir.IntType(8).as_pointer()
X86 = platform.machine() in ("x86_64", "AMD64")
FLUSHED = (
    1 << 15 | 1 << 6
)  # bits of the control word: results, and operands, below the smallest normal number become zero
LINE = 64  # bytes of a cache line, which carries of cells are multiples of


@intrinsic
def peek_byte(typing: Any, address: Any) -> Any:
    """One byte, as a number that is not negative."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(builder.load(builder.inttoptr(args[0], BYTES)), I64)

    return types.int64(types.int64), generate


@intrinsic
def peek_short(typing: Any, address: Any) -> Any:
    """Four bytes, as a number that is not negative."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(builder.load(builder.inttoptr(args[0], I32.as_pointer())), I64)

    return types.int64(types.int64), generate


@intrinsic
def poke_short(typing: Any, address: Any, value: Any) -> Any:
    """The lower four bytes of a word."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(builder.trunc(args[1], I32), builder.inttoptr(args[0], I32.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def quotient(typing: Any, number: Any, divisor: Any) -> Any:
    """Of numbers that are not negative: without the check for zero and its exception that `//` has in functions called."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.udiv(*args)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def keep_denormals(typing: Any) -> Any:
    """Let numbers below the smallest normal one be what they are, on this thread; how they were treated before.

    XLA, and PyTorch when it is asked to, take them for zeros, so that bits would hang on who calls.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not X86:
            return I64(0)
        place = cgutils.alloca_once(builder, I32)
        _control(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.and_(before, I32(~FLUSHED)), place)
        _control(builder, "ldmxcsr", place)
        return builder.zext(before, I64)

    return types.int64(), generate


@intrinsic
def treat_denormals(typing: Any, before: Any) -> Any:
    """As before `keep_denormals`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if X86:
            place = cgutils.alloca_once(builder, I32)
            builder.store(builder.trunc(args[0], I32), place)
            _control(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _control(builder: Any, name: str, place: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [BYTES])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}")
    builder.call(function, [builder.bitcast(place, BYTES)])


@intrinsic
def malloc(typing: Any, size: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(I64, [I64])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "malloc"), args)

    return types.int64(types.int64), generate


@intrinsic
def free(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [I64])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "free"), args)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def get(typing: Any, words: Any, index: Any) -> Any:
    """One of the words at an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.gep(builder.inttoptr(args[0], I64.as_pointer()), [args[1]]))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def put(typing: Any, words: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(builder.inttoptr(args[0], I64.as_pointer()), [args[1]]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@routine
def peek_number(address: int, itemsize: int) -> int:
    """The bits of a number of 4 or 8 bytes."""
    return peek_short(address) if itemsize == 4 else peek(address)


@routine
def poke_number(address: int, bits: int, itemsize: int) -> None:
    if itemsize == 4:
        poke_short(address, bits)
    else:
        poke(address, bits)


@routine
def line_of(address: int) -> int:
    """The first multiple of a line that is not less."""
    return (address + LINE - 1) & -LINE


@intrinsic
def copy_bytes(typing: Any, source: Any, target: Any, size: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        copied, written = (builder.inttoptr(address, BYTES) for address in args[:2])
        cgutils.raw_memcpy(builder, written, copied, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def clear_bytes(typing: Any, target: Any, size: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cgutils.memset(builder, builder.inttoptr(args[0], BYTES), args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def compare_bytes(typing: Any, one: Any, other: Any, size: Any) -> Any:
    """0 if they are equal."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(I32, [I64] * 3)
        compare = cgutils.get_or_insert_function(builder.module, kind, "memcmp")
        return builder.sext(builder.call(compare, args), I64)

    return types.int64(types.int64, types.int64, types.int64), generate


@routine
def copy_numbers(source: int, step: int, target: int, stride: int, count: int, itemsize: int) -> None:
    """`count` numbers of 4 or 8 bytes from one place to another, with bytes from one to the next in each."""
    for index in range(count):
        poke_number(target + index * stride, peek_number(source + index * step, itemsize), itemsize)
