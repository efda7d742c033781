"""Numbers as a reader of results wants them: three digits, and the unit that fits. Tables, pictures and the page share these."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """With three digits and the unit that fits."""
    value, unit = _of_unit(seconds)
    return f"{digits(value)} {unit}"


def tick(seconds: float) -> str:
    """The same beside an axis, where noughts behind the point say nothing: 10 us."""
    value, unit = _of_unit(seconds)
    return f"{value:,g} {unit}"


def digits(value: float) -> str:
    """Three that count, and no exponent where a reader can do without."""
    if not math.isfinite(value):
        return str(value)
    rounded = float(f"{value:.3g}")
    if rounded and not 1e-4 <= abs(rounded) < 1e7:
        return f"{value:.2e}"
    if abs(rounded) >= 100:
        return f"{rounded:,.0f}"
    return f"{rounded:#.3g}" if abs(rounded) >= 1 else f"{rounded:g}"


def ratio(value: float) -> str:
    """A speed-up."""
    return f"{digits(value)}x"


def share(value: float) -> str:
    """Of the limit: two digits will do."""
    return digits(value) if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def error(value: float) -> str:
    """A relative one, whose power of ten is what counts."""
    return f"{value:.1e}" if value else "0"


def _of_unit(seconds: float) -> tuple[float, str]:
    for factor, unit in ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms")):
        # Rounding comes first: 999.7 us is 1 ms.
        value = float(f"{seconds / factor:.3g}")
        if value < 1000:
            return value, unit
    return float(f"{seconds:.3g}"), "s"
