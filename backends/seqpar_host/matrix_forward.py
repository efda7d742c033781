"""The forward walk of the matrix recurrence, for states that fit in registers.

    plain:      h = M @ k + b    (b alone at a reset);      k = h
    adjoint:    h = b + k;                                  k = M @ h    (0 at a reset)

A step waits for its own sums (some 25 cycles), so several positions are walked abreast: independent states, or further
vectors of columns.
"""

from seqpar_host.matrix_body import ColumnVectors, State, Vector, dropped
from seqpar_host.simd import Int


class VectorForward(Vector):
    """Lanes over the rows of one column."""

    def step(self, step: Int, group: Int, states: State) -> State:
        terms = self.load("b", step, group)
        resets = [self.reset(step, position) for position in self.positions(group)]
        if self.of.adjoint:
            hs = [b + k for b, k in zip(terms, states, strict=True)]
            ks = [
                dropped(reset, matrix.times(h))
                for reset, matrix, h in zip(resets, self.matrices, hs, strict=True)
            ]
        else:
            hs = [matrix.times(k) + b for matrix, k, b in zip(self.matrices, states, terms, strict=True)]
            hs = ks = [
                h if reset is None else reset.select(b, h)
                for reset, b, h in zip(resets, terms, hs, strict=True)
            ]
        self.store("h", step, group, hs)
        return ks


class ColumnsForward(ColumnVectors):
    """Lanes over columns."""

    def step(self, step: Int, group: Int, states: State) -> State:
        terms = self.load("b", step, group)
        reset = self.reset(step, self.origin)
        if self.of.adjoint:
            hs = [b + k for b, k in zip(terms, states, strict=True)]
            ks = [dropped(reset, k) for k in self.times(step, hs)]
        else:
            hs = [x + b for x, b in zip(self.times(step, states), terms, strict=True)]
            hs = ks = hs if reset is None else [reset.select(b, h) for b, h in zip(terms, hs, strict=True)]
        self.store("h", step, group, hs)
        return ks
