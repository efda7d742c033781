"""The shipped suite on our own kernels, and on a toy backend as a third party would write it."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.dispatch import registry
from seqpar.dispatch.problem import Kernel, Problem
from seqpar.dispatch.registry import Backend
from seqpar.testing import BackendConformance


class ToyWalk(Kernel):
    """A loop over time in float64, for plain walks over NumPy arrays."""

    operation = "linear_recurrence"
    backend = "toy"
    method = "sequential"
    form = "arrays"
    summary = "a loop, as an example"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if problem.framework != "numpy":
            return "works on NumPy arrays"
        odd = [word for word in problem.options if word not in ("h0", "reverse", "broadcast")]
        return f"knows nothing of {', '.join(odd)}" if odd else None

    def rank(self, problem: Problem) -> float:
        return 50.0

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        a, b, h0, _ = operands
        shape = np.broadcast_shapes(a.shape, b.shape)
        state = np.float32 if b.dtype == np.float16 else b.dtype
        c, u = (np.moveaxis(np.broadcast_to(x, shape), spec.axis, 0).astype(state) for x in (a, b))
        h = np.empty(u.shape, state)
        k = np.zeros(u.shape[1:], state) if h0 is None else np.broadcast_to(h0, u.shape[1:]).copy()
        for t in range(len(u))[:: -1 if spec.reverse else 1]:
            h[t] = k = c[t] * k + u[t]
        return np.moveaxis(h, 0, spec.axis).astype(b.dtype), k


def toy_backend(walk: type[Kernel] = ToyWalk) -> Backend:
    return Backend(name="toy", version="1.0", kernels=lambda: (walk(),))


class TestHost(BackendConformance):
    backend = registry.backends()["host"]


class TestToy(BackendConformance):
    backend = toy_backend()


class Wrong(ToyWalk):
    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        h, final = super().run(xp, spec, config, operands)
        return h * (1 + 1e-4), final


class Forgetful(ToyWalk):
    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        return super().run(xp, spec, config, (*operands[:2], None, None))


@pytest.mark.parametrize("broken", [Wrong, Forgetful])
def test_the_suite_catches_a_broken_kernel(broken: type[Kernel]) -> None:
    class Suite(BackendConformance):
        backend = toy_backend(broken)

    registry.add_backend(Suite.backend)
    try:
        with pytest.raises(AssertionError, match=r"toy\.sequential h"):
            Suite().test_states_agree_with_the_definition((101, 2, 7), "float64", {"axis": 0, "h0": True})
    finally:
        registry.remove_backend("toy")


def test_a_backend_added_by_hand_takes_part_in_choices_until_it_is_removed() -> None:
    x = np.full((2, 5, 3), 0.5)
    registry.add_backend(toy_backend())
    try:
        assert seqpar.explain(seqpar.linear_recurrence, x, x, backend="toy").method == "sequential"
        assert seqpar.explain(seqpar.linear_recurrence, x, x).backend == "host"
        with pytest.raises(seqpar.errors.NotEligibleError, match="toy.sequential: knows nothing of convex"):
            seqpar.linear_recurrence(x, x, convex=True, backend="toy")
    finally:
        registry.remove_backend("toy")
    with pytest.raises(seqpar.errors.OptionError, match="backend='toy' is not one of"):
        seqpar.linear_recurrence(x, x, backend="toy")


def distribution(folder: Path, name: str, entry: str) -> None:
    """Make an installed distribution, as `pip` leaves it, whose one entry point is a backend."""
    info = folder / f"{name}_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[seqpar.backends]\n{name} = {entry}\n")


def run_with(path: list[Path], script: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, env=environment, cwd=path[0])


def test_a_backend_of_another_distribution_is_found_through_its_entry_point(tmp_path: Path) -> None:
    distribution(tmp_path, "toy", "test_conformance:toy_backend")
    script = """
        import numpy as np, seqpar
        x = np.full((2, 5, 3), 0.5)
        assert seqpar.explain(seqpar.linear_recurrence, x, x, backend="toy").choice.kernel.label == "toy.sequential"
        assert np.allclose(seqpar.linear_recurrence(x, x, backend="toy"), seqpar.linear_recurrence(x, x))
    """
    run_with([tmp_path, Path(__file__).parent], script)


def test_a_backend_that_does_not_load_is_one_warning_and_no_failure(tmp_path: Path) -> None:
    distribution(tmp_path, "bad", "no_such_module:backend")
    script = """
        import warnings, numpy as np, seqpar
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                seqpar.linear_recurrence(np.full(3, 0.5), np.ones(3))
        assert [w for w in caught if "'bad' (no_such_module:backend) does not load" in str(w.message)], caught
        assert len(caught) == 1, caught
    """
    run_with([tmp_path], script)
