"""Is an answer right? Every element is held against the recurrence itself, and a few sequences against float64.

The sequences are walked in float64 on the host, by the library's own walk over host memory, which is first held against a
NumPy loop. Their bounds come from the same walk over absolute values, as in `seqpar_bench.answers`.
"""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

import seqpar
from seqpar_bench import matrix_peers, peers
from seqpar_bench.answers import ROUNDINGS, WrongAnswerError
from seqpar_bench.gpu.cases import Case
from seqpar_bench.gpu.frameworks import Frame

Array = Any
COMPARED = 6
LOOPED = 1000
"""Steps over which the yardstick is compared with a NumPy loop."""
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-52}


class Inputs(NamedTuple):
    a: Array
    b: Array
    g: Array
    """The cotangent of the states."""


def inputs(case: Case, maker: Frame) -> Inputs:
    """Random numbers in which every step matters for a while and nothing grows."""

    def unit(seed: int, shape: tuple[int, ...]) -> Array:
        if case.dtype != "complex64":
            return maker.random(seed, shape, case.dtype)
        return maker.random(seed, shape, "float32") + 1j * maker.random(seed + 10, shape, "float32")

    u = unit(1, case.shape_of_a)
    if case.matrices:
        a = (u - 0.5) * (3.2 / case.shape[-1])
    elif case.dtype == "complex64":
        a = (u - (0.5 + 0.5j)) * 1.4
    else:
        a = 0.8 + 0.2 * u
    centre = 0.5 + 0.5j if case.dtype == "complex64" else 0.5
    b, g = (2 * (unit(seed, case.shape) - centre) for seed in (2, 3))
    # Arithmetic with numbers keeps these dtypes in all frameworks, save for half precision in some.
    return Inputs(a, b, g)


class Yardstick:
    """The right answers to one set of inputs, on a few of its sequences."""

    def __init__(self, case: Case, maker: Frame, given: Inputs) -> None:
        self.case = case
        self.maker = maker
        self.given = given
        others = [n for i, n in enumerate(case.shape[: 1 if case.matrices else None]) if i != case.axis]
        rng = np.random.default_rng(0)
        self.picked = [tuple(n - 1 for n in others), tuple(0 for _ in others)]
        self.picked += [tuple(int(rng.integers(n)) for n in others) for _ in range(COMPARED - 2)]
        self.eps = 2.0**-23 if case.dtype != "float64" else EPS["float64"]
        """Of the state."""
        self.rounded = EPS[case.dtype] if case.dtype in ("float16", "bfloat16") else 0.0
        """What storing a result in half precision costs besides."""
        self.half_precision = 2 * self.rounded / self.eps / ROUNDINGS
        """How many times its bound the error may be of what carries its state in half precision."""

    # --- forward ------------------------------------------------------------------------------------------------------------

    def forward(self, h: Array, slack: float = 1.0) -> float:
        """The largest error as a share of its bound."""
        h = self.maker.take(h)
        self._obeys_the_recurrence(h)
        exact, error, _ = self.states
        return _share(self._sequences(h), exact, error + self.rounded * np.abs(exact), slack)

    @cached_property
    def states(self) -> tuple[Array, Array, Array]:
        """States, bounds on their error in the state's precision, and the walk over absolute values."""
        a, b = self._sequences(self.given.a), self._sequences(self.given.b)
        h = self._walk(a, b)
        loop = matrix_peers.numpy_loop if self.case.matrices else peers.numpy_loop
        part = loop(a[:, :LOOPED], b[:, :LOOPED])
        np.testing.assert_allclose(h[:, :LOOPED], part, rtol=1e-9, atol=1e-12, err_msg="the yardstick")
        sizes = self._walk(np.abs(a), np.abs(b))
        return h, self._walk(np.abs(a), ROUNDINGS * self.eps * sizes), sizes

    def _obeys_the_recurrence(self, h: Array) -> None:
        """h[t] - a[t] h[t-1] - b[t] is a rounding error, everywhere."""
        case, a, b = self.case, self.given.a, self.given.b
        for i in range(case.shape[0]):
            before, after = [
                (slice(None),) * (case.axis - 1) + (part,) for part in (slice(0, -1), slice(1, None))
            ]
            hi, ai, bi = h[i], a[i], b[i]
            moved = (
                (ai[after] * hi[before][..., None, :]).sum(-1) if case.matrices else ai[after] * hi[before]
            )
            largest = float(abs(hi).max())
            rest = float(abs(hi[after] - moved - bi[after]).max()) if case.steps > 1 else 0.0
            allowed = (4 * self.rounded or 256 * self.eps) * max(largest, 1.0)
            if not rest <= allowed:  # NaN is not
                raise WrongAnswerError(
                    f"batch {i}: h[t] - a[t] h[t-1] - b[t] reaches {rest:.3g}, allowed {allowed:.3g}"
                )

    # --- backward -----------------------------------------------------------------------------------------------------------

    def backward(self, da: Array, db: Array, slack: float = 1.0, logarithmic: bool = False) -> float:
        """The same of the gradients of a, or of its logarithm, and b."""
        exact, bounds = self.gradients
        shares = []
        for which, x in enumerate((da, db)):
            factor = self._sequences(self.given.a) if logarithmic and which == 0 else 1.0
            own = self._sequences(self.maker.take(x))
            shares.append(_share(own, exact[which] * factor, bounds[which] * np.abs(factor), slack))
        return max(shares)

    @cached_property
    def gradients(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """(da, db) and their bounds."""
        case = self.case
        a, g = self._sequences(self.given.a), self._sequences(self.given.g)
        h, error_h, sizes_h = self.states
        ahead = np.zeros_like(a)  # the coefficients of the walk back: those of the step ahead
        ahead[:, :-1] = np.swapaxes(a[:, 1:], -1, -2) if case.matrices else a[:, 1:]
        lam = self._walk(ahead, g, reverse=True)
        sizes = self._walk(np.abs(ahead), np.abs(g), reverse=True)
        error = self._walk(np.abs(ahead), ROUNDINGS * self.eps * sizes, reverse=True)
        behind, error_behind, sizes_behind = (_shifted(x) for x in (h, error_h, sizes_h))
        error_behind = error_behind + self.rounded * np.abs(behind)  # it is read as it was stored

        def product(x: Array, y: Array) -> Array:
            return x[..., :, None] * y[..., None, :] if case.matrices else x * y

        da = product(lam, behind)
        bound = product(error, sizes_behind) + product(
            sizes, error_behind + ROUNDINGS * self.eps * sizes_behind
        )
        return (da, lam), (
            bound + self.rounded * np.abs(da),
            error + ROUNDINGS * self.eps * sizes + self.rounded * np.abs(lam),
        )

    # --- sequences ----------------------------------------------------------------------------------------------------------

    def _sequences(self, x: Array) -> Array:
        """The compared ones in float64: (sequence, time, 1), or (sequence, time, n) and (sequence, time, n, n)."""
        axis = self.case.axis
        rows = [self.maker.numpy(x[(*at[:axis], slice(None), *at[axis:])]) for at in self.picked]
        found = np.stack(rows)
        return found if self.case.matrices else found[..., None]

    def _walk(self, a: Array, b: Array, reverse: bool = False) -> Array:
        function: Any = seqpar.matrix_recurrence if self.case.matrices else seqpar.linear_recurrence
        return function(a, b, axis=1, reverse=reverse, backend="host", method="sequential")


def _shifted(x: Array) -> Array:
    """The step before; zeros before the first."""
    out = np.zeros_like(x)
    out[:, 1:] = x[:, :-1]
    return out


def _share(found: Array, exact: Array, bound: Array, slack: float) -> float:
    bound = bound + np.finfo(np.float32).smallest_normal
    share = float(np.max(np.abs(found - exact) / bound))
    if not share <= slack:  # NaN is not
        raise WrongAnswerError(f"the largest error is {share:.3g} times what rounding can explain")
    return share
