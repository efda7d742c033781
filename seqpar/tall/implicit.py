"""Q that is applied without being formed."""

from __future__ import annotations

from typing import Any, NamedTuple

from seqpar.dispatch.problem import Array
from seqpar.errors import NotEligibleError


class ImplicitQ(NamedTuple):
    """What `qr(a, mode="implicit")` returns."""

    R: Array


def implicit(a: Array, method: str, backend: str | None, config: Any) -> tuple[ImplicitQ, Array]:
    raise NotEligibleError("qr: mode='implicit' is not there yet. Give mode='reduced'.")
