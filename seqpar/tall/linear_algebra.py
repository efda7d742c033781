"""The linear algebra of the framework that an array belongs to."""

from __future__ import annotations

from seqpar.algorithms.linear_algebra import LinearAlgebra
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array


def linear_algebra(x: Array) -> LinearAlgebra:
    """That of the framework of x."""
    return binding_for(type(x)).linear_algebra(binding_for(type(x)).namespace(x))
