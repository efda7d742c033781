"""Numbers in three digits that are never rounded in our favour: what is better the larger it is, ours down and others' up."""

import decimal


def down(value: float, digits: int = 3) -> str:
    """A positive number to so many digits, and never more than it is."""
    return _rounded(value, digits, decimal.ROUND_FLOOR)


def up(value: float, digits: int = 3) -> str:
    """A positive number to so many digits, and never less than it is."""
    return _rounded(value, digits, decimal.ROUND_CEILING)


def _rounded(value: float, digits: int, how: str) -> str:
    # As it is written in the record: 0.29 is 0.29, whatever the binary number beside it is.
    exact = decimal.Decimal(repr(float(value)))
    step = decimal.Decimal(1).scaleb(min(exact.adjusted() - digits + 1, 0))
    return f"{exact.quantize(step, rounding=how):f}"
