"""The gated recurrent unit, as PyTorch and cuDNN have it and as it was published."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import matrix, sigmoid, tanh, vector
from seqpar.cells.torch_layout import TorchLayout


@cell(
    w=matrix("inputs", "hidden", 3),
    u=matrix("hidden", "hidden", 3),
    b=vector("hidden", 3, optional=True),
    c=vector("hidden", optional=True),
    torch=TorchLayout(gates=3, apart="c"),
)
def gru(p: Any, h: Any, x: Any) -> Any:
    """The gated recurrent unit, as `torch.nn.GRU`, cuDNN, Flax and Keras compute it: r acts on the product of the state.

    r = sigmoid(Wr x + Ur h + br)
    z = sigmoid(Wz x + Uz h + bz)
    n = tanh(Wn x + bn + r * (Un h + c))
    h' = (1 - z) * n + z * h
    """
    (wr, wz, wn), (ur, uz, un), (br, bz, bn) = p.w, p.u, p.b
    r = sigmoid(wr @ x + ur @ h + br)
    z = sigmoid(wz @ x + uz @ h + bz)
    n = tanh(wn @ x + bn + r * (un @ h + p.c))
    return n + z * (h - n)


@cell(
    w=matrix("inputs", "hidden", 3),
    u=matrix("hidden", "hidden", 2),
    v=matrix("hidden", "hidden"),
    b=vector("hidden", 3, optional=True),
)
def original_gru(p: Any, h: Any, x: Any) -> Any:
    """The gated recurrent unit of Cho et al. 2014 (arXiv:1406.1078): r acts on the state, before the product.

    r = sigmoid(Wr x + Ur h + br)
    z = sigmoid(Wz x + Uz h + bz)
    n = tanh(Wn x + V (r * h) + bn)
    h' = (1 - z) * n + z * h

    z keeps the state, as in that paper and in `gru`; Chung et al. 2014 write 1 - z for it.
    """
    (wr, wz, wn), (ur, uz), (br, bz, bn) = p.w, p.u, p.b
    r = sigmoid(wr @ x + ur @ h + br)
    z = sigmoid(wz @ x + uz @ h + bz)
    n = tanh(wn @ x + p.v @ (r * h) + bn)
    return n + z * (h - n)
