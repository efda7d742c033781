"""Operations as opaque PyTorch operators: what torch.compile, torch.export, fake tensors and subclasses see.

`seqpar::<operation>(operands..., spec, method, backend, config, numerics)`: everything static travels as strings. The
problem, the choice, its memo and the overlay of `seqpar.options` are looked at when the operator runs, so one compiled
graph serves every length.
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from array_api_compat import torch as xp

from seqpar.dispatch import registry
from seqpar.dispatch.choice import for_backward
from seqpar.dispatch.operation import Abstract, Operation, operations
from seqpar.dispatch.options import NO_WISH, Request, requested
from seqpar.errors import NotEligibleError
from seqpar_torch.autograd import apply_once
from seqpar_torch.call import Call
from seqpar_torch.internals import after_autograd, below_autograd, dual_level, forward_mode, transformed
from seqpar_torch.memory import DTYPES, NAMES, separate

if TYPE_CHECKING:
    from seqpar_torch.binding import TorchBinding

Tensor = torch.Tensor

_library: Any = torch.library.Library("seqpar", "FRAGMENT")  # type: ignore[no-untyped-call]
_operators: dict[str, Any] = {}
_bindings: list["TorchBinding"] = []


def attach(binding: "TorchBinding") -> None:
    """Give the operators the binding whose kernels they run, and define one for every operation known so far."""
    _bindings.append(binding)
    for name in list(operations):
        _defined(name)


def call(
    operation: Operation, spec: Any, operands: Sequence[Tensor | None], request: Request
) -> tuple[Tensor, ...]:
    """Call the operator of an operation; torch.compile reads this function."""
    operator = _operators[_defined(operation.name)]
    text = operation.encode(spec)
    results = operator(
        *operands, text, request.method, request.backend, _encoded(request.config), request.numerics
    )
    return results if len(operation.results) > 1 else (results,)


def _defined(name: str) -> str:
    """The name, once there is an operator for it."""
    if name not in _operators:
        _operators[name] = _define(operations[name])
    return name


def _encoded(config: Any) -> str | None:
    """A config as text, readable by `_decoded` in any process (compiled graphs may be cached on disk)."""
    if config is None:
        return None
    return json.dumps([type(config).__name__, dataclasses.asdict(config)])


# torch.compile evaluates functions with this mark while tracing; only constants may come out of them.
_defined._dynamo_marked_constant = True  # type: ignore[attr-defined]
_encoded._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _decoded(operation: str, text: str) -> Any:
    name, fields = json.loads(text)
    for kernel in registry.kernels(operation, "torch"):
        if kernel.config.__name__ == name:
            return kernel.config(**fields)
    raise NotEligibleError(
        f"{operation}: config={name} belongs to no kernel of this operation. Give one of those."
    )


class _Opaque(Call):
    """A call that a compiler watches: everything it leads to is an operator again."""

    traced = True

    def __init__(
        self, operator: Any, keyset: Any, operation: Operation, text: str, wish: tuple[Any, ...]
    ) -> None:
        self.operator = operator
        self.keyset = keyset
        self.operation = operation
        self.text = text
        self.spec = operation.decode(text)
        self.wish = wish

    def compute(self, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        keys = self.keyset & after_autograd
        # A Function runs its forward with both modes off; the transforms further out need them on.
        outer = transformed()
        with (
            torch.set_grad_enabled(outer),
            forward_mode(outer),
            below_autograd(),
        ):
            return _unpacked(self.operator.redispatch(keys, *operands, self.text, *self.wish))

    def solve(self, spec: Any, *operands: Tensor | None) -> tuple[Tensor, ...]:
        return _unpacked(self.operator(*operands, self.operation.encode(spec), *self.wish))

    def fused(self, operation: Operation, spec: Any, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        # What was asked for explicitly; the overlay is laid over when the operator runs, as in the forward pass.
        method, backend, _, numerics = self.wish
        request = for_backward(Request(method, backend, None, numerics), operation.name, "torch")
        return call(operation, spec, operands, request)


def _watched(operands: Sequence[Tensor | None]) -> bool:
    """Does autograd, forward mode or a function transform look at the operands?"""
    if transformed() or dual_level():
        return True
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in operands)


def _define(operation: Operation) -> Any:
    """Define operator, shapes, reverse rule and batching rule of an operation."""
    count = len(operation.operands)
    takes = ", ".join(f"Tensor? {name}" for name in operation.operands)
    gives = ", ".join(f"Tensor {name}" for name in operation.results)
    static = "str spec, str method, str? backend, str? config, str numerics"
    _library.define(f"{operation.name}({takes}, {static}) -> ({gives})")
    full_name = f"seqpar::{operation.name}"
    operator = getattr(torch.ops.seqpar, operation.name).default

    def compute(*arguments: Any) -> Any:
        operands, (text, *wish) = arguments[:count], arguments[count:]
        request = _request(operation.name, *wish)
        spec = operation.decode(text)
        results = _bindings[0].on_memory(operation, spec, operands, request)
        return _packed(separate(results, [x for x in operands if x is not None]))

    def shapes(*arguments: Any) -> Any:
        operands, text = arguments[:count], arguments[count]
        metas = [None if x is None else Abstract(tuple(x.shape), NAMES[x.dtype]) for x in operands]
        device = next(x for x in operands if x is not None).device
        results = operation.abstract(operation.decode(text), metas)
        return _packed(tuple(torch.empty(r.shape, dtype=DTYPES[r.dtype], device=device) for r in results))

    def derivatives(keyset: Any, *arguments: Any) -> Any:
        operands, (text, *wish) = arguments[:count], arguments[count:]
        if not _watched(operands):
            with below_autograd():
                return operator.redispatch(keyset & after_autograd, *arguments)
        return _packed(apply_once(_Opaque(operator, keyset, operation, text, tuple(wish)), operands))

    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        operands, (text, *wish) = arguments[:count], arguments[count:]
        spec, batched = operation.batch(xp, operation.decode(text), operands, in_dims[:count])
        results = operator(*batched, operation.encode(spec), *wish)
        return results, (0,) * len(operation.results) if len(operation.results) > 1 else 0

    _library.impl(operation.name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(full_name, shapes, lib=_library)
    if any(operation.differentiable):
        # An Autograd kernel of our own: PyTorch's register_autograd drops tangents in silence and refuses torch.func.
        _library.impl(operation.name, derivatives, "Autograd", with_keyset=True)
        torch.library.register_vmap(full_name, vmap, lib=_library)
    return operator


def _request(operation: str, method: str, backend: str | None, config: str | None, numerics: str) -> Request:
    """The wish that was compiled in, laid over the options in force now."""
    if not operations[operation].wished_for:
        return NO_WISH
    request = requested(method, backend, None if config is None else _decoded(operation, config))
    return request if numerics == "any" else request._replace(numerics="deterministic")


def _packed(results: tuple[Tensor, ...]) -> Any:
    return results if len(results) > 1 else results[0]


def _unpacked(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)
