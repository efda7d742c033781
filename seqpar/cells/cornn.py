"""The coupled oscillatory network."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import matrix, tanh, vector


@cell(
    "hidden",
    "hidden",
    w=matrix("inputs", "hidden"),
    u=matrix("hidden", "hidden"),
    v=matrix("hidden", "hidden"),
    b=vector("hidden", optional=True),
    # What its authors took for sequential MNIST.
    constants={"dt": 0.042, "gamma": 2.7, "epsilon": 4.7},
)
def cornn(p: Any, state: Any, x: Any, dt: float, gamma: float, epsilon: float) -> Any:
    """The coupled oscillatory network (Rusch & Mishra 2021, arXiv:2010.00951); its state is [y | z], z the velocity of y.

    z' = z + dt * (tanh(W x + U y + V z + b) - gamma * y - epsilon * z)
    y' = y + dt * z'
    """
    y, z = state
    z = z + dt * (tanh(p.w @ x + p.u @ y + p.v @ z + p.b) - gamma * y - epsilon * z)
    return y + dt * z, z
