"""`seqpar.lstsq` under what JAX and PyTorch do to functions: mapped, compiled, traced without a gradient; and its copies."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.errors import ArrayTypeError
from tall.minimum import exact, numbers

A, B = numbers((6, 3)), numbers((6,), seed=1)


def test_jax_compiles_and_maps() -> None:
    jax = pytest.importorskip("jax")
    a, b, ridges = numbers((3, 8, 3)), numbers((3, 8), seed=1), np.asarray([0.0, 0.5, 1.0])
    want = [exact(x, y, ridge=r)[0] for x, y, r in zip(a, b, ridges, strict=True)]
    found = jax.jit(jax.vmap(lambda x, y, r: seqpar.lstsq(x, y, ridge=r)))(a, b, ridges)
    assert type(found) is seqpar.LstsqResult and np.allclose(found.x, want)
    # Under jit values are not known: a traced ridge of -1 makes NaN and no error.
    x, y = map(jax.numpy.asarray, (a[0], b[0]))
    assert np.isnan(jax.jit(lambda r: seqpar.lstsq(x, y, ridge=r).x)(-1.0)).all()
    with pytest.raises(ArrayTypeError, match="method_name.*not known.*outside"):
        jax.jit(lambda x: seqpar.lstsq(x, x[:, 0]).method_name)(a[0])


def test_another_ridge_is_no_other_program_in_jax(caplog: pytest.LogCaptureFixture) -> None:
    jax = pytest.importorskip("jax")
    a, b = jax.numpy.asarray(A), jax.numpy.asarray(B)
    seqpar.lstsq(a, b, ridge=0.25)
    with jax.log_compiles(True):
        found = seqpar.lstsq(a, b, ridge=0.75)
        assert not [r for r in caplog.records if "ompil" in r.message]
        seqpar.lstsq(a, b, ridge=0.75, rtol=0.0)
        assert [r for r in caplog.records if "ompil" in r.message]
    assert np.allclose(found.x, exact(A, B, ridge=0.75)[0])


def test_torch_maps_and_compiles_it_whole() -> None:
    torch = pytest.importorskip("torch")
    a, b = numbers((3, 8, 3)), numbers((3, 8), seed=1)
    want = [exact(x, y, ridge=0.5)[0] for x, y in zip(a, b, strict=True)]
    ta, tb = torch.asarray(a), torch.asarray(b)
    assert np.allclose(torch.vmap(lambda x, y: seqpar.lstsq(x, y, ridge=0.5).x)(ta, tb), want)

    def fit(x: Any, y: Any) -> Any:
        return tuple(seqpar.lstsq(x, y, ridge=0.5, intercept=True))[:5]

    found = torch.compile(fit, fullgraph=True, backend="aot_eager")(ta[0], tb[0])
    assert np.allclose(found[0], exact(a[0], b[0], ridge=0.5, intercept=True)[0])
    assert all(torch.allclose(x, y) for x, y in zip(found, fit(ta[0], tb[0]), strict=True))


def test_torch_needs_no_gradient_to_solve_but_gives_one() -> None:
    torch = pytest.importorskip("torch")
    a, b = torch.asarray(A, dtype=torch.float64).requires_grad_(), torch.asarray(B)
    with torch.no_grad():
        assert not seqpar.lstsq(a, b).x.requires_grad
    found = seqpar.lstsq(a, b)
    assert found.x.requires_grad and not found.rank.requires_grad
    assert np.allclose(found.x.detach(), exact(A, B)[0])


def test_results_can_be_pickled_and_copied() -> None:
    found = seqpar.lstsq(numbers((9, 3)), numbers((9,)))
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert type(again) is seqpar.LstsqResult and again.method_name == found.method_name
        assert all(np.array_equal(x, y) for x, y in zip(again, found, strict=True))
