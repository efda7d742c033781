"""Shared by the tests of algorithms: the standard at its strictest, and every array library as a fixture."""

from __future__ import annotations

from collections.abc import Iterator

import array_api_strict
import pytest

from libraries import LIBRARIES, Library


@pytest.fixture(autouse=True)
def strictest() -> Iterator[None]:
    """No linalg, no boolean indexing, no shapes that depend on data."""
    array_api_strict.set_array_api_strict_flags(
        boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    )
    yield
    array_api_strict.reset_array_api_strict_flags()


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Library:
    return LIBRARIES[request.param]()
