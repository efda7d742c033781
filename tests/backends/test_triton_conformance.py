"""The shipped suite on the Triton kernels, in Triton's interpreter where there is no GPU."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from seqpar.dispatch import registry
from seqpar.testing import BackendConformance
from seqpar.testing.conformance import EXAMPLES

for needed in ("torch", "triton"):
    if find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)
if not import_module("triton").knobs.runtime.interpret:
    pytest.skip("there is a GPU: tests/gpu runs the kernels on it", allow_module_level=True)

from seqpar_triton import CellShootingConfig, WalkConfig  # noqa: E402

# An interpreted step takes a millisecond.
STEPS = 110


class TestTritonOnTorch(BackendConformance):
    backend = registry.backends()["triton"]
    configs = (WalkConfig(segments=3), CellShootingConfig(chunk=16))
    # The fewest steps of two chunks.
    repeated = (2, 17, 2)
    examples = [x for x in EXAMPLES if x.operation != "associative_scan" and x.shape[x.time] <= STEPS]

    def array(self, x: Any) -> Any:
        torch = import_module("torch")
        if x.dtype.name == "bfloat16":
            return self.array(x.view(np.int16)).view(torch.bfloat16)
        # Tensors have no negative strides.
        return torch.from_numpy(x if min(x.strides, default=0) >= 0 and x.flags.writeable else x.copy())

    def numpy(self, x: Any) -> Any:
        return (x.float() if "bfloat16" in str(x.dtype) else x).numpy()

    def test_repeated_calls_agree_to_the_bit_where_that_is_promised(self, kernel: Any) -> None:
        # Programs run one after the other here, so that a second call shows all that a fourth would.
        batch, time, width = self.repeated
        example = self.example(kernel, batch=batch, time=time, width=width)
        first = [self.numpy(x).copy() for x in self.run(kernel, example)]
        for x, y in zip(first, self.run(kernel, example), strict=True):
            assert np.array_equal(x, self.numpy(y)), kernel.label

    def example(self, kernel: Any, **fields: Any) -> Any:
        """Of the cells the one with the fewest operations: what is wanted is any example, and each operation is interpreted."""
        cell = {"name": "elman"} if kernel.operation.startswith("cell") else {}
        return super().example(kernel, **cell, **fields)

    def examples_of(self, kernel: Any) -> Any:
        """Shared out between one pass and segments or chunks, which have most in common; of matrices and cells, fewer."""
        if kernel.method == "tsqr":
            # A program, and steps of a program for every column.
            found = super().examples_of(kernel)
            return [x for x in found if int(np.prod(x.shape[:-2])) * x.shape[-1] <= 40]
        every = {"linear": 2, "matrix": 4}.get(kernel.operation.partition("_")[0], 6)
        return super().examples_of(kernel)[
            every // 2 if kernel.method in ("chunked", "shooting") else 0 :: every
        ]
