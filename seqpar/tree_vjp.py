"""`seqpar.vjp` of functions of trees, in frameworks that have reverse mode: through that, leaf by leaf.

Functions among the arguments, and leaves that are not of a floating dtype, have no derivative: None stands in their places.
"""

from collections.abc import Callable, Sequence
from typing import Any

from seqpar import trees
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, OptionError
from seqpar.validation import COMPLEX, REAL


def vjp_of_trees(
    binding: Binding,
    function: Callable[..., Any],
    primals: Sequence[Any],
    options: dict[str, Any],
    rule: Callable[..., Any] | None = None,
) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The result, and the function that pulls a tree of cotangents like it back to trees like the primals.

    `rule(function, primals, options)` gives both where the framework has no reverse mode.
    """

    def continuous(x: Any) -> bool:
        return hasattr(x, "dtype") and binding.dtype_name(x.dtype) in (*REAL, *COMPLEX)

    leaves, structure = trees.flatten([None if callable(x) else x for x in primals])
    places = [i for i, x in enumerate(leaves) if continuous(x)]
    if not places:
        raise OptionError(
            "vjp: no argument is of a floating dtype, so nothing would get a gradient. Cast one."
        )
    outline: list[Any] = []

    def of_leaves(*moved: Array) -> list[Array]:
        given = list(leaves)
        for i, x in zip(places, moved, strict=True):
            given[i] = x
        arguments = [p if callable(p) else x for p, x in zip(primals, structure.tree_of(given), strict=True)]
        results, of_result = trees.flatten(function(*arguments, **options))
        differentiable = [continuous(y) for y in results]
        outline[:] = of_result, differentiable
        return [y for y, wanted in zip(results, differentiable, strict=True) if wanted]

    own = binding.vjp(of_leaves, [leaves[i] for i in places], {})
    if own is None and rule is not None:
        found: tuple[Any, Callable[[Any], tuple[Any, ...]]] = rule(function, primals, options)
        return found
    if own is None:
        raise OptionError(
            f"vjp: {binding.framework} has no derivatives of its own, and those of {function.__name__} go through the function "
            "that it is given. Give arrays of PyTorch or JAX."
        )
    results, transpose = own
    of_result, differentiable = outline
    # Leaves without a derivative do not come out of reverse mode.
    result = of_result.tree_of(results) if all(differentiable) else function(*primals, **options)

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        try:
            parts = of_result.leaves_of(cotangent)
        except trees.StructureError as error:
            raise ArrayTypeError(
                f"vjp: cotangent is not a tree like the result: {error} at cotangent{error.path}. Give an array for each of the "
                "result's, or None for a zero."
            ) from None
        wanted = [g for g, yes in zip(parts, differentiable, strict=True) if yes]
        zeros = binding.namespace(results[0]).zeros_like
        found = transpose([zeros(y) if g is None else g for g, y in zip(wanted, results, strict=True)])
        grads: list[Any] = [None] * len(leaves)
        for i, grad in zip(places, found, strict=True):
            grads[i] = grad
        return tuple(structure.tree_of(grads))

    return result, pullback
