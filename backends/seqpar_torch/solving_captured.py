"""Tensors that a step uses without being given them: the parameters of a module that it closes over, a weight made before.

A solver that differentiates the step by its arguments alone would leave them without gradients, and nobody would notice. So the
step is called once and the graph of its result searched for what it begins with.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from seqpar.errors import ArrayTypeError, SeqparError
from seqpar.solving.checks import check_step
from seqpar.solving.recurrence import Recurrence
from seqpar_torch.internals import is_wrapped, transformed

Tensor = torch.Tensor
Node = Any
NAME = "solve_recurrence"


def captured(recurrence: Recurrence) -> list[Tensor]:
    """Every tensor that needs a gradient and that the step gets hold of by itself."""
    # Copies: a step that writes into its arguments is refused later, when nothing has been lost yet.
    h = recurrence.h0[:1].detach().clone()
    x = [leaf[:1, 0].detach().clone() for leaf in recurrence.inputs]
    params = [p.detach() if isinstance(p, Tensor) else p for p in recurrence.params]

    def result() -> Tensor:
        with torch.enable_grad():
            found: Tensor = recurrence.step(params, h, x)
        return found

    try:
        return _found(result, [h, *x, *params])
    except SeqparError:
        raise
    except Exception:
        with torch.no_grad():
            check_step(recurrence, recurrence.stepper())  # has advice for the mistakes that it knows
        raise


def _found(result: Callable[[], Tensor], given: list[Any]) -> list[Tensor]:
    if transformed():
        return _under_transforms(result, given)
    first = result()
    if not isinstance(first, Tensor) or first.grad_fn is None:
        return []
    return _behind(first, result)


def _behind(first: Tensor, result: Callable[[], Tensor]) -> list[Tensor]:
    """The tensors with which the graph of the step begins."""
    second = result()
    # What two calls have in common was there before them: the graph behind a tensor that is not a leaf.
    before = _nodes(first.grad_fn) & _nodes(second.grad_fn)
    leaves: dict[int, Tensor] = {}
    outside: set[tuple[Node, int]] = set()
    seen: set[Node] = set()
    todo: list[tuple[Node, int]] = [(first.grad_fn, 0)]
    while todo:
        node, number = todo.pop()
        if _is_leaf(node):
            leaves[id(node.variable)] = node.variable
        elif node in before:
            outside.add((node, number))
        elif node not in seen:
            seen.add(node)
            todo += [(n, i) for n, i in node.next_functions if n is not None]
    if not outside:
        return list(leaves.values())
    with _Watch() as watch:
        result()
    for x in watch.tensors:
        if (x.grad_fn, x.output_nr) in outside:
            outside.discard((x.grad_fn, x.output_nr))
            leaves[id(x)] = x
    if outside:
        raise ArrayTypeError(
            f"{NAME}: step uses a tensor with a gradient history that it was not given and that cannot be found in it "
            f"({', '.join(sorted(node.name() for node, _ in outside))}). Give it in `params`, so that it gets its gradient."
        )
    return list(leaves.values())


def _under_transforms(result: Callable[[], Tensor], given: list[Any]) -> list[Tensor]:
    """The same inside torch.func, where graphs show nothing: tensors of a transform must be given."""
    known = {id(x) for x in given}
    with _Watch() as watch:
        result()
    found = [x for x in watch.tensors if id(x) not in known]
    if any(is_wrapped(x) for x in found):
        raise ArrayTypeError(
            f"{NAME}: step uses a tensor of a torch.func transform that it was not given. Give it in `params` "
            "(torch.func.functional_call(module, params, ...) for a module), so that the transform reaches it."
        )
    return [x for x in found if x.requires_grad]


def _nodes(root: Node) -> set[Node]:
    """All of a graph but its leaves."""
    seen: set[Node] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen and not _is_leaf(node):
            seen.add(node)
            todo += [n for n, _ in node.next_functions]
    return seen


def _is_leaf(node: Node) -> bool:
    return type(node).__name__ == "AccumulateGrad"


class _Watch(TorchFunctionMode):
    """Sees every tensor that goes into an operation and did not come out of one."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []
        self._known: dict[int, Tensor] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, Tensor) and id(x) not in self._known:
                self._known[id(x)] = x
                self.tensors.append(x)
        result = function(*args, **kwargs)
        for x in tree_leaves(result):
            if isinstance(x, Tensor):
                self._known.setdefault(id(x), x)
        return result
