"""Ready-made associative functions for `seqpar.associative_scan`, in any framework.

Each is a plain function of two elements, for `jax.lax.associative_scan` or a reduction of your own too, and knows its identity,
so that ``exclusive=True`` needs no `init`. To join two elements means: first the left one, then the right one.

>>> import numpy as np
>>> from seqpar import monoids
>>> monoids.affine((2.0, 1.0), (3.0, 5.0))                  # h -> 2 h + 1, then h -> 3 h + 5
(6.0, 8.0)
"""

from seqpar.monoids.elementwise import add, affine, logaddexp, maximum, minimum, multiply
from seqpar.monoids.kalman import kalman_filter
from seqpar.monoids.matrices import matmul, matrix_affine
from seqpar.monoids.monoid import Monoid
from seqpar.monoids.quaternion import quaternion_product
from seqpar.monoids.segmented import segmented

__all__ = [
    "Monoid",
    "add",
    "affine",
    "kalman_filter",
    "logaddexp",
    "matmul",
    "matrix_affine",
    "maximum",
    "minimum",
    "multiply",
    "quaternion_product",
    "segmented",
]
