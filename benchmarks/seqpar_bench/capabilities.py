"""The capability table: which kernel serves which framework, asked of the kernels themselves.

    python -m seqpar_bench.capabilities

prints it as Markdown; `docs/write.py` puts it into the README and the reference. Dispatch asks the kernels the same question,
so the table and what runs cannot disagree.
"""

from seqpar import cells
from seqpar.cells.walk import walk_of
from seqpar.dispatch import registry
from seqpar.dispatch.problem import Kernel, Problem
from seqpar_bench.tables import markdown

SIZES: dict[str, tuple[tuple[int, ...], tuple[bool, ...]]] = {
    "linear_recurrence": ((4, 4096, 256), (True, True, False, False)),
    "matrix_recurrence": ((64, 4096, 4, 1), (True, True, False, False)),
    "associative_scan": ((4, 4096, 256), (True, True)),
    "cell": ((4, 4096, 32), (True, True, False, True)),
    "qr": ((4, 4096, 32), (True,)),
    "r_factor": ((4, 4096, 32), (True, False, False, False)),
}
"""Operations, each with a shape of middling size and which of its operands are given. Not `plan_buckets`: it reads lengths of any
framework and any dtype on the host, so a table of those says nothing of its kernels."""
GRU = walk_of(cells.gru.program, {"inputs": 32, "hidden": 32})
OPTIONS = {"cell": (GRU.spaces, GRU.program)}
"""What else a problem of an operation says: of cells the GRU stands for all."""
NAMES = {"cell": "a recurrent cell", "r_factor": "R alone: `qr`, `lstsq`"}
"""Operations that users call by another name."""
FRAMEWORKS = {
    ("numpy", "cpu"): "NumPy (CPU)",
    ("torch", "cpu"): "PyTorch (CPU)",
    ("jax", "cpu"): "JAX (CPU)",
    ("array_api_strict", "cpu"): "other (CPU)",
    ("torch", "cuda"): "PyTorch (GPU)",
    ("jax", "cuda"): "JAX (GPU)",
    ("cupy", "cuda"): "CuPy (GPU)",
}
"""Frameworks by dispatch name and device; array_api_strict stands for every other library that speaks the array API."""
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
MISSING = {"numpy": {"bfloat16"}, "cupy": {"bfloat16"}, "array_api_strict": {"float16", "bfloat16"}}
"""Dtypes that a framework does not have."""

AUTOMATIC = "automatic"
ON_REQUEST = "on request"
IN_PART = "automatic in part"


Place = tuple[str, str]


def table() -> str:
    """The table as Markdown. What a machine lacks (a GPU, a package) does not change it."""
    rows = []
    for operation in SIZES:
        for label in _labels(operation):
            found = [_cell(operation, label, place) for place in FRAMEWORKS]
            kernel = next(
                k for f, _ in FRAMEWORKS for k in registry.kernels(operation, f) if k.label == label
            )
            name = NAMES.get(operation, f"`{operation}`")
            rows.append((name, f"`{kernel.method}`", f"`{kernel.backend}`", *found, kernel.summary))
    return markdown(("operation", "method", "backend", *FRAMEWORKS.values(), "what it is"), rows)


def _labels(operation: str) -> list[str]:
    return list(
        dict.fromkeys(k.label for framework, _ in FRAMEWORKS for k in registry.kernels(operation, framework))
    )


def _cell(operation: str, label: str, place: Place) -> str:
    """What a kernel does for a framework: which dtypes it takes, and whether it is chosen without being asked for."""
    framework, device = place
    kernel = next((k for k in registry.kernels(operation, framework) if k.label == label), None)
    if kernel is None:
        return ""
    own = [dtype for dtype in DTYPES if dtype not in MISSING.get(framework, ())]
    taken = [dtype for dtype in own if serves(kernel, problem(operation, framework, dtype, device))]
    if not taken:
        return ""
    best = [dtype for dtype in taken if _is_best(kernel, operation, place, dtype)]
    word = AUTOMATIC if best == taken else ON_REQUEST if not best else IN_PART
    return word if taken == own else f"{word}: {', '.join(taken)}"


def serves(kernel: Kernel, problem: Problem) -> bool:
    """Can the kernel run the problem, on a machine that has what it needs?"""
    if problem.framework == "jax" and kernel.form == "buffers" and problem.device not in kernel.xla:
        return False
    return kernel.refuses(problem, kernel.config()) is None


def _is_best(kernel: Kernel, operation: str, place: Place, dtype: str) -> bool:
    asked = problem(operation, place[0], dtype, place[1])
    ready = [k for k in registry.kernels(operation, place[0]) if serves(k, asked)]
    return min(ready, key=lambda k: k.rank(asked)) is kernel


def problem(operation: str, framework: str, dtype: str, device: str = "cpu") -> Problem:
    """A plain problem of middling size, without any array behind it."""
    shape, dtypes = SIZES[operation]
    return Problem(
        operation=operation,
        framework=framework,
        device=device,
        shape=shape,
        axis=1,
        dtypes=tuple(dtype if given else None for given in dtypes),
        layout="inner",
        options=OPTIONS.get(operation, ()),
        addressable=framework != "array_api_strict",
        traced=False,
    )


if __name__ == "__main__":
    print(table())
