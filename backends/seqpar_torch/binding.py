"""PyTorch as seqpar sees it: facts, memory and creation of tensors, and the three ways an operation is called.

* Nothing to differentiate, nothing transformed: straight to the kernel (`execute`).
* Gradients, forward mode, `torch.func`: the autograd Function of `seqpar_torch.autograd`.
* `torch.compile`, `torch.export`, fake tensors and tensor subclasses: the operators of `seqpar_torch.operators`.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from array_api_compat import torch as xp

from seqpar.dispatch.choice import for_backward
from seqpar.dispatch.execute import execute
from seqpar.dispatch.line import gaps, parts
from seqpar.dispatch.operation import Operation
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Layout
from seqpar.dispatch.profile import HardwareProfile
from seqpar.errors import ArrayTypeError
from seqpar.solving.recurrence import Leaves, Recurrence, Solved, Step
from seqpar.solving.stepping import Stepper
from seqpar.solving.wish import Wish
from seqpar_torch import accelerator, operators, solution_tree
from seqpar_torch.autograd import apply
from seqpar_torch.call import Call
from seqpar_torch.internals import (
    autocast,
    backward_pass,
    dispatch_modes,
    dual_level,
    has_memory,
    older_vmap,
    transformed,
    value_known,
    values_of,
)
from seqpar_torch.linear_algebra import LINEAR_ALGEBRA, TorchLinearAlgebra
from seqpar_torch.memory import DTYPES, NAMES, empty, resolved
from seqpar_torch.reverse import pull_back
from seqpar_torch.solving_stepper import TorchStepper

if TYPE_CHECKING:
    from seqpar_torch.group import ProcessGroup

Tensor = torch.Tensor

PLAIN = frozenset((torch.Tensor, torch.nn.Parameter))
"""Types without behaviour of their own. Every other subclass goes through the dispatcher, which knows what it wants."""

_strided = torch.strided
_is_grad_enabled: Callable[[], bool] = torch.is_grad_enabled


class TorchBinding:
    """The binding of PyTorch tensors, on any device."""

    framework = "torch"

    def namespace(self, x: Tensor) -> Any:
        return xp

    def compiling(self) -> bool:
        return torch.compiler.is_compiling()

    def facts(self, x: Tensor | None) -> Any:
        if x is None:
            return None
        if x.layout is not _strided:
            raise _unsuitable(x)
        try:
            return x.shape, x.stride(), x.dtype, x.device
        except RuntimeError as error:
            raise _unsuitable(x) from error

    def dtype_name(self, dtype: torch.dtype) -> str:
        return NAMES[dtype]

    def device(self, x: Tensor) -> str:
        return x.device.type

    def device_of(self, x: Tensor) -> torch.device:
        return x.device

    def traced(self, x: Tensor) -> bool:
        return not has_memory(x)

    def deferred(self, x: Tensor) -> bool:
        return False

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        return x.to(DTYPES[dtype])

    def layout(self, x: Tensor) -> Layout | None:
        if not has_memory(x):
            return None
        size = x.element_size()
        return Layout(tuple(x.shape), tuple([size * stride for stride in x.stride()]), NAMES[x.dtype])

    def posed_on(self, device: str) -> tuple[bool, bool]:
        return True, False

    def readable(self, x: Tensor) -> Tensor:
        return x

    def address(self, x: Tensor) -> int:
        pointer = x.data_ptr()
        if pointer == 0 and x.numel():  # torch's symbolic zeros have a shape and no memory
            raise ArrayTypeError(
                "seqpar: a tensor that stands for zeros has no memory. Give x.clone(), which has."
            )
        return pointer

    def empty(self, shape: tuple[int, ...], dtype: str, like: Tensor) -> Tensor:
        return empty(shape, DTYPES[dtype], like.device)

    def full(self, number: complex, shape: tuple[int, ...], dtype: str, like: Tensor) -> Tensor:
        return torch.full(shape, number, dtype=DTYPES[dtype], device=like.device)

    def from_numpy(self, x: Any, like: Tensor) -> Tensor:
        return torch.from_numpy(x).to(like.device)

    def placed(
        self, x: Any, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], device: str
    ) -> Tensor:
        made = torch.empty_strided(shape, strides, dtype=DTYPES[dtype], device=device)
        made.as_strided(x.shape, strides).copy_(torch.from_numpy(x))
        return made

    def on_host(self, x: Tensor) -> Any:
        x = x.detach().cpu().resolve_conj().resolve_neg()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()

    def laid_out(
        self, pieces: Sequence[Tensor], starts: Sequence[int], size: int, value: Any, like: Tensor
    ) -> Tensor:
        # One concatenation: a copy for each piece would make a backward pass of as many passes over the whole.
        def blank(steps: int) -> Tensor:
            return like.new_full((steps, *like.shape[1:]), value)

        # 0.4 microseconds less than with an ellipsis, for each gap.
        return torch.cat(parts(pieces, starts, size, blank, lambda x, steps: x[:steps]))

    def cut_out(self, line: Tensor, starts: Sequence[int], lengths: Sequence[int]) -> list[Tensor]:
        # One split: each slice by itself would bring its own array of zeros as large as the line into the backward pass.
        sizes: list[int] = []
        for gap, steps in zip(gaps(lengths, starts, line.shape[0]), [*lengths, 0], strict=True):
            sizes += (gap, steps)
        return list(torch.split(line, sizes)[1:-1:2])

    def seed_words(self, seed: Tensor) -> Any:
        return seed.detach().cpu().numpy()

    def linear_algebra(self, xp: Any) -> TorchLinearAlgebra:
        return LINEAR_ALGEBRA

    def group(self, operation: str, named: Any) -> "ProcessGroup":
        from seqpar_torch.group import ProcessGroup  # most processes are alone

        return ProcessGroup(operation, named)

    def on_device(self, x: Tensor) -> Callable[[], AbstractContextManager[Any]] | None:
        return partial(torch.cuda.device, x.device) if x.device.type == "cuda" else None

    def threads(self) -> int:
        return torch.get_num_threads()

    def loading(self) -> tuple[int, int] | None:
        worker = torch.utils.data.get_worker_info()
        return None if worker is None else (worker.id, worker.num_workers)

    def finish(self, x: Tensor | None) -> None:
        accelerator.finish(x)

    def stopwatch(self, x: Tensor) -> accelerator.Events | None:
        return accelerator.Events(x.device) if x.device.type == "cuda" else None

    def device_memory(self, where: Any) -> accelerator.AcceleratorMemory | None:
        return accelerator.memory_of(where)

    def profile(self, device: str) -> HardwareProfile | None:
        return accelerator.profile(device)

    def is_out_of_memory(self, error: BaseException) -> bool:
        return accelerator.is_out_of_memory(error)

    def in_backward_pass(self) -> bool:
        return backward_pass() >= 0

    def direct(self, operands: Sequence[Tensor | None]) -> bool:
        """May a kernel read these tensors as they are, with nobody watching: no gradient, transform, mode or lazy conj?"""
        if transformed() or dispatch_modes() or older_vmap() or autocast() or dual_level():
            return False
        grad = _is_grad_enabled()
        for x in operands:
            if x is not None and (
                type(x) not in PLAIN or (grad and x.requires_grad) or x.is_conj() or x.is_neg()
            ):
                return False
        return True

    def call(
        self, operation: Operation, spec: Any, operands: Sequence[Tensor | None], request: Request
    ) -> tuple[Tensor, ...]:
        if torch.compiler.is_compiling():
            return operators.call(operation, spec, operands, request)
        if self.direct(operands):
            return execute(self, operation, spec, operands, request)
        return apply(_Eager(self, operation, spec, request), operands)

    def compute(
        self, operation: Operation, spec: Any, operands: Sequence[Tensor | None], request: Request
    ) -> tuple[Tensor, ...]:
        """The results without derivatives, for a caller that stands below autograd and every transform."""
        # The vmap behind is_grads_batched=True is older than torch.func; operators fall back to a loop under it.
        if dispatch_modes() or older_vmap() or any(x is not None and type(x) not in PLAIN for x in operands):
            return operators.call(operation, spec, operands, request)
        return self.on_memory(operation, spec, operands, request)

    def on_memory(
        self, operation: Operation, spec: Any, operands: Sequence[Tensor | None], request: Request
    ) -> tuple[Tensor, ...]:
        """The results for tensors that are what they seem: the last stretch before `execute`."""
        operands = [None if x is None else resolved(x) for x in operands]
        if not autocast():
            return execute(self, operation, spec, operands, request)
        kind = next(x for x in operands if x is not None).device.type
        with torch.autocast(kind, enabled=False):  # autocast never changes a dtype here
            return execute(self, operation, spec, operands, request)

    def vjp(
        self, function: Callable[..., Any], primals: Sequence[Any], options: dict[str, Any]
    ) -> tuple[Any, Callable[..., Any]] | None:
        return pull_back(function, primals, options)

    def tracing(self, x: Tensor) -> bool:
        return not value_known(x)

    def outside_compiler(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        from seqpar_torch.uncompiled import call

        return call(function, arguments)

    def stepper(self, step: Step, params: Leaves) -> Stepper:
        return TorchStepper(step, params)

    def solve(self, recurrence: Recurrence, wish: Wish) -> Solved:
        from seqpar_torch.solving import solve  # nothing of the solvers is loaded for other operations

        return solve(recurrence, wish)

    def beneath(self, x: Tensor) -> Tensor | None:
        return values_of(x)

    def as_one_program(
        self, function: Callable[..., Any], static: Any, key: Hashable, arrays: Sequence[Any]
    ) -> Any:
        return function(static, *arrays)

    def plan_by_shapes(self, recurrence: Recurrence, wish: Wish) -> None:
        return None


class _Eager(Call):
    """A call outside the compiler, with the request that its forward pass was made with."""

    __slots__ = ("binding", "operation", "request", "spec")
    traced = False

    def __init__(self, binding: TorchBinding, operation: Operation, spec: Any, request: Request) -> None:
        self.binding = binding
        self.operation = operation
        self.spec = spec
        self.request = request

    def compute(self, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        return self.binding.compute(self.operation, self.spec, operands, self.request)

    def solve(self, spec: Any, *operands: Tensor | None) -> tuple[Tensor, ...]:
        return self.binding.call(self.operation, spec, operands, self.request)

    def fused(self, operation: Operation, spec: Any, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        return self.binding.compute(
            operation, spec, operands, for_backward(self.request, operation.name, self.binding.framework)
        )


def _unsuitable(x: Tensor) -> ArrayTypeError:
    kind = "nested" if x.is_nested else str(x.layout).removeprefix("torch.")
    mend = "x.to_padded_tensor(0.0) with `resets`" if x.is_nested else "x.to_dense()"
    return ArrayTypeError(f"seqpar: a {kind} tensor has no strides. Give a dense tensor, for example {mend}.")


BINDING = TorchBinding()
operators.attach(BINDING)
solution_tree.register()
