"""The host's tiles of cells on NumPy memory: some rows walked at once, each a sequence of its own."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types

from seqpar.cells.program import Program
from seqpar.testing.oracle import Array
from seqpar_host import cell_job, cell_weights, compile
from seqpar_host.cell_job import CELL_SLOTS, CellSpecialisation
from seqpar_host.formats import reach_of


def _pack(words: int, source: int, target: int) -> int:
    cell_weights.pack(words, source, target)
    return 0


def pack(kernel: str, program: Program, sizes: dict[str, int], lanes: int, weights: Array) -> Array:
    """Weights as a tile reads them, into memory that holds NaN before."""
    size, words = cell_weights.layout(kernel, program, sizes, lanes, weights.dtype.name)
    target, said = aligned(size, weights.dtype.name), np.array(words, np.int64)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(_packer())
    function(said.ctypes.data, weights.ctypes.data, target.ctypes.data)
    return target


def _packer() -> int:
    if "pack" not in _known:
        from numba import cfunc

        _known["pack"] = cfunc(types.int64(types.int64, types.int64, types.int64), cache=False)(_pack)
    return int(_known["pack"].address)


_known: dict[str, Any] = {}


def aligned(size: int, dtype: str) -> Array:
    """NaN at a multiple of 64 bytes."""
    numbers = size // np.dtype(dtype).itemsize
    room = np.full(numbers + 64, np.nan, dtype)
    skip = -room.ctypes.data % 64 // room.itemsize
    return room[skip : skip + numbers]


class Tile:
    """One compiled tile: called with arrays, a row each."""

    def __init__(
        self, kernel: str, program: Program, sizes: dict[str, int], rows: int, dtype: str, lanes: int = 0
    ) -> None:
        self.kernel, self.program, self.sizes, self.rows, self.dtype = kernel, program, sizes, rows, dtype
        widest = max(sizes[space] for space in program.parts)
        self.lanes = lanes or cell_job.lanes_for(widest, dtype)

    def __call__(
        self, weights: Array, carries: Array, slots: dict[str, Sequence[Array] | None], steps: int
    ) -> Array:
        """Walk. Carries (rows, n); slots: per row (steps, units), of down walks reversed views; the carries after it."""
        kernel, program, sizes, dtype = self.kernel, self.program, self.sizes, self.dtype
        names, given = CELL_SLOTS[kernel], {name: rows for name, rows in slots.items() if rows is not None}
        packed = pack(kernel, program, sizes, self.lanes, weights)
        scratch = aligned(cell_job.scratch_bytes(kernel, program, sizes, self.lanes, dtype, self.rows), dtype)
        padded = aligned(
            self.rows * cell_job.carry_bytes(kernel, program, sizes, self.lanes, dtype), dtype
        ).reshape(self.rows, -1)
        padded[...] = 0
        for part in self.parts():
            padded[:, part[1]] = carries[:, part[0]]
        words = np.zeros(cell_job.job_words(kernel, program, self.rows), np.int64)
        words[cell_job.STEPS] = steps
        words[cell_job.WEIGHTS], words[cell_job.SCRATCH] = packed.ctypes.data, scratch.ctypes.data
        for space in (*cell_job.spaces(program), "inputs"):
            words[cell_job.size_word(kernel, program, space)] = sizes[space]
        formats, reaches = [], []
        for name in names:
            rows = given.get(name)
            formats.append("" if rows is None else rows[0].dtype.name)
            reaches.append(
                ""
                if rows is None
                else "packed"
                if name == "resets"
                else reach_of(rows[0].strides[-1], rows[0].itemsize)
            )
            if rows is None:
                continue
            at = cell_job.slot_word(kernel, name)
            timeless = name == "h0"
            words[at] = 0 if timeless else rows[0].strides[0]
            words[at + 1] = 0 if name == "resets" else rows[0].strides[-1]
            for row, array in enumerate(rows):
                words[cell_job.row_word(kernel, program, row, name)] = array.ctypes.data
        for row in range(self.rows):
            words[cell_job.row_word(kernel, program, row)] = padded[row].ctypes.data
        whole = all(n % self.lanes == 0 for space, n in sizes.items() if space in cell_job.spaces(program))
        of = CellSpecialisation(
            kernel, program.text, dtype, self.lanes, self.rows, tuple(formats), tuple(reaches), whole
        )
        function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(compile.kernel_address(of))
        self.function, self.words, self.alive = function, words, (packed, scratch, padded, slots)
        assert function(words.ctypes.data) == 0
        found = np.empty_like(carries)
        outside = np.ones(padded.shape[1], bool)
        for part in self.parts():
            found[:, part[0]] = padded[:, part[1]]
            outside[part[1]] = False
        assert not padded[:, outside].any(), "the padding of a carry is zero"
        return found

    def parts(self) -> list[tuple[slice, slice]]:
        """Of each part of a state where it lies in an array and in a carry."""
        found, first, at = [], 0, 0
        for space in self.program.parts:
            n = self.sizes[space]
            found.append((slice(first, first + n), slice(at, at + n)))
            first, at = first + n, at + cell_job.padded(n, self.lanes)
        return found


def forward(
    program: Program,
    sizes: dict[str, int],
    x: Array,
    h0: Array,
    weights: Array,
    resets: Array | None = None,
    rows: int = 1,
    lanes: int = 0,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """(states, carries after them): x (batch, T, m), h0 (batch, n), as many rows at once as `rows` says."""
    batch, steps = x.shape[:2]
    states = np.full((batch, steps, h0.shape[1]), np.nan, x.dtype) if out is None else out
    tile = Tile("cell", program, sizes, rows, x.dtype.name, lanes)
    carries = []
    for i in range(0, batch, rows):
        some = slice(i, i + rows)
        slots: dict[str, Any] = {"x": list(x[some]), "states": list(states[some])}
        if resets is not None:
            slots |= {"resets": list(resets[some]), "h0": list(h0[some])}
        carries.append(tile(weights, h0[some], slots, steps))
    return states, np.concatenate(carries)


def backward(
    program: Program,
    sizes: dict[str, int],
    x: Array,
    h0: Array,
    weights: Array,
    states: Array,
    g: Array,
    resets: Array | None = None,
    rows: int = 1,
    lanes: int = 0,
) -> tuple[Array, Array, Array | None]:
    """(stored, gradients of h0 as far as it enters the first step, those of the states that enter each step with resets)."""
    from seqpar.cells.adjoint import adjoint

    batch, steps, _ = x.shape
    reverse = adjoint(program)
    stored = np.full((batch, steps, reverse.width(reverse.stored, sizes)), np.nan, x.dtype)
    entered = None if resets is None else np.full_like(states, np.nan)
    before = np.concatenate([h0[:, None], states[:, :-1]], axis=1)
    tile = Tile("cell_backward", program, sizes, rows, x.dtype.name, lanes)
    carries = []
    for i in range(0, batch, rows):
        some = slice(i, i + rows)

        def down(a: Array, some: slice = some) -> list[Array]:
            return [row[::-1] for row in a[some]]

        slots: dict[str, Any] = {
            "x": down(x),
            "before": down(before),
            "given": down(g),
            "stored": down(stored),
        }
        if resets is not None and entered is not None:
            slots |= {"resets": down(resets), "h0": list(h0[some]), "entered": down(entered)}
        carries.append(tile(weights, np.zeros_like(h0[some]), slots, steps))
    return stored, np.concatenate(carries), entered
