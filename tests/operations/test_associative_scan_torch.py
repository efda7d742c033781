"""Scans of PyTorch tensors: derivatives of every kind, memory, torch.compile."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import seqpar  # noqa: E402
from seqpar.errors import NotEligibleError, OptionError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

METHODS = ("sequential", "chunked", "tree")


def affine(left: Any, right: Any) -> Any:
    """h -> a h + b, first left and then right."""
    return right[0] * left[0], right[0] * left[1] + right[1]


def pair(*shape: int, dtype: Any = torch.float64, grad: bool = False) -> tuple[Any, Any]:
    rng = np.random.default_rng([*shape])
    a, b = rng.uniform(0.5, 1, shape), rng.normal(size=shape)
    return tuple(torch.tensor(x, dtype=dtype, requires_grad=grad) for x in (a, b))  # type: ignore[return-value]


def loop(a: Any, b: Any) -> Any:
    states = [b[0]]
    for t in range(1, len(a)):
        states.append(a[t] * states[-1] + b[t])
    return torch.stack(states)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_every_order_and_mode_are_the_functions(method: str) -> None:
    def scan(a: Any, b: Any) -> Any:
        return seqpar.associative_scan(affine, (a, b), method=method, reverse=True)

    for dtype in (torch.float64, torch.complex128):
        given = pair(6, 2, dtype=dtype, grad=True)
        assert torch.autograd.gradcheck(scan, given, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(scan, pair(5, 1, grad=True))


def test_transforms_of_functions_agree_with_the_loop() -> None:
    a, b = pair(9, 3)

    def loss(function: Any) -> Any:
        return lambda a, b: (function(a, b) ** 2).sum()

    mine, exact = loss(lambda a, b: seqpar.associative_scan(affine, (a, b))[1]), loss(loop)
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd, torch.func.hessian):
        torch.testing.assert_close(transform(mine)(a, b), transform(exact)(a, b))
    batched = [
        torch.func.vmap(torch.func.grad(f), in_dims=(0, None))(torch.stack([a, 2 * a]), b)
        for f in (mine, exact)
    ]
    torch.testing.assert_close(*batched)


@pytest.mark.parametrize("method", METHODS)
def test_memory_of_a_gradient_grows_with_the_number_of_steps(method: str) -> None:
    def saved(steps: int) -> int:
        storages: dict[int, int] = {}

        def keep(x: Any) -> Any:
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            kept.append(x)
            return x

        kept: list[Any] = []
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            seqpar.associative_scan(affine, pair(steps, grad=True), method=method)[1].sum()
        return sum(storages.values())

    assert saved(512) <= 512 * 8 * 16
    assert saved(1024) <= 2.1 * saved(512)


def test_vjp_pulls_trees_back() -> None:
    flags = torch.tensor([True, False, True, False])
    a, b = pair(4)
    elems = (flags, {"a": a, "b": b})

    def combine(left: Any, right: Any) -> Any:
        a, b = affine((left["a"], left["b"]), (right["a"], right["b"]))
        return {"a": a, "b": b}

    result, pull = seqpar.vjp(seqpar.associative_scan, seqpar.monoids.segmented(combine), elems)
    assert result[0].tolist() == [True, True, True, True]
    none, (of_flags, grads) = pull((None, {"a": None, "b": torch.ones(4, dtype=a.dtype)}))
    assert none is None
    assert of_flags is None
    # b[1] = a[1] b[0] + b[1], and again from the third step.
    torch.testing.assert_close(grads["a"], torch.stack([0 * a[0], b[0], 0 * a[0], b[2]]))
    torch.testing.assert_close(grads["b"], torch.stack([1 + a[1], 1 + 0 * a[0], 1 + a[3], 1 + 0 * a[0]]))
    with pytest.raises(seqpar.errors.ArrayTypeError, match="cotangent is not a tree like the result"):
        pull(a)
    with pytest.raises(OptionError, match="no argument is of a floating dtype"):
        seqpar.vjp(seqpar.associative_scan, torch.add, torch.arange(3))


# --- torch.compile --------------------------------------------------------------------------------------------------------


class Graphs:
    """A compiler that runs the graphs as they are, and counts them and their nodes."""

    def __init__(self) -> None:
        torch._dynamo.reset()
        self.nodes: list[int] = []

    def __call__(self, graph: Any, _: Any) -> Any:
        self.nodes.append(len(graph.graph.nodes))
        return graph.forward


@dataclasses.dataclass(frozen=True)
class Step:
    a: Any
    b: Any


def test_a_scan_compiles_into_one_graph_with_everything_around_it() -> None:
    def solve(a: Any, b: Any) -> Any:
        def combine(left: Step, right: Step) -> Step:
            return Step(*affine((left.a, left.b), (right.a, right.b)))

        steps = seqpar.associative_scan(
            combine, Step(2 * a, b), reverse=True, exclusive=True, init=Step(1.0, 2.0)
        )
        return steps.b.sum(0)

    graphs = Graphs()
    a, b = pair(23, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = torch.compile(solve, fullgraph=True, backend=graphs)(a, b)
    torch.testing.assert_close(result, solve(a, b))
    assert len(graphs.nodes) == 1


def test_the_graph_grows_with_the_logarithm_of_the_length() -> None:
    graphs = Graphs()
    for steps in (2**6, 2**9):
        scan = torch.compile(
            lambda a, b: seqpar.associative_scan(affine, (a, b)),
            fullgraph=True,
            dynamic=False,
            backend=graphs,
        )
        scan(*pair(steps))
        torch._dynamo.reset()
    short, long = graphs.nodes
    assert long <= 1.6 * short


def test_a_program_for_symbols_serves_many_lengths() -> None:
    graphs = Graphs()
    scan = torch.compile(
        lambda a, b: seqpar.associative_scan(affine, (a, b), reverse=True),
        fullgraph=True,
        dynamic=True,
        backend=graphs,
    )
    for steps in (24, 25, 27, 28, 31):
        given = pair(steps)
        torch.testing.assert_close(scan(*given), seqpar.associative_scan(affine, given, reverse=True))
    assert len(graphs.nodes) == 1


def test_compiled_gradients_agree_with_the_loop() -> None:
    torch._dynamo.reset()
    a, b = pair(12, grad=True)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(a: Any, b: Any) -> Any:
        return (seqpar.associative_scan(affine, (a, b))[1] ** 2).sum()

    mine = torch.autograd.grad(loss(a, b), (a, b))
    torch.testing.assert_close(mine, torch.autograd.grad((loop(a, b) ** 2).sum(), (a, b)))


def test_a_method_may_be_given_while_compiling_and_a_backend_may_not() -> None:
    a, b = pair(9)
    for method in METHODS:
        graphs = Graphs()
        scan = torch.compile(
            lambda a, b, method=method: seqpar.associative_scan(affine, (a, b), method=method),
            backend=graphs,
            fullgraph=True,
        )
        torch.testing.assert_close(scan(a, b), seqpar.associative_scan(affine, (a, b)))
    graphs = Graphs()
    with pytest.raises(NotEligibleError, match="backend='xla'"):
        torch.compile(lambda a, b: seqpar.associative_scan(affine, (a, b), backend="xla"), backend=graphs)(
            a, b
        )
