"""The long short-term memory, without and with peepholes."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import matrix, sigmoid, tanh, vector
from seqpar.cells.torch_layout import TorchLayout


@cell(
    "hidden",
    "hidden",
    w=matrix("inputs", "hidden", 4),
    u=matrix("hidden", "hidden", 4),
    b=vector("hidden", 4, optional=True),
    torch=TorchLayout(gates=4),
)
def lstm(p: Any, state: Any, x: Any) -> Any:
    """The long short-term memory (Gers et al. 2000), as `torch.nn.LSTM` computes it; its state is [h | c].

    i, f, o = sigmoid(W x + U h + b)
    g = tanh(Wg x + Ug h + bg)
    c' = f * c + i * g
    h' = o * tanh(c')

    The columns of w, u and b are in the order i, f, g, o.
    """
    h, c = state
    i, f, g, o = (w @ x + u @ h + b for w, u, b in zip(p.w, p.u, p.b, strict=True))
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell(
    "hidden",
    "hidden",
    w=matrix("inputs", "hidden", 4),
    u=matrix("hidden", "hidden", 4),
    b=vector("hidden", 4, optional=True),
    peep=vector("hidden", 3),
)
def peephole_lstm(p: Any, state: Any, x: Any) -> Any:
    """The LSTM whose gates see the memory (Gers & Schmidhuber 2000, as Graves 2013 has it); its state is [h | c].

    i = sigmoid(Wi x + Ui h + bi + pi * c)
    f = sigmoid(Wf x + Uf h + bf + pf * c)
    g = tanh(Wg x + Ug h + bg)
    c' = f * c + i * g
    o = sigmoid(Wo x + Uo h + bo + po * c')
    h' = o * tanh(c')

    The columns of w, u and b are in the order i, f, g, o; `peep` has pi, pf, po.
    """
    h, c = state
    i, f, g, o = (w @ x + u @ h + b for w, u, b in zip(p.w, p.u, p.b, strict=True))
    pi, pf, po = p.peep
    after = sigmoid(f + pf * c) * c + sigmoid(i + pi * c) * tanh(g)
    return sigmoid(o + po * after) * tanh(after), after
