"""Everything of PyTorch that is not public and that the binding needs, under names that say what for.

Tried with PyTorch 2.13. A version that lacks one of these fails here, once, with one message.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from seqpar.errors import BackendError

Tensor = torch.Tensor

try:
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
    from torch._functorch.utils import enable_single_level_autograd_function

    transformed: Callable[[], bool] = torch._C._are_functorch_transforms_active
    """Is a transform of torch.func at work?"""

    dispatch_modes: Callable[[], int] = torch._C._len_torch_dispatch_stack
    """How many dispatch modes (fake tensors, tracing, the user's own) watch every operator?"""

    older_vmap: Callable[[], bool] = functools.partial(
        torch._C._dispatch_tls_is_dispatch_key_included, torch._C._dispatch_key_parse("VmapMode")
    )
    """Is the vmap at work that is older than torch.func and serves `is_grads_batched=True`?"""

    autocast: Callable[[], bool] = torch._C._is_any_autocast_enabled

    backward_pass: Callable[[], int] = torch._C._current_graph_task_id
    """Number of the backward pass that this thread works through; -1 where there is none."""

    innermost_transform: Callable[[], Any] = enable_single_level_autograd_function
    """A context in which an autograd Function connects to the innermost transform alone."""

    no_transforms: Callable[[], Any] = temporarily_clear_interpreter_stack
    """A context outside all transforms of torch.func."""

    forward_mode: Callable[[bool], Any] = forward_ad._set_fwd_grad_enabled
    """A context in which forward mode is on or off."""

    run_backward: Callable[..., tuple[Any, ...]] = torch.autograd.Variable._execution_engine.run_backward
    """What torch.autograd.grad comes down to: (results, gradients, keep graph, create graph, inputs, unreachable, False)."""

    below_autograd: Callable[[], Any] = torch._C._AutoDispatchBelowAutograd
    after_autograd: Any = torch._C._after_autograd_keyset

    _interpreters = torch._C._functorch.get_interpreter_stack
    _GRAD = torch._C._functorch.TransformType.Grad
    is_wrapped: Callable[[Any], bool] = torch._C._functorch.is_functorch_wrapped_tensor
    """Is it a tensor of a transform of torch.func?"""

    _fake_mode: Callable[[Any], Any] = torch._guards.detect_fake_mode
    _is_batched = torch._C._functorch.is_batchedtensor
    _unwrapped = torch._C._functorch.get_unwrapped
    _unwrap_if_dead = torch._C._functorch.unwrap_if_dead
    _own_dispatch = torch._C._disabled_torch_dispatch_impl
    _ = forward_ad._current_level
    _load_decompositions: Callable[[], None] = forward_ad._maybe_load_decompositions
except (AttributeError, ImportError) as error:  # pragma: no cover
    raise BackendError(
        f"seqpar: PyTorch {torch.__version__} has moved what the binding is built on ({error}). "
        "Install the version that this release of seqpar was tested with (constraints.txt: 2.13), or use NumPy arrays."
    ) from error


def dual_level() -> bool:
    """Are there dual numbers about, from `forward_ad.dual_level` or torch.func.jvp?"""
    return forward_ad._current_level >= 0


@functools.cache
def load_forward_rules() -> None:
    """Have PyTorch load what it loads at the first use of forward mode, without the warning about itself that it gives there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated", DeprecationWarning)
        _load_decompositions()


def only_reverse() -> bool:
    """Is every transform at work, if any, a reverse one?"""
    return all(one.key() == _GRAD for one in _interpreters() or ()) and not dual_level()


def alive(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The tensors, taken out of the wrappers of transforms that are over."""
    return [None if x is None else _unwrap_if_dead(x) for x in tensors]


def has_memory(x: Tensor) -> bool:
    """Is there strided memory behind the tensor that a kernel can be pointed at?"""
    return (
        type(x).__torch_dispatch__ is _own_dispatch
        and x.layout is torch.strided
        and not x.is_meta
        and not is_wrapped(x)
    )


def value_known(x: Tensor) -> bool:
    """Can Python code read what is in the tensor? Not in a fake one, nor in one that vmap has more of."""
    while is_wrapped(x):
        if _is_batched(x):
            return False
        x = _unwrapped(x)
    return has_memory(x)


def values_of(x: Tensor) -> Tensor | None:
    """The tensor in host memory below every transform, all that vmap has more of included; None where there is none."""
    while is_wrapped(x):
        x = _unwrapped(x)
    return x if has_memory(x) and x.device.type == "cpu" else None


def without_values(x: Tensor) -> bool:
    """Is it a shape alone, on the meta device or of a mode of fake tensors?"""
    while is_wrapped(x):
        x = _unwrapped(x)
    return x.is_meta or (dispatch_modes() > 0 and _fake_mode((x,)) is not None)
