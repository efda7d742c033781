"""What ran for each matrix, as a number that fits in an array, and what can be said of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError
from seqpar.solving.bindings import solver_of

NATIVE, ONE_PASS, CHOLESKY, SHIFTED, RANDOMISED, TSQR = 1, 2, 3, 4, 5, 6
"""In the order in which one is resorted to after the other, so that the largest of several is what had to do most."""

NAMES = {
    TSQR: "tsqr",
    NATIVE: "native",
    ONE_PASS: "one-pass cholesky",
    CHOLESKY: "cholesky",
    SHIFTED: "shifted cholesky",
    RANDOMISED: "randomised cholesky",
}
"""By the number of a method."""

PASSES = {TSQR: 1, NATIVE: 1, ONE_PASS: 1, CHOLESKY: 2, SHIFTED: 3, RANDOMISED: 3}
"""How often the method that gave the answer goes over the rows to factorise them."""


def name_of(code: Any) -> Any:
    """The name of a code; of an array of codes, a list of names as deep as the array has axes."""
    if solver_of(binding_for(type(code))).tracing(code):
        raise ArrayTypeError(
            "method_name: the code of the method is not known yet while it is traced. Return `method` from the function that "
            "is traced, and ask for the name outside."
        )
    return _named(code.tolist() if hasattr(code, "tolist") else code)


def _named(code: Any) -> Any:
    if isinstance(code, list):
        return [_named(x) for x in code]
    if getattr(code, "ndim", 0):
        return [_named(code[i, ...]) for i in range(code.shape[0])]
    return NAMES[int(code)]


def passes(code: Array) -> Array:
    """`PASSES` of every code of an array."""
    xp = binding_for(type(code)).namespace(code)
    found = xp.zeros_like(code)
    for number, times in PASSES.items():
        found = xp.where(code == number, xp.full_like(code, times), found)
    return found


def certified(r: Array) -> Array:
    """Is the factorisation with this R factor one: is every number of R finite?"""
    xp = binding_for(type(r)).namespace(r)
    return xp.all(xp.isfinite(r), axis=(-2, -1))


class QRInfo(NamedTuple):
    """What `qr(..., return_info=True)` tells: one entry per matrix of the batch."""

    method: Any
    """A number; `method_name` has the words."""
    certified: Any
    """Is Q orthonormal and Q R the matrix, to rounding? By the certificate of Cholesky's methods, by construction of the
    others. False only where the matrix is not finite: what fails its certificate is done again."""
    passes: Any
    """How often the method that gave the answer went over the rows to factorise them."""
    condition: Any
    """Ratio of the largest to the smallest singular value, from R; beyond 512 columns that of R's diagonal, a lower bound."""

    @property
    def method_name(self) -> Any:
        """ "tsqr", "native", "cholesky", "one-pass", "shifted" or "randomised cholesky"; nested lists of them for a batch."""
        return name_of(self.method)
