"""Representative problems of every operation, for the tuner: few long sequences and many short ones, one and many at a time.

Each operation hands out its own (`Operation.presets`). The quick ones are to take a minute on two cores, all operations
together; the default ones some minutes per framework. Problems of float32 come first, since most are.
"""

from __future__ import annotations

from typing import Any

from seqpar.buckets.kernels import Search
from seqpar.dispatch.operation import Abstract
from seqpar.dispatch.preset import CPU, CUDA, EVERYWHERE, Grade, Preset
from seqpar.linear_recurrence_operation import Walk
from seqpar.matrix_recurrence_operation import MatrixWalk

Devices = tuple[str, ...]


def linear_recurrences() -> list[Preset]:
    def one(
        shape: tuple[int, ...],
        grade: Grade = "default",
        devices: Devices = EVERYWHERE,
        *,
        axis: int = 1,
        dtype: str = "float32",
        h0: bool = False,
        resets: bool = False,
        **flags: Any,
    ) -> Preset:
        x = Abstract(shape, dtype)
        state = Abstract(shape[:axis] + shape[axis + 1 :], "float32" if dtype in HALF else dtype)
        marks = Abstract((*shape[: axis + 1], *(1 for _ in shape[axis + 1 :])), "bool")
        spec = Walk(axis, **flags)
        # NumPy knows this kind through a package of its own alone.
        frameworks = ("torch", "jax") if dtype == "bfloat16" else ()
        operands = (x, x, state if h0 else None, marks if resets else None)
        return Preset(spec, operands, grade, devices, frameworks=frameworks)

    return [
        one((8, 4096, 64), "quick", CPU),
        one((1, 1 << 18, 1), "quick", CPU),
        one((8, 65536, 1536), "quick", CUDA),
        one((8, 4096, 1024), devices=CUDA),
        one((1, 1 << 20, 64), devices=CUDA),
        one((512, 128, 256)),
        one((1, 65536, 16)),
        one((1, 65536, 256), "exhaustive", CPU),
        one((64, 16384), "exhaustive", axis=1),
        one((1, 1 << 22), "exhaustive", CPU),
        one((8, 4096, 256), devices=CPU, h0=True, gate="logit", convex=True),
        one((8, 4096, 256), dtype="bfloat16"),
        one((8, 4096, 64), "exhaustive", dtype="float64"),
        one((8, 4096, 64), "exhaustive", dtype="float16"),
        one((8, 4096, 64), "exhaustive", dtype="complex64"),
        one((8, 4096, 64), "exhaustive", reverse=True),
        one((8, 4096, 64), "exhaustive", resets=True),
        one((8, 4096, 64), "exhaustive", h0=True, resets=True, gate="log"),
        one((8, 4096, 64), "exhaustive", convex=True, gate="logit"),
        one((1, 256, 16), "exhaustive"),
        one((4096, 4096), "exhaustive", axis=1),
        one((4096, 64, 64), "exhaustive", axis=0),
        one((32, 32768, 1024), "exhaustive", CUDA, dtype="bfloat16"),
    ]


def matrix_recurrences() -> list[Preset]:
    def one(
        batch: int,
        steps: int,
        n: int,
        grade: Grade = "default",
        devices: Devices = EVERYWHERE,
        *,
        k: int = 1,
        dtype: str = "float32",
        resets: bool = False,
        h0: bool = False,
        constant: bool = False,
        **flags: bool,
    ) -> Preset:
        matrices = Abstract((batch, 1 if constant else steps, n, n), dtype)
        states = Abstract((batch, steps, n, k), dtype)
        start = Abstract((batch, n, k), "float32" if dtype in HALF else dtype) if h0 else None
        marks = Abstract((batch, steps, 1, 1), "bool") if resets else None
        return Preset(MatrixWalk(1, **flags), (matrices, states, start, marks), grade, devices)

    return [
        one(8, 2048, 4, "quick", CPU),
        one(64, 4096, 8, "quick", CUDA),
        one(256, 256, 4),
        one(1, 16384, 4),
        one(4, 1024, 16),
        one(4, 512, 32, "exhaustive"),
        one(1024, 1024, 4, devices=CUDA),
        one(16, 4096, 32, devices=CUDA),
        one(8, 2048, 4, "exhaustive", dtype="float64"),
        one(8, 2048, 4, "exhaustive", k=8, h0=True),
        one(8, 2048, 4, "exhaustive", resets=True),
        one(8, 2048, 4, "exhaustive", constant=True),
        one(8, 2048, 4, "exhaustive", reverse=True, transposed=True),
        one(8, 2048, 2, "exhaustive"),
        one(2, 256, 64, "exhaustive"),
        one(8, 2048, 4, "exhaustive", dtype="complex64"),
    ]


def _walks() -> list[tuple[str, int, int, int, int, Grade, Devices, str, bool]]:
    """Name of the cell, rows, steps, inputs, hidden, grade, devices, dtype, with resets."""
    return [
        ("gru", 16, 256, 32, 64, "quick", CPU, "float32", False),
        ("gru", 64, 1024, 32, 32, "quick", CUDA, "float32", False),
        ("lstm", 16, 256, 64, 64, "default", EVERYWHERE, "float32", False),
        ("gru", 1, 8192, 16, 32, "default", EVERYWHERE, "float32", False),
        ("elman", 128, 128, 32, 64, "default", EVERYWHERE, "float32", False),
        ("indrnn", 32, 1024, 64, 128, "exhaustive", EVERYWHERE, "float32", False),
        ("lem", 8, 1024, 8, 32, "exhaustive", EVERYWHERE, "float32", False),
        ("lstm", 64, 1024, 64, 128, "default", CUDA, "float32", False),
        ("gru", 16, 256, 32, 64, "exhaustive", EVERYWHERE, "float64", False),
        ("gru", 16, 256, 32, 64, "exhaustive", EVERYWHERE, "float32", True),
        ("mgu", 16, 256, 32, 64, "exhaustive", EVERYWHERE, "float32", False),
        ("jordan", 16, 256, 32, 64, "exhaustive", EVERYWHERE, "float32", False),
        ("mingru", 16, 256, 32, 64, "exhaustive", EVERYWHERE, "float32", False),
        ("cornn", 16, 256, 32, 64, "exhaustive", EVERYWHERE, "float32", False),
    ]


def cells() -> list[Preset]:
    from seqpar import cells as ready
    from seqpar.cells.walk import walk_of

    found = []
    for name, rows, steps, inputs, hidden, grade, devices, dtype, resets in _walks():
        cell = getattr(ready, name)
        # Slopes of relu are one or the other where rounding decides, and with them gradients.
        program = (cell.using(activation="tanh") if "activation" in cell.constants else cell).program
        spaces = {space for p in program.parameters for space in (p.rows, p.columns) if space}
        sizes = {space: inputs if space == "inputs" else hidden for space in spaces | set(program.parts)}
        spec = walk_of(program, sizes)
        operands = (
            Abstract((rows, steps, sizes.get("inputs", inputs)), dtype),
            Abstract((rows, spec.state), dtype),
            Abstract((rows, steps), "bool") if resets else None,
            Abstract((1, spec.weights), dtype),
        )
        found.append(Preset(spec, operands, grade, devices))
    return found


def cell_gradients() -> list[Preset]:
    """What is left of the backward passes of `cells` once a kernel has walked back."""
    found = []
    for walk in cells():
        x, h0, resets, weights = walk.operands
        assert x is not None
        states = Abstract((*x.shape[:-1], walk.spec.state), x.dtype)
        stored = Abstract((*x.shape[:-1], walk.spec.stored), x.dtype)
        operands = (x, h0, resets, weights, states, stored)
        grade: Grade = "default" if walk.grade == "quick" else walk.grade
        found.append(walk._replace(operands=operands, grade=grade))
    return found


def scans() -> list[Preset]:
    from seqpar import monoids
    from seqpar.algorithms.associative_scan import Time
    from seqpar.associative_scan_operation import Combine, Scan
    from seqpar.trees import flatten

    def one(
        name: str,
        shapes: tuple[tuple[int, ...], ...],
        grade: Grade = "default",
        devices: Devices = EVERYWHERE,
        *,
        axis: int = 1,
        dtype: str = "float32",
    ) -> Preset:
        # A tree of anything that is a leaf.
        _, structure = flatten(_LEAF if len(shapes) == 1 else (_LEAF,) * len(shapes))
        combine = Combine(getattr(monoids, name), structure, structure.paths("elems"))
        operands = tuple(Abstract(shape, dtype) for shape in shapes)
        return Preset(Scan(Time((axis,) * len(shapes)), combine), operands, grade, devices)

    return [
        one("affine", ((8, 4096, 16),) * 2, "quick", CPU),
        one("affine", ((8, 65536, 256),) * 2, "quick", CUDA),
        one("add", ((64, 4096, 16),)),
        one("affine", ((1, 65536),) * 2),
        one("matmul", ((4, 1024, 4, 4),)),
        one("matrix_affine", ((4, 1024, 4, 4), (4, 1024, 4)), "exhaustive"),
        one("logaddexp", ((16, 4096),), "exhaustive"),
        one("affine", ((8, 64, 16),) * 2, "exhaustive"),
        one("quaternion_product", ((8, 4096, 4),), "exhaustive"),
        one("affine", ((8, 4096, 16),) * 2, "exhaustive", dtype="float64"),
    ]


def factorisations() -> list[Preset]:
    return [
        _tall((16384, 32), "quick", CPU),
        _tall((65536, 64), "quick", CUDA),
        _tall((100000, 8)),
        _tall((4096, 256)),
        _tall((8192, 400), devices=CPU),
        _tall((64, 2048, 16)),
        _tall((1 << 20, 32), devices=CUDA),
        _tall((16384, 512), devices=CUDA),
        _tall((16384, 32), "exhaustive", dtype="float64"),
        _tall((16384, 32), "exhaustive", dtype="complex64"),
        _tall((1024, 512, 8), "exhaustive"),
        _tall((128, 512), "exhaustive"),
    ]


def r_factors() -> list[Preset]:
    def one(
        shape: tuple[int, ...],
        grade: Grade = "default",
        devices: Devices = EVERYWHERE,
        *,
        dtype: str = "float32",
        b: int = 1,
        weights: bool = False,
        seed: bool = False,
    ) -> Preset:
        from seqpar.tall.operations import Factorisation

        *lead, m, n = shape
        right = Abstract((*lead, m, b), dtype) if b else None
        rows = Abstract((*lead, m), dtype) if weights else None
        top = Abstract((*lead, n + b, n + b), dtype) if seed else None
        return Preset(Factorisation(), (Abstract(shape, dtype), right, rows, top), grade, devices)

    return [
        one((65536, 32), "quick", CPU),
        one((1 << 20, 64), "quick", CUDA),
        one((100000, 8), b=0),
        one((8192, 256)),
        one((8192, 600), "exhaustive", CPU),
        one((256, 512, 8)),
        one((65536, 32), "exhaustive", weights=True),
        one((4096, 64), seed=True),
        one((65536, 512), devices=CUDA),
        one((65536, 32), "exhaustive", dtype="float64"),
        one((65536, 32), "exhaustive", dtype="complex64"),
        one((100, 300), "exhaustive", b=0),
    ]


def packed_factorisations() -> list[Preset]:
    return [
        _tall((16384, 32)),
        _tall((4096, 128)),
        _tall((16, 2048, 16), "exhaustive"),
        _tall((16384, 32), "exhaustive", dtype="float64"),
    ]


def block_factorisations() -> list[Preset]:
    from seqpar.tall.implicit_kernels import rows_of_blocks
    from seqpar.tall.implicit_operations import Blocks

    given = [
        _tall((65536, 64), "default", CUDA),
        _tall((16384, 32), "exhaustive", dtype="complex64"),
        _tall((4096, 400), "exhaustive"),
        _tall((300, 300), "exhaustive"),
    ]

    def cut(preset: Preset) -> Preset:
        (a,) = preset.operands
        assert a is not None
        return preset._replace(spec=Blocks(rows_of_blocks(*a.shape[-2:])))

    return list(map(cut, given))


def implicit_products() -> list[Preset]:
    """Products with a Q that is kept as packed Householder vectors, or as blocks."""
    from seqpar.tall.implicit_kernels import rows_of_blocks
    from seqpar.tall.implicit_operations import QR_BLOCKS, QR_PACKED, Blocks, Product
    from seqpar.tall.operations import Factorisation

    def one(m: int, n: int, k: int, grade: Grade, *, adjoint: bool, packed: bool) -> Preset:
        a = Abstract((m, n), "float32")
        if packed:
            v, t, signs, *_ = QR_PACKED.abstract(Factorisation(), (a,))
            factors: tuple[Abstract | None, ...] = (v, t, signs)
        else:
            leaves, node, *_ = QR_BLOCKS.abstract(Blocks(rows_of_blocks(m, n)), (a,))
            factors = (leaves, node, None)
        x = Abstract((m if adjoint else n, k), "float32")
        return Preset(Product(adjoint, m, packed), (None, None, *factors, x), grade, EVERYWHERE)

    return [
        one(16384, 32, 4, "default", adjoint=True, packed=True),
        one(16384, 32, 4, "default", adjoint=False, packed=True),
        one(16384, 32, 4, "exhaustive", adjoint=True, packed=False),
        one(16384, 32, 64, "exhaustive", adjoint=False, packed=False),
    ]


def bucket_searches() -> list[Preset]:
    def one(groups: int, search: Search, grade: Grade = "default") -> Preset:
        price, before = Abstract((groups,), "float64"), Abstract((groups + 1,), "float64")
        return Preset(search, (price, before), grade, CPU, frameworks=("numpy",))

    return [
        one(2048, Search(32), "quick"),
        one(8192, Search(64)),
        one(8192, Search(0, 5000.0)),
        one(64, Search(8), "exhaustive"),
    ]


HALF = ("float16", "bfloat16")


class _Leaf:
    """Stands for an array where only the form of a tree is asked for."""

    shape = ()


_LEAF = _Leaf()


def _tall(
    shape: tuple[int, ...],
    grade: Grade = "default",
    devices: Devices = EVERYWHERE,
    *,
    dtype: str = "float32",
) -> Preset:
    from seqpar.tall.operations import Factorisation

    return Preset(Factorisation(), (Abstract(shape, dtype),), grade, devices)
