"""`seqpar.options`: the one overlay."""

import threading

import numpy as np
import pytest

import seqpar
from seqpar.dispatch.options import requested
from seqpar.errors import NotEligibleError, OptionError

X = np.full((2, 6, 3), 0.5)


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


def test_a_pullback_uses_the_options_of_its_forward_pass() -> None:
    with seqpar.options(backend="reference"):
        h, pullback = seqpar.vjp(seqpar.linear_recurrence, X, X)
        inside = pullback(np.ones_like(h))
    outside = pullback(np.ones_like(h))
    assert all(np.array_equal(x, y) for x, y in zip(inside, outside, strict=True))


def test_numerics_must_be_one_of_two() -> None:
    with pytest.raises(OptionError, match="numerics='fast' is not one of"), seqpar.options(numerics="fast"):  # type: ignore[arg-type]
        pass
    with seqpar.options(numerics="deterministic"):
        assert runs() == "host.sequential"


def test_a_config_of_another_method_is_refused_by_name() -> None:
    config = seqpar.explain(seqpar.linear_recurrence, X, X, method="tree").config
    with pytest.raises(NotEligibleError, match=r"config=Leaves\(leaf=8\) was asked for"):
        seqpar.linear_recurrence(X, X, config=config, method="chunked", backend="reference")
    assert np.allclose(seqpar.linear_recurrence(X, X, config=config), seqpar.linear_recurrence(X, X))
