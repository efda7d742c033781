"""Knobs: every field of a config says which of its values are worth a try, and a problem leaves out what it cannot tell apart."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest

from seqpar.dispatch.knobs import knob, knobs, powers_of_two, tries
from seqpar.dispatch.operation import all_operations
from seqpar.dispatch.problem import Kernel, Problem
from seqpar.dispatch.registry import backends
from seqpar.dispatch.registry import kernels as kernels_of

FRAMEWORKS = [name for name in ("numpy", "torch", "jax", "dask") if find_spec(name) is not None]


def configs() -> set[type]:
    """Of every kernel of every backend that is here, and of CuPy's, whose kernels need a GPU to be imported."""
    from seqpar_cupy import configs as of_cupy

    found = {
        kernel.config
        for operation in all_operations()
        for framework in FRAMEWORKS
        for kernel in kernels_of(operation, framework)
    }
    return found | {of_cupy.SequentialConfig, of_cupy.ChunkedConfig}


def fields() -> Iterator[Any]:
    for config in sorted(configs(), key=lambda config: (config.__module__, config.__name__)):
        for field in dataclasses.fields(config):
            yield pytest.param(config, field, id=f"{config.__module__}.{config.__name__}.{field.name}")


@pytest.mark.parametrize(("config", "field"), list(fields()))
def test_every_field_of_a_config_says_what_is_worth_a_try(config: type, field: Any) -> None:
    values = field.metadata.get("tries")
    assert values, "give the field a `knob` with its tries"
    assert field.default in values, "what runs untuned is a try as well"
    assert len(set(values)) == len(values) > 1
    numbers = [value for value in values if type(value) is int]
    assert not field.metadata["ordered"] or numbers == sorted(numbers)


def test_the_backends_that_are_looked_at_are_all_there_are() -> None:
    assert set(backends()) <= {"host", "torch", "jax", "dask", "triton", "cupy"}


@dataclass(frozen=True, kw_only=True)
class Config:
    chunk: int = knob(64, tries=powers_of_two(16, 1024), below="time")
    order: str = knob("rows", tries=("rows", "columns"), ordered=False)
    told: int = 7


class Plain(Kernel):
    operation, backend, method, form, config = "none", "test", "plain", "arrays", Config

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return "is too much" if config.chunk == 32 and config.order == "columns" else None


def problem(time: int) -> Problem:
    return Problem(
        operation="none",
        framework="numpy",
        device="cpu",
        shape=(4, time, 8),
        axis=1,
        dtypes=("float32",),
        layout="inner",
    )


@pytest.mark.parametrize(
    ("time", "chunks"),
    [(10, (16,)), (64, (16, 32, 64)), (65, (16, 32, 64, 128)), (10_000, powers_of_two(16, 1024))],
)
def test_of_chunks_that_hold_all_of_time_one_is_tried(time: int, chunks: tuple[int, ...]) -> None:
    assert knobs(Plain(), problem(time))[0].values == chunks


def test_words_have_no_order_and_fields_that_are_no_knobs_none_either() -> None:
    found = {given.name: given.ordered for given in knobs(Plain(), problem(64))}
    assert found == {"chunk": True, "order": False}


def test_tries_are_what_is_eligible_and_the_default_leads() -> None:
    found = tries(Plain(), problem(64))
    assert found[0] == Config()
    assert len(found) == len(set(found)) == 5
    assert Config(chunk=32, order="columns") not in found


def test_powers_of_two_end_where_they_are_told() -> None:
    assert powers_of_two(16, 100) == (16, 32, 64)
    assert powers_of_two(1, 64, step=2) == (1, 4, 16, 64)
    assert powers_of_two(8, 8) == (8,)
