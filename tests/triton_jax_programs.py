"""Programs that jax-triton is given, for a GPU that need not be there: each kernel, absent operands, masks, integers of 1 and
beyond 32 bits.

Compiled by triton_cubins.py. Run as a script it lowers calls of JAX for a GPU through jax-triton itself.
"""

import json
from typing import Any

from seqpar.dispatch.geometry import row_major
from seqpar.dispatch.operation import Abstract, operations
from seqpar.linear_recurrence_operation import Walk
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar_triton.bound import Bound
from seqpar_triton.configs import WalkConfig
from triton_tall_programs import program as tall
from triton_walk_programs import H200

Shape = tuple[tuple[int, ...], str]


def program(name: str, spec: Any, operands: dict[str, Shape], segments: int = 1) -> Any:
    """Few steps in flight, which take less time to compile."""
    operation = operations[name]
    given = [operands.get(name) for name in operation.operands]
    results = operation.raw(spec, [x and Abstract(*x) for x in given])
    names = (*operation.operands, *operation.results)
    layouts = {n: row_major(*x) for n, x in zip(names, (*given, *results), strict=True) if x is not None}
    return Bound(
        name, spec, WalkConfig(unroll=2, stages=2, segments=segments), names, layouts, H200
    ).in_vectors


def programs() -> dict[str, Any]:
    few, rows = ((8, 4096, 256), "float32"), ((64, 8192), "bfloat16")
    still, mask, one = ((1, 1, 256), "float32"), ((8, 4096, 1), "bool"), ((1, 1, 1), "float32")
    pairs = ((8, 4096, 64), "complex64")
    matrices, vectors = ((8, 512, 4, 4), "float32"), ((8, 512, 4, 1), "float32")
    shared, steps = ((1, 1, 4, 4), "float32"), ((8, 512, 1, 1), "bool")
    huge = ((2, 1 << 16, 3 << 14), "float32")  # strides that jax-triton takes for unsigned numbers
    forward, backward = "linear_recurrence", "linear_recurrence_backward"
    walk, row, matrix = Walk(1), Walk(1, gate="log"), MatrixWalk(1)
    return {
        "walk": program(forward, walk, {"a": few, "b": few, "resets": mask}),
        "complex": program(forward, walk, {"a": pairs, "b": pairs, "h0": ((8, 64), "complex64")}),
        "segments": program(backward, walk, {"a": still, "h": few, "g": few}, segments=4),
        "rows": program(forward, row, {"a": rows, "b": rows, "resets": ((64, 8192), "bool")}, segments=4),
        "rows backward": program(backward, row, {"a": rows, "h": rows, "g": rows}, segments=4),
        "matrix": program(
            "matrix_recurrence", matrix, {"A": matrices, "b": vectors, "resets": steps}, segments=4
        ),
        "matrix backward": program(
            "matrix_recurrence_backward", matrix, {"A": shared, "h": vectors, "g": vectors}, segments=4
        ),
        "one": program(forward, walk, {"a": one, "b": one, "h0": ((1, 1), "float32")}),
        "one backward": program(backward, walk, {"a": one, "h": one, "g": one}),
        "huge": program(forward, walk, {"a": huge, "b": huge}),
        "tall": tall(3000, 8),
        "tall lstsq": tall(600, 3, q=False, right=2),
    }


def main() -> None:
    """How many kernels, and how many loops of XLA's own, are in programs for a GPU of an architecture that only we name."""
    import warnings

    import jax
    import jax_triton

    import seqpar
    from seqpar_triton import bound, device, kernels

    jax_triton.triton_lib.triton_kernel_call_lib.get_compute_capability = lambda _: 90
    device.current_device = bound.current_device = lambda: H200
    kernels.has_device = lambda: True
    warnings.simplefilter("error")

    def array(*shape: int, dtype: str = "float32") -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    def gradient(function: Any) -> Any:
        return jax.grad(lambda *x: abs(function(*x)).sum(), (0, 1))

    linear, matrix = seqpar.linear_recurrence, seqpar.matrix_recurrence
    # Many sequences, so that few steps are in flight: deep pipelines take long to compile.
    many, pairs = array(64, 512, 4096), array(64, 512, 4096, dtype="complex64")
    mask = array(64, 512, dtype="bool")
    calls: dict[str, tuple[Any, list[Any]]] = {
        "summed": (gradient(linear), [array(4096), many]),
        "masked": (lambda a, b, resets: linear(a, b, resets=resets), [many, many, mask]),
        "complex": (linear, [pairs, pairs]),
        "along time": (lambda a, b: linear(a, b, axis=-1), [array(65536, 4096, dtype="bfloat16")] * 2),
        "vmap": (jax.vmap(gradient(linear), (0, None)), [array(2, 64, 512, 4096), many]),
        "matrix": (gradient(matrix), [array(65536, 512, 3, 3), array(65536, 512, 3)]),
        "tall": (lambda a: seqpar.qr(a, method="tsqr", backend="triton"), [array(100_000, 8)]),
    }
    for name, (function, given) in calls.items():
        text = jax.jit(function).trace(*given).lower(lowering_platforms=("cuda",)).as_text()
        print(
            json.dumps({"name": name, "kernels": text.count("@triton_kernel_call"), "loops": "while" in text})
        )


if __name__ == "__main__":
    main()
