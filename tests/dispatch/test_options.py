"""`seqpar.options`: the one overlay."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung
from seqpar.algorithms.linear_recurrence import sequential
from seqpar.dispatch.options import requested
from seqpar.dispatch.problem import Kernel, Problem
from seqpar.dispatch.registry import Backend, add_backend, remove_backend
from seqpar.errors import NotEligibleError, OptionError
from seqpar.linear_recurrence_operation import BACKWARD

X = np.full((2, 6, 3), 0.5)


class Toy(Kernel):
    """A kernel that says when it ran, and does not promise equal bits."""

    backend = "toy"
    method = "sequential"
    form = "arrays"
    deterministic = False

    def __init__(self, place: float, ran: list[str]) -> None:
        self.place, self.ran = place, ran

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None

    def rank(self, problem: Problem) -> float:
        return self.place

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        self.ran.append(self.operation)
        return self.compute(xp, spec, operands)

    def compute(self, xp: Any, spec: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        raise NotImplementedError


class ToyWalk(Toy):
    operation = "linear_recurrence"

    def compute(self, xp: Any, spec: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        return sequential(xp, spec, *operands)


class ToyBackward(Toy):
    operation = "linear_recurrence_backward"

    def compute(self, xp: Any, spec: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        return BACKWARD.by_rules(xp, spec, operands)


@contextmanager
def toys(rank: float) -> Iterator[list[str]]:
    """The operations whose toy kernels have run so far, while there is a backend of them."""
    ran: list[str] = []
    kernels = (ToyWalk(rank, ran), ToyBackward(rank, ran))
    add_backend(Backend(name="toy", version="1.0", kernels=lambda: kernels))
    try:
        yield ran
    finally:
        remove_backend("toy")


def runs(**options: object) -> str:
    return seqpar.explain(seqpar.linear_recurrence, X, X, **options).choice.kernel.label


def test_a_block_fixes_the_choice_and_leaves_no_trace() -> None:
    before = runs()
    with seqpar.options(backend="reference", method="tree"):
        assert runs() == "reference.tree"
    assert runs() == before


def test_arguments_win_over_the_block_and_inner_blocks_over_outer_ones() -> None:
    with seqpar.options(backend="reference", method="tree"):
        assert runs(method="chunked") == "reference.chunked"
        with seqpar.options(method="sequential"):
            assert runs() == "reference.sequential"
        assert runs() == "reference.tree"


def test_the_overlay_is_gone_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), seqpar.options(method="tree"):
        raise ZeroDivisionError
    assert requested("auto", None, None).method == "auto"


def test_other_threads_do_not_see_it() -> None:
    seen: list[str] = []
    with seqpar.options(backend="reference", method="tree"):
        thread = threading.Thread(target=lambda: seen.append(runs()))
        thread.start()
        thread.join()
    assert seen == [runs()]


def test_provenance_says_where_the_wish_came_from() -> None:
    assert seqpar.explain(seqpar.linear_recurrence, X, X, method="tree").provenance == "explicit"
    with seqpar.options(method="tree"):
        assert seqpar.explain(seqpar.linear_recurrence, X, X).provenance == "overlay"


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_a_pullback_uses_the_options_of_its_forward_pass(framework: str) -> None:
    rung = Rung(framework)
    if not rung.available():
        pytest.skip(f"{framework} is not installed")
    x, g = rung.array(X), rung.array(np.ones_like(X))
    with toys(rank=200.0) as ran:
        _, plain_pullback = seqpar.vjp(seqpar.linear_recurrence, x, x)
        with seqpar.options(backend="toy"):
            _, toy_pullback = seqpar.vjp(seqpar.linear_recurrence, x, x)
            assert ran == ["linear_recurrence"]
            plain_pullback(g)
        assert ran == ["linear_recurrence"]
        toy_pullback(g)
        assert ran == ["linear_recurrence", "linear_recurrence_backward"]


def test_numerics_must_be_one_of_two() -> None:
    with pytest.raises(OptionError, match="numerics='fast' is not one of"), seqpar.options(numerics="fast"):  # type: ignore[arg-type]
        pass


def test_deterministic_numerics_pass_over_a_kernel_that_is_not() -> None:
    with toys(rank=1.0) as ran:
        assert runs() == "toy.sequential"
        with seqpar.options(numerics="deterministic"):
            assert runs() == "host.sequential"
            _, pullback = seqpar.vjp(seqpar.linear_recurrence, X, X)
            with pytest.raises(NotEligibleError, match=r"toy\.sequential: .* is not bitwise repeatable"):
                runs(backend="toy")
        pullback(X)
        assert ran == []


def test_a_config_of_another_method_is_refused_by_name() -> None:
    config = seqpar.explain(seqpar.linear_recurrence, X, X, method="tree").config
    with pytest.raises(NotEligibleError, match=r"config=Leaves\(leaf=8\) was asked for"):
        seqpar.linear_recurrence(X, X, config=config, method="chunked", backend="reference")
    assert np.allclose(seqpar.linear_recurrence(X, X, config=config), seqpar.linear_recurrence(X, X))
