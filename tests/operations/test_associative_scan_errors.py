"""Whatever can be wrong with a call of associative_scan is said before or where it happens, with the leaf by name."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, SeqparError, ShapeError

ELEMS = {"a": np.ones((6, 2)), "b": [np.ones((6, 3))]}


def fine(left: Any, right: Any) -> Any:
    return {"a": left["a"] * right["a"], "b": [left["b"][0] + right["b"][0]]}


def returning(a: Any = None, b: Any = None) -> Any:
    """A combine whose leaves are made by these functions."""

    def combine(left: Any, right: Any) -> Any:
        result = fine(left, right)
        return {
            "a": a(result["a"]) if a else result["a"],
            "b": [b(result["b"][0]) if b else result["b"][0]],
        }

    return combine


@dataclasses.dataclass
class Named:
    x: Any
    name: str = "no array"


CASES: dict[str, tuple[type[SeqparError], str, tuple[Any, ...], dict[str, Any]]] = {
    "arguments exchanged": (
        OptionError, "combine is dict, not a function. Give combine(left, right) first", (ELEMS, fine), {},
    ),
    "no leaf": (ArrayTypeError, "elems holds no array", (fine, {"a": None, "b": [()]}), {}),
    "a number": (ArrayTypeError, "elems['a']=1.0 is a number", (fine, {"a": 1.0}), {}),
    "a string": (ArrayTypeError, "elems.name: builtins.str is not an array", (fine, Named(np.ones(3))), {}),
    "a scalar array": (ArrayTypeError, "elems[1]=array(1.) is a number", (fine, [np.ones(3), np.asarray(1.0)]), {}),
    "axis out of range": (
        ShapeError, "axis=2 is out of range for elems['a'] of shape (6, 2). Give an axis from -2 to 1.",
        (fine, ELEMS), {"axis": 2},
    ),
    "axis out of range of one": (
        ShapeError, "axis=-2 is out of range for elems[1] of shape (3,)", (fine, (np.ones((3, 3)), np.ones(3))),
        {"axis": -2},
    ),
    "axis of no number": (OptionError, "axis=None is not an integer", (fine, ELEMS), {"axis": None}),
    "axis of a flag": (OptionError, "axis=True is not an integer", (fine, ELEMS), {"axis": True}),
    "lengths": (
        ShapeError, "elems['a'] has 6 steps along axis=0 and elems['b'][0] has 5. Give all arrays the same number of steps",
        (fine, {"a": np.ones(6), "b": [np.ones(5)]}), {},
    ),
    "flags": (OptionError, "reverse=1 is not a boolean", (fine, ELEMS), {"reverse": 1}),
    "nothing to exclude into": (
        OptionError, "exclusive=True leaves nothing for the first result. Give init", (fine, ELEMS), {"exclusive": True},
    ),
    "init of another structure": (
        ArrayTypeError, "init is not a tree like elems: a dict of 'a' where one of 'a', 'b' belongs at init.",
        (fine, ELEMS), {"init": {"a": 1}},
    ),
    "init of another structure below": (
        ArrayTypeError, "init is not a tree like elems: an int where a list belongs at init['b'].",
        (fine, ELEMS), {"init": {"a": 1, "b": 1}},
    ),
    "init that is missing a leaf": (ArrayTypeError, "init['a'] is None", (fine, ELEMS), {"init": {"a": None, "b": [0]}}),
    "init of another shape": (
        ShapeError, "init['b'][0].shape=(2,) does not broadcast to (3,), the shape of its leaf without the time axis",
        (fine, ELEMS), {"init": {"a": 1, "b": [np.ones(2)]}},
    ),
    "init with a time axis": (
        ShapeError, "init['b'][0].shape=(6, 3) does not broadcast to (3,)",
        (fine, ELEMS), {"init": {"a": 1, "b": [np.ones((6, 3))]}},
    ),
    "init of another dtype": (
        DtypeError, "init['a'].dtype=float32 is not that of its leaf, float64. Cast it first",
        (fine, ELEMS), {"init": {"a": np.ones(2, np.float32), "b": [0]}},
    ),
    "init of another kind": (
        DtypeError, "init=0.5 does not fit a leaf of dtype int64", (np.add, np.arange(3)), {"init": 0.5},
    ),
    "a result that is no tree": (
        ArrayTypeError, "combine returned a tuple where a dict belongs (at elems)", (lambda left, right: (1, 2), ELEMS), {},
    ),
    "a result of another structure": (
        ArrayTypeError, "combine returned a ndarray where a list belongs (at elems['b'])",
        (lambda left, right: {"a": left["a"], "b": left["b"][0]}, ELEMS), {},
    ),
    "no result": (
        ArrayTypeError, "combine returned None for elems, not an array", (lambda left, right: None, np.ones(3)), {},
    ),
    "a result of another shape": (
        ShapeError, "combine returned shape (2,) for elems['a'], where its operands have (1, 2). An element keeps its shape",
        (returning(a=lambda x: x[0]), ELEMS), {},
    ),
    "a result of another dtype": (
        DtypeError, "combine returned dtype float32 for elems['b'][0], where its operands have float64",
        (returning(b=lambda x: x.astype(np.float32)), ELEMS), {},
    ),
    "a result that is a number": (
        ArrayTypeError, "combine returned 3 for elems['b'][0], not an array", (returning(b=lambda x: 3), ELEMS), {},
    ),
    "a method that is none": (OptionError, "method='treee' is not one of", (fine, ELEMS), {"method": "treee"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_call_is_refused_by_name(name: str) -> None:
    kind, text, args, options = CASES[name]
    with pytest.raises(kind) as caught:
        seqpar.associative_scan(*args, **options)
    assert str(caught.value).startswith("associative_scan: ")
    assert text in str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_explain_refuses_what_is_wrong_before_anything_runs(name: str) -> None:
    kind, text, args, options = CASES[name]
    if "combine returned" in text:
        seqpar.explain(seqpar.associative_scan, *args, **options)
    else:
        with pytest.raises(kind):
            seqpar.explain(seqpar.associative_scan, *args, **options)


def test_a_leaf_without_axes_has_no_time() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ShapeError, match=r"for elems\[1\] of shape \(\). Give it an axis for time."):
        seqpar.associative_scan(fine, [torch.ones(3), torch.ones(())])


def test_leaves_of_two_frameworks_are_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ArrayTypeError, match=r"elems\['a'\] is a numpy array and elems\['b'\] a torch array"):
        seqpar.associative_scan(fine, {"a": np.ones(3), "b": torch.ones(3)})
    with pytest.raises(ArrayTypeError, match=r"init\['b'\] is a torch array and elems\['a'\] a numpy array"):
        seqpar.associative_scan(fine, {"a": np.ones(3), "b": np.ones(3)}, init={"a": 0, "b": torch.ones(())})


def test_a_combine_that_returns_another_framework_s_array_is_named() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(SeqparError, match="combine returned dtype torch.float64 for elems"):
        seqpar.associative_scan(lambda left, right: torch.ones(left.shape, dtype=torch.float64), np.ones(3))


def test_a_wrong_result_is_named_under_every_method_and_framework(rung: Any) -> None:
    for method in ("sequential", "chunked", "tree"):
        with pytest.raises(ShapeError, match=r"combine returned shape \(1, \d+, 2\) for elems\[1\]"):
            rung.call(
                lambda x, method=method: seqpar.associative_scan(
                    lambda left, right: (left[0], right[1][None, ...]), (x, x), method=method
                ),
                rung.array(np.ones((9, 2))),
            )


def test_vjp_needs_a_framework_with_derivatives() -> None:
    with pytest.raises(
        OptionError, match="numpy has no derivatives of its own, and those of associative_scan"
    ):
        seqpar.vjp(seqpar.associative_scan, np.add, np.ones(3))
