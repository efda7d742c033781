"""The capability table: which kernel serves which framework, asked of the kernels themselves.

    python -m seqpar_bench.capabilities

prints it as Markdown; `docs/write.py` puts it into the README and the reference. Dispatch asks the same predicate,
`refusal`, so the table and what runs cannot disagree.
"""

from seqpar.dispatch import registry
from seqpar.dispatch.choice import choose
from seqpar.dispatch.problem import Kernel, Problem, refusal
from seqpar_bench.tables import markdown

SIZES: dict[str, tuple[tuple[int, ...], tuple[bool, ...]]] = {
    "linear_recurrence": ((4, 4096, 256), (True, True, False, False)),
    "matrix_recurrence": ((64, 4096, 4, 1), (True, True, False, False)),
    "associative_scan": ((4, 4096, 256), (True, True)),
}
"""Operations, each with a shape of middling size and which of its operands are given."""
FRAMEWORKS = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX", "array_api_strict": "other"}
"""Frameworks by their dispatch name; the last stands for every other library that speaks the array API."""
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
MISSING = {"numpy": {"bfloat16"}, "array_api_strict": {"float16", "bfloat16"}}
"""Dtypes that a framework does not have."""

AUTOMATIC = "automatic"
ON_REQUEST = "on request"


def table() -> str:
    """The table as Markdown."""
    rows = []
    for operation in SIZES:
        for label in _labels(operation):
            cells = [_cell(operation, label, framework) for framework in FRAMEWORKS]
            kernel = next(k for f in FRAMEWORKS for k in registry.kernels(operation, f) if k.label == label)
            name = f"`{operation}`"
            rows.append((name, f"`{kernel.method}`", f"`{kernel.backend}`", *cells, kernel.summary))
    header = (
        "operation",
        "method",
        "backend",
        *(f"{title} (CPU)" for title in FRAMEWORKS.values()),
        "what it is",
    )
    return markdown(header, rows)


def _labels(operation: str) -> list[str]:
    return list(
        dict.fromkeys(k.label for framework in FRAMEWORKS for k in registry.kernels(operation, framework))
    )


def _cell(operation: str, label: str, framework: str) -> str:
    """What a kernel does for a framework: which dtypes it takes, and whether it is chosen without being asked for."""
    kernel = next((k for k in registry.kernels(operation, framework) if k.label == label), None)
    if kernel is None:
        return ""
    own = [dtype for dtype in DTYPES if dtype not in MISSING.get(framework, ())]
    taken = [
        dtype
        for dtype in own
        if refusal(kernel, problem(operation, framework, dtype), _config(kernel)) is None
    ]
    if not taken:
        return ""
    best = [dtype for dtype in taken if _is_best(kernel, operation, framework, dtype)]
    word = AUTOMATIC if best == taken else ON_REQUEST if not best else f"automatic for {', '.join(best)}"
    return word if taken == own else f"{word}: {', '.join(taken)}"


def _config(kernel: Kernel) -> object:
    return kernel.config()


def _is_best(kernel: Kernel, operation: str, framework: str, dtype: str) -> bool:
    return choose(problem(operation, framework, dtype)).kernel.label == kernel.label


def problem(operation: str, framework: str, dtype: str) -> Problem:
    """A plain problem of middling size, without any array behind it."""
    shape, dtypes = SIZES[operation]
    return Problem(
        operation=operation,
        framework=framework,
        device="cpu",
        shape=shape,
        axis=1,
        dtypes=tuple(dtype if given else None for given in dtypes),
        layout="inner",
        options=(),
        addressable=framework in ("numpy", "torch", "jax"),
        traced=False,
    )


if __name__ == "__main__":
    print(table())
