"""From the layouts of a matrix recurrence to the launches that compute it."""

from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar_triton.configs import WalkConfig
from seqpar_triton.device import Device
from seqpar_triton.limits import MOST_IN_COLUMNS
from seqpar_triton.matrix import matrix_walk
from seqpar_triton.matrix_backward import matrix_total, matrix_walk_backward
from seqpar_triton.matrix_grid import MatrixGrid, power_of_two
from seqpar_triton.matrix_segments import matrix_cross, matrix_reduce
from seqpar_triton.matrix_shape import Layouts, MatrixShape, Scratch
from seqpar_triton.program import Call, Program


def make_forward(spec: MatrixWalk, layouts: Layouts, config: WalkConfig, device: Device) -> Program:
    """The walk over A, b, h0, resets into h, final: one call, or three with time in segments."""
    shape = MatrixShape(spec, layouts, "b", spec.reverse, spec.transposed)
    if shape.n == 0 or shape.states == 0:
        return shape.program((), {})
    grid = shape.grid(config, device, reads=("A", "b", "resets"), writes=("h",))
    scratch, calls = _entering(shape, grid, "b", "h0", spec.adjoint)
    walk = Call(
        kernel=matrix_walk,
        grid=(-(-shape.states // grid.lanes), grid.segments, 1),
        reads=("A", "b", "h0", "resets", "entering"),
        writes=("h", "final"),
        integers=(
            *(shape.steps, shape.states, grid.segment, shape.k, *shape.inner),
            *shape.strides("A", "b", "h0", "resets", "h", "final"),
        ),
        constants={
            **shape.constants(grid),
            **shape.of_walk(grid),
            "ONE": shape.k == 1,
            "ADJOINT": spec.adjoint,
            "BW": shape.width("b"),
            "HW": shape.width("h"),
        },
        warps=grid.warps,
    )
    return shape.program((*calls, walk), scratch, grid.segments)


def make_backward(spec: MatrixWalk, layouts: Layouts, config: WalkConfig, device: Device) -> Program:
    """The fused backward pass over A, h0, resets, h, g, g_final into dA, db, dh0, against the direction of the walk."""
    # It multiplies by the transpose of M, and writes dM.
    shape = MatrixShape(spec, layouts, "h", not spec.reverse, not spec.transposed)
    if shape.n == 0 or shape.groups == 0:
        return shape.program((), {})
    columns = power_of_two(max(1, shape.k))
    if columns * shape.padded > MOST_IN_COLUMNS:
        raise NotImplementedError(f"{shape.k} columns of {shape.n} rows are more than one program sums over")
    summed = shape.steps != 1 and layouts["dA"].shape[spec.axis] == 1
    grid = shape.grid(config, device, ("A", "resets", "h", "g"), ("db",) if summed else ("dA", "db"), columns)
    scratch, calls = _entering(shape, grid, "g", "g_final", True)
    if summed:
        wide = "complex128" if shape.complex else "float64"
        scratch["sums"] = ((grid.segments, shape.groups, shape.n, shape.n), wide)
    names = ("A", "h0", "resets", "h", "g", "g_final")
    calls.append(
        Call(
            kernel=matrix_walk_backward,
            grid=(-(-shape.groups // (grid.lanes // columns)), grid.segments, 1),
            reads=(*names, "entering"),
            writes=("sums" if summed else "dA", "db", "dh0"),
            integers=(
                *(shape.steps, shape.groups, grid.segment, shape.k, *shape.inner),
                *shape.strides(*names, "dA", "db", "dh0"),
            ),
            constants={
                **shape.constants(grid),
                **shape.of_walk(grid),
                "COLUMNS": columns,
                "ONE": shape.k == 1,
                "HW": shape.width("h"),
                "GW": shape.width("g"),
                "DW": 1 if summed else shape.width("dA"),
                "BW": shape.width("db"),
                "DROWS": summed or shape.in_rows("dA"),
                "SUMMED": summed,
            },
            warps=grid.warps,
        )
    )
    if summed:
        calls.append(
            Call(
                kernel=matrix_total,
                grid=(-(-shape.groups * shape.n**2 // 32), 1, 1),
                reads=("sums",),
                writes=("dA",),
                integers=(
                    grid.segments,
                    shape.groups,
                    *shape.inner,
                    *shape.strides("dA")[1:4],
                    *shape.ends("dA"),
                ),
                constants={
                    "N": shape.n,
                    "DIMS": shape.dims,
                    "BLOCK": 32,
                    "STAGES": 4,
                    "COMPLEX": shape.complex,
                },
                warps=1,
            )
        )
    return shape.program(tuple(calls), scratch, grid.segments)


def _entering(
    shape: MatrixShape, grid: MatrixGrid, inputs: str, start: str, adjoint: bool
) -> tuple[Scratch, list[Call]]:
    """Scratch and calls that find the state entering every segment; none of either for one segment."""
    if grid.segments == 1:
        return {}, []
    parts = grid.segments - 1
    scratch: Scratch = {
        "slope": ((parts, shape.groups, shape.n, shape.n), shape.state),
        "exponent": ((parts, shape.groups, shape.n), "int32"),
        "reached": ((parts, shape.states, shape.n), shape.state),
        "entering": ((grid.segments, shape.states, shape.n), shape.state),
    }
    chunks = -(-(shape.n + shape.k) // grid.together)
    reduce = Call(
        kernel=matrix_reduce,
        grid=(-(-shape.groups // grid.block), parts, chunks),
        reads=("A", inputs, "resets"),
        writes=("slope", "exponent", "reached"),
        integers=(
            *(shape.steps, shape.groups, grid.segment, shape.k, *shape.inner),
            *shape.strides("A", inputs, "resets"),
        ),
        constants={
            **shape.constants(grid),
            **shape.of_walk(grid),
            "BLOCK": grid.block,
            "UNROLL": grid.reduced,
            "STAGES": grid.reducing,
            "TOGETHER": grid.together,
            "ALL": chunks == 1,
            "ADJOINT": adjoint,
            "BW": shape.width(inputs),
        },
        warps=grid.warps,
    )
    cross = Call(
        kernel=matrix_cross,
        grid=(-(-shape.states // grid.crossing), 1, 1),
        reads=("slope", "exponent", "reached", start),
        writes=("entering",),
        integers=(parts, shape.states, shape.groups, shape.k, *shape.inner, *shape.strides(start)),
        constants={
            **shape.constants(grid),
            "ONE": shape.k == 1,
            "BLOCK": grid.crossing,
            "STAGES": grid.crossed,
        },
        warps=1,
    )
    return scratch, [reduce, cross]
