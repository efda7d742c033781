"""The options of a call of `solve_recurrence`, as far as they can be checked without its arrays."""

from __future__ import annotations

import math
import numbers
from typing import Any

from seqpar.dispatch.options import Request, check_wish, requested
from seqpar.dispatch.registry import check_backend
from seqpar.errors import OptionError, unknown_name
from seqpar.solving.configs import check_config
from seqpar.solving.wish import METHODS
from seqpar.validation import flag

NAME = "solve_recurrence"


def asked(
    *,
    method: Any,
    jacobian: Any,
    tol: Any,
    max_sweeps: Any,
    guess: Any,
    throw: Any,
    backend: Any,
    config: Any,
    own: bool = False,
    **_: Any,
) -> Request:
    """The wish of a call, laid over the options in force; raises where something in it is wrong.

    `own`: config is one of a kernel's, for which the kernel answers.
    """
    check_wish(NAME, method, backend, config)
    flag(NAME, "throw", throw)
    request = requested(method, backend, config)
    if request.method not in ("auto", *METHODS):
        error = unknown_name(NAME, "method", request.method, ("auto", *METHODS))
        if method == "auto":
            error.add_note(
                "The method comes from a block of seqpar.options; give method= to this call, or leave the block."
            )
        raise error
    if not own:
        check_config(request.method, request.config)
    check_backend(NAME, request.backend)
    _check_numbers(tol, max_sweeps)
    check_jacobian(jacobian)
    if method != "auto" and request.method == "sequential" and guess is not None:
        raise OptionError(
            f'{NAME}: guess= with method="sequential", which guesses nothing. Leave one of them out.'
        )
    return request


def _check_numbers(tol: Any, max_sweeps: Any) -> None:
    if tol is not None and (
        isinstance(tol, bool) or not isinstance(tol, numbers.Real) or not 0 <= float(tol) < math.inf
    ):
        raise OptionError(
            f"{NAME}: tol={tol!r} is not a tolerance. Give a number of 0 or more, as a Python float."
        )
    if max_sweeps is not None and (
        isinstance(max_sweeps, bool) or not hasattr(max_sweeps, "__index__") or max_sweeps < 1
    ):
        raise OptionError(f"{NAME}: max_sweeps={max_sweeps!r} is not a number of sweeps. Give 1 or more.")


def check_jacobian(jacobian: Any) -> None:
    """Raise unless this is a pattern of a Jacobian, or a function that computes it."""
    if callable(jacobian) or jacobian in ("auto", "dense", "diagonal", "none"):
        return
    if isinstance(jacobian, tuple) and len(jacobian) == 2 and jacobian[0] == "block":
        if isinstance(jacobian[1], int) and not isinstance(jacobian[1], bool) and jacobian[1] >= 1:
            return
        raise OptionError(f"{NAME}: jacobian={jacobian!r}: blocks are of a whole number of 1 or more.")
    raise unknown_name(NAME, "jacobian", jacobian, ("auto", "dense", "diagonal", "none", "('block', 2)"))
