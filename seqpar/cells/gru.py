"""The gated recurrent unit, as PyTorch and cuDNN have it and as it was published."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import matrix, sigmoid, tanh, vector


@cell(
    w=matrix("inputs", "hidden", 3),
    u=matrix("hidden", "hidden", 3),
    b=vector("hidden", 3, optional=True),
    c=vector("hidden", optional=True),
)
def gru(p: Any, h: Any, x: Any) -> Any:
    """The gated recurrent unit, as `torch.nn.GRU` computes it: the reset gate acts on the product of the state.

    r = sigmoid(Wr x + Ur h + br), z = sigmoid(Wz x + Uz h + bz), n = tanh(Wn x + bn + r * (Un h + c)), h' = n + z * (h - n)
    """
    (wr, wz, wn), (ur, uz, un), (br, bz, bn) = p.w, p.u, p.b
    r = sigmoid(wr @ x + ur @ h + br)
    z = sigmoid(wz @ x + uz @ h + bz)
    n = tanh(wn @ x + bn + r * (un @ h + p.c))
    return n + z * (h - n)
