"""Vector code, written as arithmetic: the values a kernel is built from while it is being compiled.

Numba compiles the kernels, but array slices never keep a state in registers, so the bodies are emitted as explicit LLVM
vectors. `Lanes` is such a vector (complex numbers are a pair), `Mask` a vector of truths, `Int` an address or a count; the
operators on them emit instructions. One width serves every CPU: LLVM splits a vector that is wider than the registers.
Used by walk.py and gates.py, and fit for any later kernel.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Union

from llvmlite import ir

from seqpar_host.untyped import cgutils

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
FLOATS: dict[str, Any] = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
SUFFIX = {
    "float": "f32",
    "double": "f64",
    "i8": "i8",
    "i16": "i16",
    "i32": "i32",
    "i64": "i64",
    "half": "f16",
}


def suffix(kind: Any) -> str:
    """How LLVM's overloaded intrinsics spell a type: v16f32."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{suffix(kind.element)}"
    return SUFFIX[str(kind)]


def intrinsic(builder: Any, name: str, result: Any, args: Sequence[Any]) -> Any:
    """Call an LLVM intrinsic (or any C function) declared on first use."""
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), list(args))


def shuffle(builder: Any, x: Any, y: Any, lanes: Sequence[int]) -> Any:
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))


def splat(builder: Any, scalar: Any, count: int) -> Any:
    kind = ir.VectorType(scalar.type, count)
    undefined = ir.Constant(kind, ir.Undefined)
    return shuffle(builder, builder.insert_element(undefined, scalar, I32(0)), undefined, [0] * count)


@dataclass(frozen=True)
class Int:
    """A 64-bit integer at run time."""

    builder: Any
    value: Any

    def _lift(self, other: "Int | int") -> Any:
        return other.value if isinstance(other, Int) else I64(other)

    def __add__(self, other: "Int | int") -> "Int":
        return Int(self.builder, self.builder.add(self.value, self._lift(other)))

    def __sub__(self, other: "Int | int") -> "Int":
        return Int(self.builder, self.builder.sub(self.value, self._lift(other)))

    def __mul__(self, other: "Int | int") -> "Int":
        return Int(self.builder, self.builder.mul(self.value, self._lift(other)))

    def __floordiv__(self, other: int) -> "Int":
        return Int(self.builder, self.builder.sdiv(self.value, I64(other)))

    def mod(self, power: int) -> "Int":
        """The remainder of a number that is not negative by a power of two."""
        return Int(self.builder, self.builder.and_(self.value, I64(power - 1)))

    def less(self, other: "Int | int") -> Any:
        return self.builder.icmp_signed("<", self.value, self._lift(other))

    def equals(self, other: "Int | int") -> Any:
        return self.builder.icmp_signed("==", self.value, self._lift(other))

    def min(self, other: "Int | int") -> "Int":
        return Int(self.builder, self.builder.select(self.less(other), self.value, self._lift(other)))

    def where(self, condition: Any, other: "Int | int") -> "Int":
        return Int(self.builder, self.builder.select(condition, self.value, self._lift(other)))

    def first(self, count: int) -> "Mask":
        """The mask of the first `self` lanes of `count`."""
        bound = self.builder.trunc(self.min(count).value, I32)
        lanes = ir.Constant(ir.VectorType(I32, count), list(range(count)))
        return Mask(self.builder, self.builder.icmp_signed("<", lanes, splat(self.builder, bound, count)))


@dataclass(frozen=True)
class Mask:
    """A vector of truths."""

    builder: Any
    value: Any

    @property
    def count(self) -> int:
        return int(self.value.type.count)

    def select(self, yes: "Lanes", no: "Lanes") -> "Lanes":
        pairs = zip(yes.parts, no.parts, strict=True)
        return Lanes(self.builder, tuple(self.builder.select(self.value, y, n) for y, n in pairs))

    def reversed(self) -> "Mask":
        order = range(self.count - 1, -1, -1)
        return Mask(self.builder, shuffle(self.builder, self.value, self.value, list(order)))

    def doubled(self) -> "Mask":
        """Each truth twice: the mask of the interleaved parts of complex numbers."""
        order = [lane // 2 for lane in range(2 * self.count)]
        return Mask(self.builder, shuffle(self.builder, self.value, self.value, order))

    def lanes(self, like: "Lanes") -> "Lanes":
        """1.0 where true, 0.0 elsewhere."""
        return Lanes(self.builder, (self.builder.uitofp(self.value, like.parts[0].type),))


Operand = Union["Lanes", float]


@dataclass(frozen=True)
class Lanes:
    """A vector of floats; a vector of complex numbers is its real and its imaginary part."""

    builder: Any
    parts: tuple[Any, ...]

    @property
    def count(self) -> int:
        return int(self.parts[0].type.count)

    @property
    def state(self) -> str:
        return "float32" if str(self.parts[0].type.element) == "float" else "float64"

    @property
    def complex(self) -> bool:
        return len(self.parts) == 2

    @property
    def real(self) -> "Lanes":
        return Lanes(self.builder, self.parts[:1])

    @property
    def imag(self) -> "Lanes":
        return Lanes(self.builder, self.parts[1:])

    def like(self, value: float) -> "Lanes":
        """The same number in every lane."""
        kind = self.parts[0].type
        number = ir.Constant(kind, [float(value)] * self.count)
        return Lanes(self.builder, (number, ir.Constant(kind, [0.0] * self.count))[: len(self.parts)])

    def _lift(self, other: Operand) -> "Lanes":
        return other if isinstance(other, Lanes) else self.like(other)

    def _each(self, emit: Callable[..., Any], other: "Lanes") -> "Lanes":
        return Lanes(self.builder, tuple(emit(x, y) for x, y in zip(self.parts, other.parts, strict=True)))

    def __add__(self, other: Operand) -> "Lanes":
        return self._each(self.builder.fadd, self._lift(other))

    def __sub__(self, other: Operand) -> "Lanes":
        return self._each(self.builder.fsub, self._lift(other))

    def __rsub__(self, other: float) -> "Lanes":
        return self.like(other) - self

    def __neg__(self) -> "Lanes":
        return Lanes(self.builder, tuple(self.builder.fneg(x) for x in self.parts))

    def __mul__(self, other: Operand) -> "Lanes":
        if not isinstance(other, Lanes):
            factor = self.real.like(other).parts[0]
            return Lanes(self.builder, tuple(self.builder.fmul(x, factor) for x in self.parts))
        if not self.complex:
            return self._each(self.builder.fmul, other)
        re, im = self.real, self.imag
        return pair((-im).fma(other.imag, re * other.real), re.fma(other.imag, im * other.real))

    __rmul__ = __mul__

    def __truediv__(self, other: "Lanes") -> "Lanes":
        return self._each(self.builder.fdiv, other)

    def fma(self, factor: Operand, term: Operand) -> "Lanes":
        """self*factor + term, rounded once (explicit, so that vector bodies and tails agree to the last bit)."""
        x, y, z = self, self._lift(factor), self._lift(term)
        if self.complex:
            re = x.real.fma(y.real, (-x.imag).fma(y.imag, z.real))
            return pair(re, x.real.fma(y.imag, x.imag.fma(y.real, z.imag)))
        kind = self.parts[0].type
        args = [x.parts[0], y.parts[0], z.parts[0]]
        return Lanes(self.builder, (intrinsic(self.builder, f"llvm.fma.{suffix(kind)}", kind, args),))

    def call(self, name: str) -> "Lanes":
        """An LLVM intrinsic of one argument, on the real part."""
        kind = self.parts[0].type
        return Lanes(
            self.builder, (intrinsic(self.builder, f"llvm.{name}.{suffix(kind)}", kind, self.parts[:1]),)
        )

    def less(self, other: Operand) -> Mask:
        """Ordered: false where either is NaN."""
        return Mask(self.builder, self.builder.fcmp_ordered("<", self.parts[0], self._lift(other).parts[0]))

    def equals(self, other: Operand) -> Mask:
        return Mask(self.builder, self.builder.fcmp_ordered("==", self.parts[0], self._lift(other).parts[0]))

    def clip(self, low: float, high: float) -> "Lanes":
        """Between two bounds; a NaN stays a NaN."""
        x = self.less(low).select(self.like(low), self)
        return self.like(high).less(x).select(self.like(high), x)

    def cast(self, state: str) -> "Lanes":
        """The same numbers as float32 or float64."""
        if state == self.state:
            return self
        kind = ir.VectorType(FLOATS[state], self.count)
        emit = self.builder.fpext if state == "float64" else self.builder.fptrunc
        return Lanes(self.builder, tuple(emit(x, kind) for x in self.parts))

    def pick(self, lanes: Sequence[int]) -> "Lanes":
        """The named lanes, in that order."""
        return Lanes(self.builder, tuple(shuffle(self.builder, x, x, lanes) for x in self.parts))

    def reversed(self) -> "Lanes":
        return self.pick(range(self.count - 1, -1, -1))

    def sum(self) -> "Lanes":
        """All lanes added pairwise, as one lane: a fixed order, whatever the CPU."""
        x = self
        while x.count > 1:
            half = x.count // 2
            x = x.pick(range(half)) + x.pick(range(half, x.count))
        return x


def pair(real: Lanes, imag: Lanes) -> Lanes:
    return Lanes(real.builder, (real.parts[0], imag.parts[0]))


def join(low: Lanes, high: Lanes) -> Lanes:
    """The lanes of both, one after the other."""
    return choose(low, high, range(2 * low.count))


def choose(x: Lanes, y: Lanes, lanes: Sequence[int]) -> Lanes:
    """The named lanes of two vectors, those of the second counted on from the first."""
    parts = zip(x.parts, y.parts, strict=True)
    return Lanes(x.builder, tuple(shuffle(x.builder, p, q, lanes) for p, q in parts))


def either(condition: Any, yes: Lanes, no: Lanes) -> Lanes:
    """One of two vectors, by one truth."""
    parts = zip(yes.parts, no.parts, strict=True)
    return Lanes(yes.builder, tuple(yes.builder.select(condition, x, y) for x, y in parts))


def constant(builder: Any, state: str, count: int, value: float = 0.0, complex: bool = False) -> Lanes:
    """A vector of one number, of given type and width."""
    kind = ir.VectorType(FLOATS[state], count)
    number, zero = ir.Constant(kind, [value] * count), ir.Constant(kind, [0.0] * count)
    return Lanes(builder, (number, zero) if complex else (number,))


class Counter:
    """An integer that changes from step to step."""

    def __init__(self, start: Int) -> None:
        self.builder = start.builder
        self.slot = cgutils.alloca_once_value(self.builder, start.value)

    def get(self) -> Int:
        return Int(self.builder, self.builder.load(self.slot))

    def set(self, value: Int) -> None:
        self.builder.store(value.value, self.slot)


class Variable:
    """A vector that changes from step to step (kept in registers: LLVM promotes the stack slot)."""

    def __init__(self, start: Lanes) -> None:
        self.builder = start.builder
        self.slots = [cgutils.alloca_once(self.builder, part.type) for part in start.parts]
        self.set(start)

    def get(self) -> Lanes:
        return Lanes(self.builder, tuple(self.builder.load(slot) for slot in self.slots))

    def set(self, value: Lanes) -> None:
        for slot, part in zip(self.slots, value.parts, strict=True):
            self.builder.store(part, slot)


@contextmanager
def loop(builder: Any, count: Int) -> Iterator[Int]:
    with cgutils.for_range(builder, count.value) as each:
        yield Int(builder, each.index)


@contextmanager
def while_loop(builder: Any, condition: Callable[[], Any]) -> Iterator[None]:
    ask, body, done = (builder.append_basic_block(name) for name in ("ask", "body", "done"))
    builder.branch(ask)
    builder.position_at_end(ask)
    builder.cbranch(condition(), body, done)
    builder.position_at_end(body)
    yield
    builder.branch(ask)
    builder.position_at_end(done)


# Bits that are shuffled at once: AMD's cores do two shuffles of 256 a cycle, one of 512 (time last: 1.58 ms for 1.80).
TURNED_BITS = 256


def turn(rows: Sequence[Lanes]) -> list[Lanes]:
    """r vectors of n steps each -> n vectors of the r rows' values at one step (n a multiple of r, r a power of two)."""
    builder, count, size = rows[0].builder, rows[0].count, len(rows)
    piece = _piece(rows[0], size, count)
    columns: list[list[Any]] = []
    for part in range(len(rows[0].parts)):
        pick = []
        for start in range(0, count, piece):
            lanes = list(range(start, start + piece))
            turned = _turn_blocks(
                builder, [shuffle(builder, row.parts[part], row.parts[part], lanes) for row in rows]
            )
            pick += [
                shuffle(builder, x, x, list(range(g, g + size)))
                for g in range(0, piece, size)
                for x in turned
            ]
        columns.append(pick)
    return [Lanes(builder, parts) for parts in zip(*columns, strict=True)]


def turn_back(columns: Sequence[Lanes]) -> list[Lanes]:
    """The inverse of `turn`: n vectors of r rows -> r vectors of n steps."""
    builder, count, size = columns[0].builder, len(columns), columns[0].count
    piece = _piece(columns[0], size, count)
    rows: list[list[Any]] = []
    for part in range(len(columns[0].parts)):
        pieces = []
        for start in range(0, count, piece):
            groups = range(start, start + piece, size)
            pieces.append(
                _turn_blocks(
                    builder,
                    [_joined(builder, [columns[g + j].parts[part] for g in groups]) for j in range(size)],
                )
            )
        rows.append([_joined(builder, list(row)) for row in zip(*pieces, strict=True)])
    return [Lanes(builder, parts) for parts in zip(*rows, strict=True)]


def _piece(like: Lanes, size: int, count: int) -> int:
    bits = 32 if like.state == "float32" else 64
    return min(count, max(size, TURNED_BITS // bits))


def _joined(builder: Any, pieces: list[Any]) -> Any:
    while len(pieces) > 1:
        lanes = list(range(2 * pieces[0].type.count))
        pieces = [shuffle(builder, x, y, lanes) for x, y in zip(pieces[::2], pieces[1::2], strict=True)]
    return pieces[0]


def _turn_blocks(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Transpose each r x r block of r vectors: one round of pairwise shuffles per bit of the index."""
    count, x = rows[0].type.count, list(rows)
    bit = len(x) // 2
    while bit:
        for i in range(len(x)):
            if not i & bit:
                j = i | bit
                low = [lane ^ bit | count if lane & bit else lane for lane in range(count)]
                high = [lane | count if lane & bit else lane | bit for lane in range(count)]
                x[i], x[j] = shuffle(builder, x[i], x[j], low), shuffle(builder, x[i], x[j], high)
        bit //= 2
    return x
