"""Elements of a Kalman filter, by which all filtered means and covariances are one associative scan.

S. Särkkä, A. F. García-Fernández: Temporal parallelization of Bayesian smoothers. IEEE Transactions on Automatic Control 66(1),
2021, section IV.
"""

from typing import Any

from seqpar.monoids.matrices import identity_matrix, product
from seqpar.monoids.monoid import Array, Element, alike, framework, monoid, namespace


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
    # One solve for all three, inv(I + C_i J_j) [A_i | C_i | b_i + C_i eta_j]; the other inverse in the paper is its transpose.
    # A vector is one more column of a matrix wherever both are multiplied by the same: half the products.
    seen, shift = _parted(product(c_i, _joined(j_j, eta_j)))
    solved = _solve(identity_matrix(a_i) + seen, _joined(a_i, c_i, b_i + shift))
    carried, mean = _parted(product(a_j, solved))
    told, known = _parted(product(j_j, _joined(a_i, b_i)))
    back, eta = _parted(product(_transpose(solved[..., :n]), _joined(told, eta_j - known)))
    spread = product(carried[..., n:], _transpose(a_j))
    return alike(left, carried[..., :n], mean + b_j, spread + c_j, eta + eta_i, back + j_i)


def _joined(*parts: Array) -> Array:
    """Matrices side by side, with a vector as the last column."""
    return namespace(parts[0]).concat([*parts[:-1], parts[-1][..., None]], axis=-1)


def _parted(x: Array) -> tuple[Array, Array]:
    """All columns but the last as a matrix, and the last as a vector."""
    return x[..., :-1], x[..., -1]


def _transpose(x: Array) -> Array:
    return namespace(x).matrix_transpose(x)


def _solve(matrices: Array, sides: Array) -> Array:
    """The solutions of matrices @ x = sides.

    Written out for JAX: its LAPACK calls wait for threads of the pool that they run in, and two of them at a time on two cores
    wait for ever (JAX 0.10, 100,000 matrices). Written out also where there is no linear algebra.
    """
    if framework(matrices) in ("numpy", "torch"):
        return namespace(matrices).linalg.solve(matrices, sides)
    return eliminated(namespace(matrices), matrices, sides)


def eliminated(xp: Any, matrices: Array, sides: Array) -> Array:
    """The same by Gauss and Jordan over all matrices at once. Rows stay where they are: the pivot of each column is selected."""
    n = matrices.shape[-1]
    rows = xp.concat([matrices, sides], axis=-1)
    numbers = xp.arange(n)
    done, pivots = None, []
    for k in range(n):
        column = rows[..., k]
        size = xp.abs(column)
        best = xp.argmax(
            size if done is None else xp.where(done, -xp.ones_like(size), size), axis=-1, keepdims=True
        )
        here = numbers == best
        done = here if done is None else done | here
        pivots.append(here)
        row = xp.sum(xp.where(here[..., None], rows, xp.zeros_like(rows)), axis=-2, keepdims=True)
        row = row / row[..., k : k + 1]
        rows = xp.where(here[..., None], row, rows - column[..., None] * row)
    order = xp.astype(xp.stack(pivots, axis=-2), sides.dtype)
    return product(order, rows[..., n:])
