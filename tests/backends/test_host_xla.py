"""The host kernels as XLA calls them."""

import numpy as np
import pytest

from host_memory import backward, coefficients, numbers, walk
from host_xla import target
from seqpar.errors import BackendError
from seqpar.linear_recurrence_operation import Walk
from seqpar.recurrence_operation import without
from seqpar_host.kernels import Backward, Sequential
from seqpar_host.xla import xla_version

jax = pytest.importorskip("jax")


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
@pytest.mark.parametrize(("shape", "axis"), [((3, 20, 5), 1), ((2, 9, 50), 1), ((6, 33), 1)])
def test_jitted_results_are_those_of_numpy_to_the_bit(shape, axis, dtype):
    random = np.random.default_rng(0)
    a_shape = tuple(1 if i == 0 else n for i, n in enumerate(shape))
    a, b = coefficients(random, a_shape, dtype, "value"), numbers(random, shape, dtype)
    resets = random.random(shape) < 0.1
    spec = Walk(axis, reverse=True)
    h, final = walk(spec, a, b, None, resets)
    function, address = target(Sequential(), spec, [a, b, None, resets], [h, final])
    for actual, right in zip(jax.jit(function)(a, b, resets), (h, final), strict=True):
        assert np.array_equal(actual, right)
    assert target(Sequential(), spec, [a, b, None, resets], [h, final])[1] == address
    g = numbers(random, shape, dtype)
    grads = backward(spec, a, None, None, resets, h, g, None)
    function, _ = target(Backward(), spec, [a, None, None, resets, h, g, None], grads)
    for actual, right in zip(jax.jit(function)(a, resets, h, g), grads, strict=True):
        assert np.array_equal(actual, right)


def test_another_shape_is_an_error_and_not_a_wrong_read():
    x = np.ones((2, 8, 3), np.float32)
    h, final = walk(Walk(1), x, x)
    function, _ = target(Sequential(), Walk(1), [x, x, None, None], [h, final])
    with pytest.raises(Exception, match="frame or buffers other than it was made for"):
        jax.block_until_ready(function(x[:1], x))


def test_a_jaxlib_with_other_frames_is_refused(tmp_path):
    with pytest.raises(BackendError, match="is missing"):
        xla_version(str(tmp_path / "nowhere"))
    header = tmp_path / "xla" / "ffi" / "api" / "c_api.h"
    header.parent.mkdir(parents=True)
    source = (type(header)(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h").read_text()
    header.write_text(
        source.replace("XLA_FFI_DataType dtype;\n  void* data;", "void* data;\n  XLA_FFI_DataType dtype;")
    )
    with pytest.raises(BackendError, match="XLA_FFI_Buffer of this jaxlib has the members"):
        xla_version(str(tmp_path))


def test_edges_without_time_keep_their_shape():
    x = np.ones((4, 6), np.float32)
    h, final = walk(Walk(0), x, x)
    assert final.shape == without(x.shape, 0)
    function, _ = target(Sequential(), Walk(0), [x, x, None, None], [h, final])
    assert np.array_equal(jax.jit(function)(x, x)[1], final)
