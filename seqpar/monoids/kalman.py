"""Elements of a Kalman filter, by which all filtered means and covariances are one associative scan.

S. Särkkä, A. F. García-Fernández: Temporal parallelization of Bayesian smoothers. IEEE Transactions on Automatic Control 66(1),
2021, section IV.
"""

from typing import Any

from seqpar.monoids.matrices import applied, identity_matrix, product
from seqpar.monoids.monoid import Array, Element, alike, monoid, namespace


def _nothing(elems: Element) -> Any:
    return alike(elems, identity_matrix(elems[0]), 0, 0, 0, 0)


@monoid(_nothing)
def kalman_filter(left: Element, right: Element) -> Element:
    """Elements (A, b, C, eta, J) of one or more steps, matrices (..., n, n) and vectors (..., n). Identity (I, 0, 0, 0, 0).

    Given the state x before the steps, the state after them is N(A x + b, C), and what was observed in them has, up to a factor,
    the likelihood exp(eta' x - x' J x / 2). For

        x[t] = F x[t-1] + q,  y[t] = H x[t] + r   with covariances Q of q and R of r,  S = H Q H' + R,  K = Q H' inv(S)

    the element of a step is

        A = (I - K H) F,  b = K y,  C = (I - K H) Q,  eta = F' H' inv(S) y,  J = F' H' inv(S) H F

    and that of the first step has its filtered mean and covariance for b and C, and zeros elsewhere. Then b and C of the scan are
    all filtered means and covariances: `examples/kalman_filter.py` has it whole.
    """
    (a_i, b_i, c_i, eta_i, j_i), (a_j, b_j, c_j, eta_j, j_j) = left, right
    n = a_i.shape[-1]
    # One solve for all three: (I + C_i J_j)^-1 [A_i | C_i | b_i + C_i eta_j]; the other inverse in the paper is its transpose.
    sides = namespace(a_i).concat([a_i, c_i, (b_i + applied(c_i, eta_j))[..., None]], axis=-1)
    solved = _solve(identity_matrix(a_i) + product(c_i, j_j), sides)
    through, spread, mean = solved[..., :n], solved[..., n : 2 * n], solved[..., 2 * n]
    back = _transpose(through)
    return alike(
        left,
        product(a_j, through),
        applied(a_j, mean) + b_j,
        product(product(a_j, spread), _transpose(a_j)) + c_j,
        applied(back, eta_j - applied(j_j, b_i)) + eta_i,
        product(product(back, j_j), a_i) + j_i,
    )


def _transpose(x: Array) -> Array:
    return namespace(x).matrix_transpose(x)


def _solve(matrices: Array, sides: Array) -> Array:
    return namespace(matrices).linalg.solve(matrices, sides)
