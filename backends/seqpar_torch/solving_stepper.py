"""A step function written in PyTorch, as the solvers of `solve_recurrence` and their gradients call it."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import torch

from seqpar.solving.recurrence import Leaves, Step
from seqpar.trees import LEAF
from seqpar_torch.internals import forward_mode, load_forward_rules, run_backward
from seqpar_torch.threads import for_tile

Tensor = torch.Tensor


class TorchStepper:
    """The step and its derivatives by the state, none of which leaves a graph behind."""

    differentiable = True
    compiled = False
    independent = False
    """A product of matrices rounds a row by where it stands among the others."""

    def __init__(self, step: Step, params: Leaves) -> None:
        self.step = step
        self.params = params
        self._tree = _single if step.inputs == LEAF else step.inputs.tree_of

    def evaluate(self, h: Tensor, x: Leaves) -> Tensor:
        with torch.no_grad():
            result: Tensor = self.step(self.params, h, x)
        return result

    def walk(
        self, start: Tensor, steps: int, x: Leaves, resets: Tensor | None, h0: Tensor, keep: bool = True
    ) -> tuple[Tensor | None, Tensor]:
        function, tree, params = self.step.function, self._tree, self.step.params.tree_of(self.params)
        h = start.clone()
        with torch.no_grad(), for_tile(start):
            states = torch.empty((steps, *h.shape), dtype=h.dtype, device=h.device) if keep else None
            for place, mask, values in zip(
                _unbound(states, steps), _unbound(resets, steps), _unbound_leaves(x, steps), strict=True
            ):
                if mask is not None:
                    h = torch.where(mask, h0, h)
                h = function(params, h, tree(values))
                if place is not None:
                    place.copy_(h)
        return states, h.clone()  # a step may hand on its argument, and ends are written into

    def jvp(self, h: Tensor, x: Leaves, tangent: Tensor) -> Tensor:
        load_forward_rules()
        try:
            with torch.no_grad(), forward_mode(True):
                return torch.func.jvp(lambda h: self.step(self.params, h, x), (h,), (tangent,))[1]  # type: ignore[no-any-return]
        except (NotImplementedError, RuntimeError) as error:
            if not _lacks_a_rule(error):
                raise
            return (self._by_rows(h, x) @ tangent[..., None])[..., 0]

    def jacobian(self, h: Tensor, x: Leaves) -> Tensor:
        basis = torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)

        def column(direction: Tensor) -> Tensor:
            tangent = direction.expand_as(h)
            return torch.func.jvp(lambda h: self.step(self.params, h, x), (h,), (tangent,))[1]  # type: ignore[no-any-return]

        load_forward_rules()
        try:
            with torch.no_grad(), forward_mode(True):
                # out_dims=-1 makes room for terabytes where a column does not depend on its direction (PyTorch 2.13).
                return torch.func.vmap(column)(basis).movedim(0, -1)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            if not _lacks_a_rule(error):
                raise
            return self._by_rows(h, x)

    def _by_rows(self, h: Tensor, x: Leaves) -> Tensor:
        """The Jacobian by reverse mode, a row of it at a time."""
        with torch.enable_grad():
            h = h.detach().requires_grad_()
            result = self.step(self.params, h, x)
        if not result.requires_grad:
            return h.new_zeros((*h.shape, h.shape[-1]))
        rows = []
        for i in range(h.shape[-1]):
            weight = torch.zeros_like(result)
            weight[..., i] = 1
            (row,) = torch.autograd.grad(result, h, weight, retain_graph=True, allow_unused=True)
            rows.append(torch.zeros_like(h) if row is None else row)
        # Gradients are conjugated transposes in PyTorch.
        return torch.stack(rows, -2).conj().resolve_conj()


class TorchAdjointStepper:
    """The transposed derivatives of a step. Each step is computed again, with a graph that lives as long as it is needed."""

    compiled = False
    independent = False

    def __init__(
        self,
        step: Step,
        params: Leaves,
        captured: Sequence[Tensor],
        wanted: tuple[Sequence[bool], Sequence[bool], Sequence[bool]],
    ) -> None:
        self.step = step
        self.params = [p.detach() if isinstance(p, Tensor) else p for p in params]
        self.captured = captured
        """Tensors that the step closes over, where it finds them itself."""
        self.of_params, self.of_inputs, self.of_captured = wanted
        self._tree = _single if step.inputs == LEAF else step.inputs.tree_of

    def adjoint_walk(
        self, entering: Tensor, x: Leaves, resets: Tensor | None, gradient: Tensor, carry: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        function, tree, params = self.step.function, self._tree, self.step.params.tree_of(self.params)
        adjoint = torch.empty_like(gradient)
        h0 = None if resets is None else torch.zeros_like(carry)
        zero = torch.zeros_like(carry)
        steps = entering.shape[0]
        each = zip(
            _unbound(entering, steps),
            _unbound(gradient, steps),
            _unbound(adjoint, steps),
            _unbound(resets, steps),
            _unbound_leaves(x, steps),
            strict=True,
        )
        # One context for the whole walk: a switch costs as much as an operation. What is computed beside the step has no graph
        # because nothing in it asks for one.
        with torch.enable_grad(), for_tile(carry):
            for h, g, found, mask, values in each:
                h = h.detach().requires_grad_()
                result = function(params, h, tree(values))
                torch.add(g, carry, out=found)
                # torch.autograd.grad checks its arguments for 35 of its 70 microseconds.
                if result.requires_grad:
                    found_carry = run_backward((result,), (found,), False, False, (h,), True, False)[0]
                    carry = zero if found_carry is None else found_carry
                else:
                    carry = zero
                if mask is not None and h0 is not None:
                    h0 = h0 + torch.where(mask, carry, zero)
                    carry = torch.where(mask, zero, carry)
        return adjoint, carry.clone(), h0

    def pull_back(
        self, entering: Tensor, x: Leaves, adjoint: Tensor
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        params, inputs = list(self.params), list(x)
        with torch.enable_grad():
            for leaves, wanted in ((params, self.of_params), (inputs, self.of_inputs)):
                for i, needed in enumerate(wanted):
                    if needed:
                        leaves[i] = leaves[i].detach().requires_grad_()
            result = self.step(params, entering, inputs)
        groups = ((params, self.of_params), (self.captured, self.of_captured), (inputs, self.of_inputs))
        targets = [x for leaves, wanted in groups for x, needed in zip(leaves, wanted, strict=True) if needed]
        found: list[Tensor | None] = [None] * len(targets)
        if targets and result.requires_grad:
            # Kept, because what a step closes over may have a graph of its own, which the user goes through afterwards.
            found = list(
                torch.autograd.grad(
                    result, targets, adjoint, allow_unused=True, retain_graph=bool(self.captured)
                )
            )
        each = iter(found)
        spread = [[next(each) if needed else None for needed in wanted] for _, wanted in groups]
        return [_wide(x) for x in spread[0] + spread[1]], spread[2]


RULES = ("functorch", "vmap", "atching rule", "jvp", "forward AD", "orward mode", "orward-mode", "storage")
"""Words of PyTorch's messages about an operation or Function without a forward or a batching rule, or one that reads memory."""


def _lacks_a_rule(error: Exception) -> bool:
    """Is it forward mode or vmap that fails, so that reverse mode may do? Not where memory is short, or the step is wrong."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    compiler = type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
    return isinstance(error, NotImplementedError) or compiler or any(word in str(error) for word in RULES)


BLOCK = 256
"""Steps taken out of a tile at once: one by one each costs as much as a small operation, and all of them fill the memory."""


def _unbound(tile: Any, steps: int) -> Iterator[Any]:
    """The steps of a tile, or None for each where there is none."""
    if tile is None:
        yield from repeat(None, steps)
        return
    for start in range(0, steps, BLOCK):
        yield from tile[start : start + BLOCK].unbind(0)


def _unbound_leaves(x: Leaves, steps: int) -> Iterator[Sequence[Any]]:
    """The leaves of x at each step."""
    yield from zip(*(_unbound(leaf, steps) for leaf in x), strict=True) if x else repeat((), steps)


def _single(leaves: Sequence[Any]) -> Any:
    return leaves[0]


def _wide(gradient: Tensor | None) -> Tensor | None:
    """Half precision is summed over blocks of steps in float32."""
    if gradient is not None and gradient.dtype in (torch.bfloat16, torch.float16):
        return gradient.float()
    return gradient
