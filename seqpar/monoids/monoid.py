"""An associative function that knows its identity, and what such functions need of arrays."""

import functools
from collections.abc import Callable
from typing import Any

import array_api_compat

from seqpar.dispatch.frameworks import binding_for

Array = Any
Element = Any
"""An array, or a tuple, list or named tuple of arrays, as the monoid has it."""


class Monoid:
    """A function ``combine(left, right)`` that knows its identity, the element that changes nothing: ``identity(elems)``.

    That is a tree like `elems`, of numbers or of arrays that have the last axes of its arrays, those behind time. A scan asks
    for it where ``exclusive=True`` comes without `init`.

    >>> import numpy as np, seqpar
    >>> longest = seqpar.monoids.Monoid(np.maximum, lambda elems: 0)
    >>> seqpar.associative_scan(longest, np.array([2, 1, 3]), exclusive=True)
    array([0, 2, 2])
    """

    def __init__(
        self, function: Callable[[Any, Any], Any], identity: Callable[[Any], Any], name: str | None = None
    ) -> None:
        self.function = function
        self.identity = identity
        functools.update_wrapper(self, function)
        self.name = name or str(getattr(function, "__name__", type(function).__name__))

    def __call__(self, left: Any, right: Any) -> Any:
        return self.function(left, right)

    def __repr__(self) -> str:
        return f"seqpar.monoids.{self.name}"


def identity_of(combine: Callable[[Any, Any], Any], elems: Any) -> Any:
    """The identity of a monoid, or what a ufunc of NumPy has in the same place; None if it is not known."""
    identity = getattr(combine, "identity", None)
    return identity(elems) if callable(identity) else identity


def monoid(identity: Callable[[Any], Any]) -> Callable[[Callable[[Any, Any], Any]], Monoid]:
    """Decorator: the function as a `Monoid`."""
    return lambda function: Monoid(function, identity)


def namespace(x: Array) -> Any:
    """The array API namespace of an array; by the same way as dispatch, which torch.compile can follow."""
    return binding_for(type(x)).namespace(x)


def framework(x: Array) -> str:
    return binding_for(type(x)).framework


def device_of(x: Array) -> Any:
    """The device to make constants on that meet x; None leaves it to JAX, whose traced arrays have none."""
    match framework(x):
        case "torch":
            return x.device
        case "jax":
            return None
    return array_api_compat.device(x)


def alike(element: Element, *parts: Array) -> Element:
    """Parts in a container like that of an element: tuple, list or named tuple."""
    if hasattr(element, "_fields"):
        return type(element)(*parts)
    return list(parts) if isinstance(element, list) else parts
