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
from seqpar.dispatch.options import Request, requested
from seqpar.errors import NotEligibleError
from seqpar_torch.gradients import gradients
from seqpar_torch.memory import DTYPES, NAMES, separate

if TYPE_CHECKING:
    from seqpar_torch.binding import TorchBinding

Tensor = torch.Tensor

_library = torch.library.Library("seqpar", "FRAGMENT")
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
    results = operator(*operands, text, request.method, request.backend, _encoded(request.config), request.numerics)
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
    raise NotEligibleError(f"{operation}: config={name} belongs to no kernel of this operation. Give one of those.")


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

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.static = inputs[count:]
        output = output if isinstance(output, tuple) else (output,)
        ctx.save_for_backward(*inputs[:count], *output)

    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        saved, (text, *wish) = ctx.saved_tensors, ctx.static

        def solve(spec: Any, *operands: Tensor | None) -> tuple[Tensor, ...]:
            return _unpacked(operator(*operands, operation.encode(spec), *wish))

        def fused(other: Operation, spec: Any, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
            # What was asked for explicitly; the overlay is laid over when the operator runs, as in the forward pass.
            method, behind, config, numerics = wish
            request = for_backward(Request(method, behind, config, numerics), other.name, "torch")
            return call(other, spec, operands, request)

        grads = gradients(
            operation,
            operation.decode(text),
            saved[:count],
            saved[count:],
            cotangents,
            ctx.needs_input_grad[:count],
            solve,
            fused,
        )
        return *grads, *[None] * len(ctx.static)

    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        operands, (text, *wish) = arguments[:count], arguments[count:]
        spec, batched = operation.batch(xp, operation.decode(text), operands, in_dims[:count])
        results = operator(*batched, operation.encode(spec), *wish)
        return results, (0,) * len(operation.results) if len(operation.results) > 1 else 0

    _library.impl(operation.name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(full_name, shapes, lib=_library)
    if any(operation.differentiable):
        torch.library.register_autograd(full_name, backward, setup_context=setup_context, lib=_library)
        torch.library.register_vmap(full_name, vmap, lib=_library)
    return operator


def _request(operation: str, method: str, backend: str | None, config: str | None, numerics: str) -> Request:
    """The wish that was compiled in, laid over the options in force now."""
    request = requested(method, backend, None if config is None else _decoded(operation, config))
    return request if numerics == "any" else request._replace(numerics="deterministic")


def _packed(results: tuple[Tensor, ...]) -> Any:
    return results if len(results) > 1 else results[0]


def _unpacked(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)
