"""The long short-term memory, without and with peepholes."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import matrix, sigmoid, tanh, vector


@cell(
    "hidden",
    "hidden",
    w=matrix("inputs", "hidden", 4),
    u=matrix("hidden", "hidden", 4),
    b=vector("hidden", 4, optional=True),
)
def lstm(p: Any, state: Any, x: Any) -> Any:
    """The long short-term memory, as `torch.nn.LSTM` computes it; its state is [h | c].

    i, f, o = sigmoid(W x + U h + b), g = tanh(Wg x + Ug h + bg), c' = f * c + i * g, h' = o * tanh(c')
    """
    h, c = state
    i, f, g, o = (w @ x + u @ h + b for w, u, b in zip(p.w, p.u, p.b, strict=True))
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c
