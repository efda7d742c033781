"""Points, knobs and spaces: what may be tried, what lies where, and what is tried first."""

import doctest
import importlib
import random

import pytest

from seqpar.errors import OptionError
from seqpar_autotune.budget import Budget, rigor_of
from seqpar_autotune.space import Branch, Knob, Point, Space

CHUNK = Knob("chunk", (16, 32, 64, 128, 256))
SPACE = Space(
    (Branch("walk", deterministic=False), Branch("chunked", (CHUNK, Knob("order", ("rows", "columns"), ordered=False)))),
    Point("walk"),
    lambda point: point.config.get("chunk", 0) < 256,
)  # fmt: skip


@pytest.mark.parametrize("name", ["space", "paired", "search"])
def test_docstring_examples_run(name: str) -> None:
    failed, attempted = doctest.testmod(importlib.import_module(f"seqpar_autotune.{name}"))
    assert failed == 0 and attempted > 0


def test_points_are_all_eligible_combinations_once() -> None:
    points = list(SPACE.points())
    assert len(points) == len(set(points)) == 1 + 4 * 2
    assert SPACE.size == 1 + 5 * 2


def test_a_listing_stops_where_there_are_too_many() -> None:
    assert SPACE.at_most(9, among=100) == list(SPACE.points())
    assert SPACE.at_most(8, among=100) is None
    assert SPACE.at_most(100, among=10) is None


def test_a_point_is_kept_by_json_and_named_the_same_whatever_the_order_of_its_knobs() -> None:
    point = Point.of("chunked", chunk=32, order="rows")
    assert Point.from_dict(point.to_dict()) == point
    assert Point.of("chunked", order="rows", chunk=32).key == point.key


def test_indices_find_a_point_again_and_say_none_of_one_between_the_values() -> None:
    for point in SPACE.points():
        indices = SPACE.indices(point)
        assert indices is not None and SPACE.branch(point.branch).point(indices) == point
    assert SPACE.indices(Point.of("chunked", chunk=48, order="rows")) is None
    assert SPACE.indices(Point.of("chunked", chunk=32)) is None
    assert SPACE.indices(Point("tree")) is None


def test_a_method_starts_where_it_says_or_else_near_the_middle() -> None:
    assert SPACE.start(SPACE.branch("chunked")) == Point.of("chunked", chunk=64, order="rows")
    told = Branch("chunked", (CHUNK,), start={"chunk": 128})
    assert Space((told,), Point.of("chunked", chunk=16)).start(told) == Point.of("chunked", chunk=128)
    refused = Space((told,), Point.of("chunked", chunk=16), lambda point: point.config["chunk"] < 64)
    assert refused.start(told) == Point.of("chunked", chunk=32)


def test_the_start_of_a_method_with_a_million_combinations_is_found_without_listing_them() -> None:
    knobs = tuple(Knob(f"k{i}", tuple(range(10))) for i in range(6))
    large = Space((Branch("only", knobs),), Point.of("only", **{f"k{i}": 0 for i in range(6)}))
    start = large.start(large.branches[0])
    assert start is not None and set(start.config.values()) <= {4, 5}


def test_draws_reach_every_combination() -> None:
    generator = random.Random(0)
    assert {SPACE.draw(generator) for _ in range(500)} >= set(SPACE.points())


def test_the_deterministic_part_needs_a_deterministic_default() -> None:
    with pytest.raises(OptionError, match="default=walk gives other bits in every run"):
        SPACE.deterministic()
    other = Space(SPACE.branches, Point.of("chunked", chunk=16, order="rows"))
    assert [branch.name for branch in other.deterministic().branches] == ["chunked"]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: Knob("chunk", ()), "'chunk' has values=()"),
        (lambda: Knob("chunk", (1, 1)), "Give at least one, and each once"),
        (lambda: Space((Branch("walk"), Branch("walk")), Point("walk")), "one name twice"),
        (lambda: Space((Branch("walk"),), Point("tree")), "default=tree is of none of the branches"),
        (lambda: Budget(evaluations=0), "evaluations=0 tries nothing"),
        (lambda: Budget(seconds=float("nan")), "seconds=nan is no time"),
        (lambda: Budget(seconds=float("inf")), "seconds=inf is no time"),
        (lambda: rigor_of("quik"), "Did you mean 'quick'"),
    ],
)
def test_what_makes_no_sense_is_named(wrong, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        wrong()
    assert message in str(caught.value)
