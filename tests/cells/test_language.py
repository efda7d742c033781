"""What a cell's function may do with symbols, and what it is told when it does something else."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from seqpar.cells import evaluation
from seqpar.cells.adjoint import adjoint
from seqpar.cells.cell import Cell, cell
from seqpar.cells.language import Declared, DefinitionError, matrix, relu, sigmoid, tanh, vector
from seqpar.cells.program import Program


def plain(function: Any, *parts: str, **more: Declared) -> Cell:
    """A cell with the parameters that most have."""
    declared = {"w": matrix("inputs", "hidden"), "u": matrix(), "b": vector(optional=True)} | more
    used = {name: how for name, how in declared.items() if how is not None}
    return cell(*parts, **used)(function)


def step(made: Cell, params: dict[str, Any], h: Any, x: Any) -> Any:
    return np.asarray(made(params, h, x))


def drawn(made: Cell, n: int = 3) -> tuple[Any, Any, Any]:
    params = made.init(0, 2, n, like=np.zeros(0))
    rng = np.random.default_rng(0)
    return params, rng.standard_normal((4, made.state_size(n))), rng.standard_normal((4, 2))


def test_all_arithmetic_with_numbers_and_values_is_that_of_arrays() -> None:
    def everything(p: Any, h: Any, x: Any) -> Any:
        a, s = p.w @ x + p.b, p.u @ h
        found = 2 * a - s * 3 + (1 - h) + (h - 1) - (-s) + (0.5 + a) * (s + np.float64(0.25))
        return found + p.v * h + (p.v - h) + (h - p.v) * -p.v + (2 - p.v) + np.float64(2) * h - relu(h - a)

    made = plain(everything, v=vector())
    params, h, x = drawn(made)
    a, s, v = x @ params["w"] + params["b"], h @ params["u"], params["v"]
    wanted = 2 * a - 3 * s + (1 - h) + (h - 1) + s + (0.5 + a) * (s + 0.25)
    wanted = wanted + v * h + (v - h) + (h - v) * -v + (2 - v) + 2 * h - np.maximum(h - a, 0)
    assert np.abs(step(made, params, h, x) - wanted).max() < 1e-14


@pytest.mark.parametrize(
    "kind", [np.float16, np.float32, np.float64, np.int8, np.uint8, Fraction, int, float]
)
def test_numbers_may_be_of_any_kind(kind: Any) -> None:
    number = kind(2)

    def with_numbers(p: Any, h: Any, x: Any) -> Any:
        return number * h - number + (number - (p.w @ x) * number) + (h - number) * (number + p.v)

    made = plain(with_numbers, u=None, b=None, v=vector())
    params, h, x = drawn(made)
    wanted = 2 * h - 2 + (2 - 2 * (x @ params["w"])) + (h - 2) * (2 + params["v"])
    assert np.abs(step(made, params, h, x) - wanted).max() < 1e-14
    assert all(type(node.number) is float for node in made.program.nodes)


BAD_NAMES = ["memory cells", "2nd", "a-b", "h'", "", 3]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_units_and_parameters_have_names_that_could_be_variables(name: Any) -> None:
    def recurrent(p: Any, h: Any, x: Any) -> Any:
        return tanh(p.w @ x)

    definitions = [
        lambda: matrix(name, "hidden"),
        lambda: matrix("inputs", name),
        lambda: vector(name),
        lambda: cell(name, w=matrix("inputs"))(recurrent),
        lambda: Cell("recurrent", recurrent, {"w": matrix("inputs"), name: matrix()}),
    ]
    for definition in definitions:
        with pytest.raises(DefinitionError, match="have names that could be variables") as caught:
            definition()
        assert repr(name) in str(caught.value)


def test_a_constant_that_the_definition_refuses_is_refused_without_assertions_too() -> None:
    """As `python -O` runs it."""
    program = "from seqpar import cells\ncells.elman.using(activation='sinh')"
    ran = subprocess.run([sys.executable, "-O", "-c", program], capture_output=True, text=True)
    assert "Did you mean 'tanh'" in ran.stderr


def test_products_added_up_are_one_sum_with_its_biases() -> None:
    made = plain(lambda p, h, x: tanh(p.b + p.w @ x + p.u @ h + p.c), c=vector(optional=True))
    (only,) = made.program.sums
    assert [p.name for p in only.products] == ["w", "u"]
    assert [b.name for b in only.biases] == ["b", "c"]
    params, h, x = drawn(made)
    wanted = np.tanh(params["b"] + x @ params["w"] + h @ params["u"] + params["c"])
    assert np.abs(step(made, params, h, x) - wanted).max() < 1e-15


def test_the_same_arithmetic_is_done_once() -> None:
    def twice(p: Any, h: Any, x: Any) -> Any:
        return tanh(p.w @ x + p.u @ h) * tanh(p.w @ x + p.u @ h)

    made = plain(twice, b=None)
    assert [node.op for node in made.program.nodes] == ["state", "sum", "tanh", "multiply"]


def test_what_the_result_does_not_depend_on_is_left_out() -> None:
    def wasteful(p: Any, h: Any, x: Any) -> Any:
        unused = sigmoid(p.u @ tanh(h) + p.b)
        assert unused is not None
        return tanh(p.w @ x + p.v @ h)

    declared = {"w": matrix("inputs"), "v": matrix()}
    lean = cell(**declared)(lambda p, h, x: tanh(p.w @ x + p.v @ h)).program

    def with_more(p: Any, h: Any, x: Any) -> Any:
        assert tanh(2 * h) is not None
        return tanh(p.w @ x + p.v @ h)

    assert cell(**declared)(with_more).program == lean
    with pytest.raises(DefinitionError, match="does not use u, or its result does not depend on it"):
        assert plain(wasteful, v=matrix()).program


def test_a_state_handed_on_as_it_is_has_a_reverse() -> None:
    """The second part remembers what the first was a step ago."""

    def delay(p: Any, state: Any, x: Any) -> Any:
        now, before = state
        return tanh(p.w @ x + p.u @ before), now

    made = plain(delay, "hidden", "hidden", b=None)
    params, h, x = drawn(made)
    g = np.random.default_rng(1).standard_normal(h.shape)
    after = step(made, params, h, x)
    assert np.array_equal(after[:, 3:], h[:, :3])
    back, _ = evaluation.pulled(np, made.program, params, h, x, g, made.sizes(params))
    wanted = np.swapaxes(made.jacobian(params, h, x), -1, -2) @ g[..., None]
    assert np.abs(back - wanted[..., 0]).max() < 1e-14
    assert isinstance(adjoint(made.program), Program)


def test_parts_that_act_on_each_other_unit_by_unit_are_blocks() -> None:
    def pairs(p: Any, state: Any, x: Any) -> Any:
        y, z = state
        z = z + 0.1 * (tanh(p.w @ x) - y)
        return y + 0.1 * z, z

    def apart(p: Any, state: Any, x: Any) -> Any:
        y, z = state
        return y + tanh(p.w @ x), z * sigmoid(p.w @ x)

    made = plain(pairs, "hidden", "hidden", u=None, b=None)
    assert made.structure == ("block", 2)
    params, h, x = drawn(made)
    jacobian = made.jacobian(params, h, x)
    unit = np.arange(6) % 3
    assert not jacobian[:, unit[:, None] != unit].any()
    assert jacobian[:, 3:, :3].any()
    assert plain(apart, "hidden", "hidden", u=None, b=None).structure == "diagonal"


def test_spaces_of_any_name_and_size_are_led_to_by_matrices() -> None:
    def two(p: Any, state: Any, x: Any) -> Any:
        slow, fast = state
        fast = tanh(p.w @ x + p.up @ slow)
        return 0.9 * slow + p.down @ fast, fast

    made = cell(
        "slow", "fast", w=matrix("inputs", "fast"), up=matrix("slow", "fast"), down=matrix("fast", "slow")
    )(two)
    params = made.init(0, 2, 5, slow=2, fast=4, like=np.zeros(0))
    assert {name: value.shape for name, value in params.items()} == {
        "w": (2, 4),
        "up": (2, 4),
        "down": (4, 2),
    }
    h, x = np.ones((3, 6)), np.ones((3, 2))
    fast = np.tanh(x @ params["w"] + h[:, :2] @ params["up"])
    wanted = np.concatenate([0.9 * h[:, :2] + fast @ params["down"], fast], -1)
    assert np.abs(step(made, params, h, x) - wanted).max() < 1e-15
    assert made.structure == "dense"
    assert np.array_equal(made.output(h, params), h[:, :2])
    with pytest.raises(ValueError, match="differ in size. Give params too"):
        made.output(h)


def _of_two_gates(p: Any, h: Any, x: Any) -> Any:
    first, second = p.w
    return tanh(first @ x + p.u @ h + p.b) * (second @ h)


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (lambda p, h, x: tanh(x), {}, "uses x otherwise than in a product"),
    (lambda p, h, x: h + x, {}, "uses x otherwise"),
    (lambda p, h, x: x * 2, {}, "uses x otherwise"),
    (lambda p, h, x: x @ p.w, {}, "A matrix comes first: w @ h"),
    (lambda p, h, x: h @ p.u, {}, "A matrix comes first: w @ h"),
    (lambda p, h, x: h / 2, {}, "Multiply by 1 / number"),
    (lambda p, h, x: 1 / h, {}, "Multiply by 1 / number"),
    (lambda p, h, x: h**2, {}, "Write x * x"),
    (lambda p, h, x: h if h > 0 else -h, {}, "compared values"),
    (lambda p, h, x: h if h else -h, {}, "whether a value is true"),
    (lambda p, h, x: np.tanh(h), {}, "fails on symbols (TypeError"),
    (lambda p, h, x: np.ones(3) * h, {}, "has a ndarray in its arithmetic"),
    (lambda p, h, x: h * True, {}, "has a bool in its arithmetic"),
    (lambda p, h, x: h[0], {}, "fails on symbols (TypeError"),
    (lambda p, h, x: p.w + h, {}, "a matrix that multiplies nothing"),
    (lambda p, h, x: h + p.w, {}, "a matrix that multiplies nothing"),
    (lambda p, h, x: tanh(p.w), {}, "takes the tanh of a matrix that multiplies nothing"),
    (lambda p, h, x: tanh(0.5), {}, "takes the tanh of a float"),
    (lambda p, h, x: p.z @ h, {}, "has no parameter 'z'. They are w, u, b."),
    (lambda p, h, x: p.U @ h, {}, "has no parameter 'U'. Did you mean 'u'? They are w, u, b."),
    (lambda p, h, x: p.w @ x + p.u @ h + 2 * h + p.b, {}, "w @ x + p.b, before other terms"),
    (lambda p, h, x: 0.0, {}, "has a float in its arithmetic"),
    (lambda p, h, x: None, {}, "has a NoneType in its arithmetic"),
    (lambda p, h, x: (h, h), {}, "returns 2 parts of a state that has 1"),
    (lambda p, h, x: tanh(p.u @ h + p.b), {"w": None}, "does not depend on x"),
    (lambda p, h, x: tanh(p.w @ x + p.b), {}, "does not use u"),
    (lambda p, h, x: tanh(p.w @ x + p.u @ h), {}, "does not use b"),
    (
        lambda p, h, x: tanh(p.w @ x + p.u @ h + p.b * h),
        {},
        "b otherwise than as a bias, so that it cannot be optional",
    ),
    (lambda p, h, x: tanh(p.b + h + p.w @ x + p.u @ h), {}, "Add it to a product first, w @ x + p.b"),
    (
        lambda p, h, x: p.w @ x + p.u @ h + p.b,
        {"w": matrix("inputs", "wide"), "b": vector("wide")},
        "add of wide units and hidden units: only a matrix leads from one space to another",
    ),
    (lambda p, h, x: tanh(p.w @ h), {}, "multiplies hidden units by w, which is declared for inputs units"),
    (lambda p, h, x: tanh(p.u @ x), {}, "Declare it matrix('inputs', 'hidden')"),
    (
        lambda p, h, x: tanh(p.w @ x + p.u @ h + p.u @ tanh(h) + p.b),
        {},
        "multiplies different things by gates of u",
    ),
    (
        lambda p, h, x: tanh(p.w @ x),
        {"w": matrix("inputs", "wide")},
        "returns wide units for a part of the state",
    ),
    (
        lambda p, h, x: p.w @ x + p.u @ h + p.b,
        {"w": matrix("inputs", gates=2)},
        "fails on symbols (TypeError",
    ),
    (lambda p, h, x: h + p.w, {"w": matrix("inputs", gates=2)}, "has a tuple (a parameter of several gates"),
    (_of_two_gates, {}, "fails on symbols (TypeError"),
    (_of_two_gates, {"w": matrix("inputs", gates=3)}, "too many values to unpack"),
    (_of_two_gates, {"w": matrix("inputs", gates=2)}, "multiplies hidden units by w"),
    (lambda p, h: h, {}, "fails on symbols (TypeError"),
]


@pytest.mark.parametrize(("function", "declared", "told"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_a_cell_cannot_do_is_said_when_its_program_is_read_off(
    function: Any, declared: dict[str, Any], told: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        assert plain(function, **declared).program
    assert told in str(caught.value)
    assert str(caught.value).startswith("cell ")


def test_declarations_are_asked_for_where_there_are_no_parentheses() -> None:
    with pytest.raises(DefinitionError, match=r"@cell without parentheses.*@cell\(w=matrix"):
        cell(_of_two_gates)  # type: ignore[arg-type]


def test_a_function_may_ask_whether_there_is_a_parameter() -> None:
    made = plain(lambda p, h, x: tanh(p.w @ x + p.u @ h + (p.c if hasattr(p, "c") else p.b)))
    assert {p.name for p in made.program.parameters} == {"w", "u", "b"}


def test_a_state_of_inputs_is_refused() -> None:
    square = matrix("inputs", "inputs")
    with pytest.raises(DefinitionError, match='has a part of the state of "inputs" units'):
        assert cell("inputs", w=square, u=square)(lambda p, h, x: tanh(p.w @ x + p.u @ h)).program
