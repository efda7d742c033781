"""Recurrent cells: step functions for `seqpar.recurrence`, with fused kernels, initialisers and the way from and to torch.nn.

A cell is written once, as a Python function of symbols (`seqpar.cells.language`); its step on arrays, its derivatives and its
kernels are made from that.

>>> import numpy as np, seqpar
>>> from seqpar import cells
>>> params = cells.gru.init(0, inputs=3, hidden=8)
>>> x = np.random.default_rng(0).standard_normal((2, 1000, 3), dtype=np.float32)
>>> seqpar.recurrence(cells.gru, x, None, params).shape
(2, 1000, 8)
"""

from seqpar.cells.cell import Cell
from seqpar.cells.cornn import cornn
from seqpar.cells.elman import elman
from seqpar.cells.gru import gru, original_gru
from seqpar.cells.indrnn import indrnn
from seqpar.cells.jordan import jordan
from seqpar.cells.lem import lem
from seqpar.cells.lstm import lstm, peephole_lstm
from seqpar.cells.mgu import mgu
from seqpar.cells.mingru import mingru

__all__ = [
    "Cell",
    "cornn",
    "elman",
    "gru",
    "indrnn",
    "jordan",
    "lem",
    "lstm",
    "mgu",
    "mingru",
    "original_gru",
    "peephole_lstm",
]
