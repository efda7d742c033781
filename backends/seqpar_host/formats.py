"""How numbers lie in memory, and how a vector of them is read and written.

A format is a dtype name; it computes in its state type (float32 for the half types). A reach says how the lanes of one
vector lie along the axis they run over: "packed" next to each other, "mirrored" the same backwards, "splat" one number for
all, "strided" anything else.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core.registry import cpu_target

from seqpar_host.simd import FLOATS, I1, I32, I64, Int, Lanes, Mask, intrinsic, shuffle, splat, suffix


@dataclass(frozen=True)
class Format:
    name: str
    itemsize: int
    state: str  # the float the parts are computed in
    complex: bool = False

    @property
    def state_name(self) -> str:
        """The dtype of carried states."""
        return {"float32": "complex64", "float64": "complex128"}[self.state] if self.complex else self.state


FORMATS = {
    format.name: format
    for format in (
        Format("float16", 2, "float32"),
        Format("bfloat16", 2, "float32"),
        Format("float32", 4, "float32"),
        Format("float64", 8, "float64"),
        Format("complex64", 8, "float32", complex=True),
        Format("complex128", 16, "float64", complex=True),
        Format("bool", 1, "float32"),
    )
}


def held_in(state: str, complex: bool) -> Format:
    """The format of numbers that are kept in the precision of the state."""
    return FORMATS[{"float32": "complex64", "float64": "complex128"}[state] if complex else state]


LINE = 64  # bytes of a cache line
I8, I16 = ir.IntType(8), ir.IntType(16)
MEMORY: dict[str, Any] = {
    "float16": I16,
    "bfloat16": I16,
    "float32": FLOATS["float32"],
    "float64": FLOATS["float64"],
    "complex64": FLOATS["float32"],
    "complex128": FLOATS["float64"],
    "bool": I8,
}


def reach_of(stride: int, itemsize: int) -> str:
    return {itemsize: "packed", 0: "splat", -itemsize: "mirrored"}.get(stride, "strided")


@dataclass(frozen=True)
class Place:
    """Where the first lane lies and how the others follow."""

    format: Format
    reach: str
    address: Int
    stride: Int

    def load(self, state: str, count: int, mask: Mask | None = None, outside: Lanes | None = None) -> Lanes:
        """`count` numbers in the state type; lanes outside the mask are not read and hold `outside` (or 0)."""
        value = _numbers(self.address.builder, self.format, self._raw(count, mask)).cast(state)
        if mask is not None and outside is not None:
            value = mask.select(value, outside)
        return value

    def truths(self, count: int, mask: Mask | None = None) -> Mask:
        (raw,) = self._raw(count, mask)
        builder = self.address.builder
        return Mask(builder, builder.icmp_unsigned("!=", raw, ir.Constant(raw.type, [0] * count)))

    def store(self, value: Lanes, mask: Mask | None = None, cached: Int | None = None) -> None:
        """Write the lanes of the mask. Where `cached` is 0, whole cache lines go past the caches."""
        builder, count, start = value.builder, value.count, self.address
        if self.reach == "mirrored":
            value, mask = value.reversed(), mask.reversed() if mask else None
            start = start - (count - 1) * self.format.itemsize
        raw = _memory(self.format, value.cast(self.format.state))
        if self.reach == "strided":
            for part, numbers in enumerate(raw):
                pointers = self._pointers(count, part)
                keep = mask.value if mask else ir.Constant(ir.VectorType(I1, count), [1] * count)
                name = f"llvm.masked.scatter.{suffix(numbers.type)}.v{count}p0"
                intrinsic(builder, name, ir.VoidType(), [numbers, pointers, I32(1), keep])
            return
        numbers = _interleave(builder, raw)
        if mask is not None:
            _store_masked(numbers, start, mask.doubled() if self.format.complex else mask, self._alignment)
            return
        pointer = builder.inttoptr(start.value, numbers.type.as_pointer())
        if cached is None or count * self.format.itemsize < LINE:
            builder.store(numbers, pointer, align=self._alignment)
            return
        # A line written whole need not be read first: a quarter less traffic.
        with builder.if_else(builder.icmp_unsigned("==", (start.mod(LINE) + cached).value, I64(0))) as (
            past,
            through,
        ):
            with past:
                stored = builder.store(numbers, pointer, align=LINE)
                stored.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
            with through:
                builder.store(numbers, pointer, align=self._alignment)

    @property
    def _alignment(self) -> int:
        return self.format.itemsize // (2 if self.format.complex else 1)

    def _raw(self, count: int, mask: Mask | None) -> list[Any]:
        """The parts as they lie in memory."""
        builder, start, memory = self.address.builder, self.address, MEMORY[self.format.name]
        parts = 2 if self.format.complex else 1
        if self.reach == "splat":
            found = []
            for part in range(parts):
                pointer = builder.inttoptr((start + part * self._alignment).value, memory.as_pointer())
                found.append(splat(builder, builder.load(pointer, align=self._alignment), count))
            return found
        if self.reach == "strided":
            kind = ir.VectorType(memory, count)
            keep = mask.value if mask else ir.Constant(ir.VectorType(I1, count), [1] * count)
            name = f"llvm.masked.gather.{suffix(kind)}.v{count}p0"
            zero = ir.Constant(kind, [0] * count)
            return [
                intrinsic(
                    builder, name, kind, [self._pointers(count, part), I32(self._alignment), keep, zero]
                )
                for part in range(parts)
            ]
        if self.reach == "mirrored":
            start, mask = start - (count - 1) * self.format.itemsize, mask.reversed() if mask else None
        wide = ir.VectorType(memory, parts * count)
        numbers = _load(
            builder, wide, start, mask.doubled() if mask and parts == 2 else mask, self._alignment
        )
        found = [
            shuffle(builder, numbers, numbers, list(range(p, parts * count, parts))) for p in range(parts)
        ]
        if self.reach == "mirrored":
            found = [shuffle(builder, x, x, list(range(count - 1, -1, -1))) for x in found]
        return found

    def _pointers(self, count: int, part: int) -> Any:
        builder = self.address.builder
        steps = ir.Constant(ir.VectorType(I64, count), list(range(count)))
        first = splat(builder, (self.address + part * self._alignment).value, count)
        addresses = builder.add(first, builder.mul(splat(builder, self.stride.value, count), steps))
        return builder.inttoptr(addresses, ir.VectorType(MEMORY[self.format.name].as_pointer(), count))


def _load(builder: Any, kind: Any, start: Int, mask: Mask | None, align: int) -> Any:
    pointer = builder.inttoptr(start.value, kind.as_pointer())
    if mask is None:
        return builder.load(pointer, align=align)
    zero = ir.Constant(kind, [0] * kind.count)
    return intrinsic(
        builder, f"llvm.masked.load.{suffix(kind)}.p0", kind, [pointer, I32(align), mask.value, zero]
    )


def _store_masked(numbers: Any, start: Int, mask: Mask, align: int) -> None:
    builder, kind = start.builder, numbers.type
    pointer = builder.inttoptr(start.value, kind.as_pointer())
    name = f"llvm.masked.store.{suffix(kind)}.p0"
    intrinsic(builder, name, ir.VoidType(), [numbers, pointer, I32(align), mask.value])


def _interleave(builder: Any, parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    count = parts[0].type.count
    return shuffle(builder, parts[0], parts[1], [lane // 2 + (lane % 2) * count for lane in range(2 * count)])


def _numbers(builder: Any, format: Format, raw: list[Any]) -> Lanes:
    """Bits as they lay in memory -> numbers in the format's state type."""
    count = raw[0].type.count
    if format.name == "float16":
        return Lanes(builder, (_from_half(builder, raw[0]),))
    if format.name == "bfloat16":
        wide = builder.zext(raw[0], ir.VectorType(I32, count))
        bits = builder.shl(wide, ir.Constant(wide.type, [16] * count))
        return Lanes(builder, (builder.bitcast(bits, ir.VectorType(FLOATS["float32"], count)),))
    return Lanes(builder, tuple(raw))


def _memory(format: Format, value: Lanes) -> list[Any]:
    """The inverse of `_numbers`, rounding to the nearest, ties to even."""
    builder, count = value.builder, value.count
    if format.name == "float16":
        return [_to_half(builder, value.parts[0])]
    if format.name == "bfloat16":
        kind = ir.VectorType(I32, count)

        def all_lanes(number: int) -> Any:
            return ir.Constant(kind, [number] * count)

        bits = builder.bitcast(value.parts[0], kind)
        high = builder.lshr(bits, all_lanes(16))
        odd = builder.and_(high, all_lanes(1))
        rounded = builder.lshr(builder.add(bits, builder.add(odd, all_lanes(0x7FFF))), all_lanes(16))
        # Rounding would carry a NaN's bits into the sign or to infinity: keep its top bits and make it quiet.
        nan = builder.fcmp_unordered("uno", value.parts[0], value.parts[0])
        kept = builder.select(nan, builder.or_(high, all_lanes(0x40)), rounded)
        return [builder.trunc(kept, ir.VectorType(I16, count))]
    return list(value.parts)


def _has_half() -> bool:
    """Whether the CPU compiled for converts half floats itself; else LLVM would call a C function that may not exist."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return "+f16c" in features or not str(triple).startswith(("x86", "i386", "i686"))


def _from_half(builder: Any, raw: Any) -> Any:
    count = raw.type.count
    floats, bits = ir.VectorType(FLOATS["float32"], count), ir.VectorType(I32, count)
    if _has_half():
        return builder.fpext(builder.bitcast(raw, ir.VectorType(ir.HalfType(), count)), floats)

    def all_lanes(number: int) -> Any:
        return ir.Constant(bits, [number] * count)

    wide = builder.zext(raw, bits)
    size = builder.shl(builder.and_(wide, all_lanes(0x7FFF)), all_lanes(13))
    # Exponents differ by 112; the product is exact and makes subnormal numbers normal.
    scaled = builder.bitcast(
        builder.fmul(builder.bitcast(size, floats), ir.Constant(floats, [2.0**112] * count)), bits
    )
    special = builder.icmp_unsigned(">=", size, all_lanes(0x7C00 << 13))
    scaled = builder.select(special, builder.or_(size, all_lanes(0x7F800000)), scaled)
    sign = builder.shl(builder.and_(wide, all_lanes(0x8000)), all_lanes(16))
    return builder.bitcast(builder.or_(scaled, sign), floats)


def _to_half(builder: Any, value: Any) -> Any:
    count = value.type.count
    floats, bits = value.type, ir.VectorType(I32, count)
    if _has_half():
        half = builder.fptrunc(value, ir.VectorType(ir.HalfType(), count))
        return builder.bitcast(half, ir.VectorType(I16, count))

    def all_lanes(number: int) -> Any:
        return ir.Constant(bits, [number] * count)

    whole = builder.bitcast(value, bits)
    size = builder.and_(whole, all_lanes(0x7FFFFFFF))
    odd = builder.and_(builder.lshr(size, all_lanes(13)), all_lanes(1))
    rebased = builder.add(builder.add(size, all_lanes((0xFFF - (112 << 23)) & 0xFFFFFFFF)), odd)
    result = builder.lshr(rebased, all_lanes(13))
    # Below 2**-14 the addition of 0.5 does the rounding: its last bit is the last bit of a subnormal half.
    small = builder.fadd(builder.bitcast(size, floats), ir.Constant(floats, [0.5] * count))
    small = builder.sub(builder.bitcast(small, bits), all_lanes(0x3F000000))
    result = builder.select(builder.icmp_unsigned("<", size, all_lanes(113 << 23)), small, result)
    nan = builder.icmp_unsigned(">", size, all_lanes(0x7F800000))
    special = builder.select(nan, all_lanes(0x7E00), all_lanes(0x7C00))
    result = builder.select(builder.icmp_unsigned(">=", size, all_lanes(143 << 23)), special, result)
    sign = builder.lshr(builder.and_(whole, all_lanes(0x80000000)), all_lanes(16))
    return builder.trunc(builder.or_(result, sign), ir.VectorType(I16, count))
