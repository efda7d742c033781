"""Sizes of columns: powers of two that keep their squares from overflowing, weights of rows, and R as it is handed back.

QR commutes with factors of columns: A = Q R is A D = Q (R D). So a column whose largest number is out of range is multiplied
by a power of two, which changes no digit, and R is divided by it in the end.
"""

from llvmlite import ir

from seqpar_host.simd import I64, Int, Lanes, Mask, Variable, either, splat
from seqpar_host.tall_code import TallCode, over, times
from seqpar_host.tall_job import (
    BLOCK,
    CHUNKS,
    COLUMNS,
    FOUND,
    FRESH,
    LARGEST,
    PANEL,
    POWERS,
    ROW_STEP,
    ROWS,
    SEEN,
    SIGNS,
    SOURCE,
    TOP,
    TOP_ROWS,
    TOP_STEP,
    WEIGHTS,
)

# Of the largest number of a column. Below, what is left of it after some reflections could be lost as a square although it is
# above the last place; above, sums of a million squares and their quotients could overflow.
SMALLEST = {"float32": 2.0**-24, "float64": 2.0**-200}
GREATEST = {"float32": 2.0**30, "float64": 2.0**300}
MANTISSA = {"float32": 23, "float64": 52}
EXPONENTS = {"float32": 254, "float64": 2046}  # the largest of a finite number


def _bits(value: Lanes) -> ir.VectorType:
    return ir.VectorType(ir.IntType(32 if value.state == "float32" else 64), value.count)


def _all(kind: ir.VectorType, number: int) -> ir.Constant:
    return ir.Constant(kind, [number] * kind.count)


def larger(sizes: Lanes, value: Lanes) -> Lanes:
    """The larger size, lane by lane, by the order of bits: infinity is above all numbers and NaN above infinity.

    Of a complex number the size of its larger part.
    """
    if value.complex:
        return larger(larger(sizes, value.real), value.imag)
    builder, kind = value.builder, _bits(value)
    width = 32 if value.state == "float32" else 64
    size = builder.and_(builder.bitcast(value.parts[0], kind), _all(kind, (1 << (width - 1)) - 1))
    found = builder.bitcast(sizes.parts[0], kind)
    most = builder.select(builder.icmp_unsigned(">", size, found), size, found)
    return Lanes(builder, (builder.bitcast(most, value.parts[0].type),))


class Scale(TallCode):
    """SCALE."""

    def write(self) -> None:
        builder, item = self.builder, self.item
        block, chunks = self.word(BLOCK), self.word(CHUNKS)
        weights, powers = self.word(WEIGHTS), self.word(POWERS)
        with builder.if_then(self.given(WEIGHTS)), self.loop(chunks) as chunk:
            at = weights + chunk * self.vector
            self.store(self.load(at).call("sqrt"), at)
        with self.loop(self.word(COLUMNS)) as column:
            here = block + column * self.lead
            factor = Variable(self.constant(1.0))
            with builder.if_then(self.given(POWERS)):
                factor.set(self.real_number(powers + column * item))
            largest = Variable(self.constant(0.0))
            with self.loop(chunks) as chunk:
                at = here + chunk * self.vector
                row = Variable(factor.get())
                with builder.if_then(self.given(WEIGHTS)):
                    row.set(self.load(weights + chunk * self.vector) * factor.get())
                value = times(self.rows(at), row.get())
                self.set_rows(value, at)
                largest.set(larger(largest.get(), value))
            self.store(self.highest(largest.get()), self.word(LARGEST) + column * item)

    def highest(self, value: Lanes) -> Lanes:
        """The largest lane."""
        while value.count > 1:
            half = value.count // 2
            value = larger(value.pick(range(half)), value.pick(range(half, value.count)))
        return value


class Check(TallCode):
    """CHECK: SEEN becomes the largest of each column so far; FOUND is set to how many panels hold one that is out of range."""

    def write(self) -> None:
        builder, item = self.builder, self.item
        seen, largest, powers = self.word(SEEN), self.word(LARGEST), self.word(POWERS)
        self.set_word(FOUND, Int(builder, I64(0)))
        with self.loop((self.word(COLUMNS) + (PANEL - 1)) // PANEL) as panel:
            at = panel * (PANEL * item)
            most = larger(self.load(seen + at, PANEL), self.load(largest + at, PANEL))
            self.store(most, seen + at)
            out = out_of_range(most, self.load(powers + at, PANEL))
            bits = builder.bitcast(out.value, ir.IntType(PANEL))
            some = builder.zext(builder.icmp_unsigned("!=", bits, ir.IntType(PANEL)(0)), I64)
            self.set_word(FOUND, self.word(FOUND) + Int(builder, some))


def out_of_range(most: Lanes, power: Lanes) -> Mask:
    """Columns that are finite, not zero, and too small or too large for their power."""
    builder, sized = most.builder, most * power
    small, large = sized.less(SMALLEST[most.state]), most.like(GREATEST[most.state]).less(sized)
    finite = most.less(float("inf"))
    some = most.like(0.0).less(most)
    out = builder.or_(small.value, large.value)
    return Mask(builder, builder.and_(out, builder.and_(finite.value, some.value)))


class Rescale(TallCode):
    """RESCALE: new powers for columns that are out of range (FRESH: 1 for all); what there is of R goes along."""

    def write(self) -> None:
        item = self.item
        seen, powers, top = self.word(SEEN), self.word(POWERS), self.word(TOP)
        with self.loop((self.word(COLUMNS) + (PANEL - 1)) // PANEL) as panel:
            at = panel * (PANEL * item)
            most, before = self.load(seen + at, PANEL), self.load(powers + at, PANEL)
            now = out_of_range(most, before).select(_power(most), before)
            now = either(self.given(FRESH), now.like(1.0), now)
            self.store(now, powers + at)
            with self.loop(self.word(TOP_ROWS)) as row:
                place = top + row * self.word(TOP_STEP) + panel * self.row_bytes
                # One after the other: their quotient may be out of range.
                self.set_columns(times(over(self.columns(place), before), now), place)


def _power(most: Lanes) -> Lanes:
    """The power of two that takes a number to between 1 and 2, or as near as a normal number can."""
    builder, kind, shift = most.builder, _bits(most), MANTISSA[most.state]
    top = EXPONENTS[most.state]
    exponent = builder.lshr(builder.bitcast(most.parts[0], kind), _all(kind, shift))
    turned = builder.sub(_all(kind, top), exponent)
    # Of the largest numbers the power would be below the normal ones.
    turned = builder.select(builder.icmp_signed("<", turned, _all(kind, 1)), _all(kind, 1), turned)
    return Lanes(builder, (builder.bitcast(builder.shl(turned, _all(kind, shift)), most.parts[0].type),))


class Finish(TallCode):
    """FINISH: R without powers and with a diagonal that is not negative, all NaN if it is not finite; and the signs."""

    def write(self) -> None:
        builder, item = self.builder, self.item
        top, step, rows, columns = self.word(TOP), self.word(TOP_STEP), self.word(ROWS), self.word(COLUMNS)
        powers, signs, target = self.word(POWERS), self.word(SIGNS), self.word(SOURCE)
        panels = (columns + (PANEL - 1)) // PANEL
        poison = Variable(self.constant(0.0, PANEL))
        with self.loop(rows) as row, self.loop(panels) as panel:
            value = self.columns(top + row * step + panel * self.row_bytes)
            for part in (value.real, value.imag) if value.complex else (value,):
                poison.set(part.fma(0.0, poison.get()))
        spoiled = poison.get().sum()
        nothing = self.lifted(spoiled.pick([0] * PANEL))  # zero, or NaN
        with self.loop(rows) as row:
            diagonal = self.columns(top + row * step + row * self.number_bytes, 1).real
            minus, plus = diagonal.like(-1.0), diagonal.like(1.0)
            sign = diagonal.less(0.0).select(minus, plus) + spoiled
            self.store(sign, signs + row * item)
            spread = Lanes(builder, (splat(builder, builder.extract_element(sign.parts[0], I64(0)), PANEL),))
            with self.loop(panels) as panel:
                first = panel * PANEL
                at = top + row * step + first * self.number_bytes
                value = over(self.columns(at), self.load(powers + first * item, PANEL))
                # Adding zero: no zero has a sign.
                value = times(value, spread) + value.like(0.0)
                below = (row - first).first(PANEL)
                value = below.select(nothing, value)
                place = target + row * self.word(ROW_STEP) + first * self.number_bytes
                self.set_columns(value, place, (columns - first).first(PANEL))


class Sign(TallCode):
    """SIGN: what Q is multiplied by, or was, in rows of whole panels."""

    def write(self) -> None:
        item = self.item
        top, step, signs = self.word(TOP), self.word(TOP_STEP), self.word(SIGNS)
        panels = (self.word(COLUMNS) + (PANEL - 1)) // PANEL
        with self.loop(self.word(ROWS)) as row, self.loop(panels) as panel:
            at = top + row * step + panel * self.row_bytes
            value = times(self.columns(at), self.real_number(signs + row * item, PANEL))
            # Adding zero: no zero has a sign.
            self.set_columns(value + value.like(0.0), at)
