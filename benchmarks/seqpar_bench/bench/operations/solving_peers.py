"""Everybody else who solves h[t] = step(params, h[t-1], x[t]): loops of each framework, and in JAX Newton's method over all time.

Functions take the operands of the problem: x, h0 (n,) and the parameters one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from seqpar_bench import solving_peers as written
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.problem import Call, Contestant, WrongAnswerError

if TYPE_CHECKING:
    from seqpar_bench.bench.operations.solving import Solving

Array = Any

LONGEST = 1 << 15
"""Steps up to which the dense Jacobians of all time are made at once."""
NO_GRADIENTS = "its iterations are a loop of unknown length, which JAX does not take gradients of"
ONE = "is written for one sequence"
SINGLE = "stops at the tolerance that was published for float32"


def peers(problem: Solving, frame: Frame) -> Iterator[Contestant]:
    """Those in one framework, the own way first."""
    gradient = problem.which == "gradient"
    if frame.name in ("numpy", "cupy"):
        none = f"{frame.title} has no gradients of its own" if gradient else ""
        walk = partial(_walked, problem, _array_loop)
        make = partial(problem.posed, frame, walk)
        name = f"{frame.title} loop"
        yield Contestant(name=name, kind="own", make=make, longest=1 << 18, left_out=none)
    if frame.name == "torch":
        walk = partial(_walked, problem, written.torch_loop)
        make = partial(problem.posed, frame, walk)
        yield Contestant(name="torch loop", kind="own", make=make, longest=1 << 15)
        if problem.step == "elman":
            yield Contestant(
                name="torch.nn.RNN",
                make=partial(_module, problem, frame),
                read=_of_module if gradient else tuple,
                longest=1 << 18,
            )
    if frame.name == "jax":
        walk = partial(_walked, problem, written.jax_scan)
        yield Contestant(name="jax.lax.scan", kind="own", make=partial(problem.posed, frame, walk))
        newtons = (("DEER", written.deer, LONGEST), ("quasi-DEER", written.quasi_deer, 1 << 18))
        for name, method, longest in newtons[:1] if problem.sweep else newtons:
            why = NO_GRADIENTS if gradient else ONE if problem.shape[0] > 1 else ""
            yield Contestant(
                name=name,
                make=partial(problem.posed, frame, partial(_iterated, problem, method)),
                read=_converged,
                longest=longest,
                loose=True,
                left_out=why or (SINGLE if problem.dtype != "float32" else ""),
            )


def _walked(problem: Solving, loop: Callable[..., Array], x: Array, h0: Array, *leaves: Array) -> Array:
    step = problem.kind.function
    # As an array of as many sequences, by what all frameworks call the same.
    start = h0 + 0 * x[:, 0, :1]
    return loop(step, problem.params(leaves), x, start)


def _array_loop(step: Any, params: Any, x: Array, h0: Array) -> Array:
    """As `written.numpy_loop`, in the memory of whoever's arrays these are."""
    import importlib

    module = importlib.import_module(type(h0).__module__.partition(".")[0])
    states = module.empty((x.shape[0], x.shape[1], h0.shape[1]), h0.dtype)
    h = h0
    for t in range(x.shape[1]):
        h = states[:, t] = step(params, h, x[:, t])
    return states


def _iterated(
    problem: Solving, method: Callable[..., tuple[Array, Array]], x: Array, h0: Array, *leaves: Array
) -> tuple[Array, Array]:
    return method(problem.kind.function, problem.params(leaves), x, h0[None])


def _converged(results: tuple[Array, ...]) -> tuple[Array, ...]:
    """The states; the other result is the number of iterations, negative if the last one still moved them."""
    if int(results[1]) < 0:
        raise WrongAnswerError(f"not converged after {-int(results[1])} iterations")
    return results[:1]


def _module(problem: Solving, frame: Frame) -> Call:
    """torch.nn.RNN with the weights of the Elman network."""
    torch = frame.module
    # cuDNN would multiply in TF32.
    torch.backends.cudnn.allow_tf32 = False
    x, h0, *leaves = problem.arrays(frame)
    params = problem.params(leaves)
    module = torch.nn.RNN(
        x.shape[2], h0.shape[0], bias=False, batch_first=True, dtype=x.dtype, device=x.device
    )
    module.load_state_dict({"weight_ih_l0": params["w"].T, "weight_hh_l0": params["u"].T})

    def states(x: Array, h0: Array) -> Array:
        return module(x, h0.expand(1, x.shape[0], -1).contiguous())[0]

    if problem.which == "forward":
        return frame.forward(states, x, h0)
    x, h0 = (leaf.detach().clone().requires_grad_() for leaf in (x, h0))
    (g,) = frame.arrays(problem.cotangents)
    wanted = (x, h0, module.weight_hh_l0, module.weight_ih_l0)
    return lambda: tuple(torch.autograd.grad(states(x, h0), wanted, g))


def _of_module(results: tuple[Array, ...]) -> tuple[Array, ...]:
    """torch.nn keeps its weights transposed; u comes before w."""
    dx, dh0, du, dw = results
    return dx, dh0, du.T.contiguous(), dw.T.contiguous()
