"""Backends come through one door, and a broken one is an error only where it was asked for."""

import importlib.metadata
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.dispatch import registry
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.problem import Kernel, Launch, Layout, Problem
from seqpar.dispatch.registry import Backend
from seqpar.errors import BackendError, MissingExtraError

X = np.full((2, 6, 3), 0.5)


class Unbuildable(Kernel):
    operation = "linear_recurrence"
    backend = "unbuildable"
    method = "sequential"
    form = "buffers"
    summary = "never compiles"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None

    def rank(self, problem: Problem) -> float:
        return 1.0

    def bind(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> Launch:
        raise RuntimeError("no compiler here")


@pytest.fixture
def unbuildable() -> Iterator[None]:
    registry.add_backend(Backend(name="unbuildable", version="1", kernels=lambda: (Unbuildable(),)))
    yield
    registry.remove_backend("unbuildable")


def test_a_kernel_that_does_not_compile_falls_back_with_one_warning(unbuildable: None) -> None:
    with pytest.warns(
        RuntimeWarning, match=r"unbuildable\.sequential .* does not compile .*no compiler here"
    ) as caught:
        for _ in range(3):
            h = seqpar.linear_recurrence(X, X)
    assert len(caught) == 1
    assert np.array_equal(h, seqpar.linear_recurrence(X, X, backend="host"))


def test_a_kernel_that_does_not_compile_is_an_error_when_it_was_asked_for(unbuildable: None) -> None:
    with pytest.raises(BackendError, match="no compiler here"):
        seqpar.linear_recurrence(X, X, backend="unbuildable")
    with pytest.raises(BackendError, match="no compiler here"), seqpar.options(backend="unbuildable"):
        seqpar.linear_recurrence(X, X)


def installed(monkeypatch: pytest.MonkeyPatch, *entries: Any) -> None:
    registry._installed.cache_clear()
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)


@pytest.fixture
def fresh() -> Iterator[None]:
    yield
    registry._installed.cache_clear()
    invalidate()


def test_a_backend_of_another_version_is_refused_with_both_paths(
    monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    entry = SimpleNamespace(
        name="host",
        value="seqpar_host:backend",
        module="seqpar_host",
        dist=SimpleNamespace(name="seqpar"),
        load=lambda: lambda: Backend(name="host", version="0.0.1"),
    )
    installed(monkeypatch, entry)
    with pytest.raises(
        BackendError, match=rf"seqpar_host.* has version 0\.0\.1, seqpar in .* has {seqpar.__version__}"
    ):
        registry.backends()


def test_without_an_entry_point_one_warning_carries_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    installed(monkeypatch)
    with pytest.warns(UserWarning, match=r"no backend is installed.*pip install") as caught:
        for _ in range(2):
            assert set(registry.backends()) == set()
    assert len(caught) == 1


def test_a_missing_framework_is_one_line_with_its_extra(fresh: None) -> None:
    class Imaginary:
        __module__ = "imaginary.arrays"

    def binding() -> Any:
        raise ImportError("No module named 'imaginary'")

    registry.add_backend(
        Backend(name="imaginary", version="1", frameworks=("imaginary",), binding=binding, extra="torch")
    )
    try:
        with pytest.raises(MissingExtraError, match=r"pip install 'seqpar\[torch\]'"):
            binding_for(Imaginary)
    finally:
        registry.remove_backend("imaginary")


def test_kernels_of_a_framework_are_not_loaded_for_another() -> None:
    def kernels() -> Any:
        raise AssertionError("loaded for NumPy")

    registry.add_backend(Backend(name="other", version="1", frameworks=("other",), kernels=kernels))
    try:
        seqpar.linear_recurrence(X, X)
    finally:
        registry.remove_backend("other")
