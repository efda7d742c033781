"""Parameters to start training from, drawn by NumPy and handed over in any framework.

The same seed gives the same numbers everywhere, so that networks of two frameworks can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from seqpar.cells.program import Parameter, Program
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, OptionError, unknown_name
from seqpar.validation import floating

Numbers = npt.NDArray[np.float64]
Between = Mapping[str, tuple[float, float]]
"""By parameter the numbers between which it starts, where its paper says so."""


def draw(
    cell: str,
    program: Program,
    between: Between,
    seed: Any,
    sizes: Mapping[str, int],
    like: Array | None,
    scheme: str,
    bias: bool,
) -> dict[str, Array]:
    """Parameters by name, in the order of the program."""
    if scheme not in SCHEMES:
        raise unknown_name(f"{cell}.init", "scheme", scheme, SCHEMES)
    given = _checked(cell, program, sizes)
    rng = np.random.default_rng(_words(cell, seed))
    found = {}
    for p in program.parameters:
        # What is left out is drawn too: the others are the same with biases and without.
        if p.name in between:
            values = rng.uniform(*between[p.name], p.shape(given))
        else:
            values = SCHEMES[scheme](rng, p, given)
        if bias or not p.optional:
            found[p.name] = values
    if like is not None:
        _array(cell, like)
    example = like if like is not None else seed
    if not hasattr(example, "dtype") or (type(example).__module__ == "numpy" and like is None):
        return {name: values.astype(np.float32) for name, values in found.items()}
    binding = binding_for(type(example))
    dtype = "float32" if like is None else floating(f"{cell}.init", "like", binding.dtype_name(like.dtype))
    return {name: binding.cast(binding.from_numpy(values, example), dtype) for name, values in found.items()}


def _array(cell: str, like: Any) -> None:
    """Raise unless `like` tells a framework and a dtype."""
    try:
        known = binding_for(type(like)) is not None and hasattr(like, "dtype")
    except ArrayTypeError:
        known = False
    if not known:
        raise OptionError(
            f"{cell}.init: like is {like if isinstance(like, type) else type(like)}, not an array. Give one of the dtype and "
            "framework that parameters are to have: torch.zeros(1, dtype=...), or np.zeros(1, ...)."
        )


def _as_torch(rng: np.random.Generator, p: Parameter, sizes: dict[str, int]) -> Numbers:
    """As torch.nn draws them: everything uniformly from -1/sqrt(hidden) to 1/sqrt(hidden)."""
    bound = 1 / np.sqrt(sizes["hidden"])
    return rng.uniform(-bound, bound, p.shape(sizes))


def _orthogonal(rng: np.random.Generator, p: Parameter, sizes: dict[str, int]) -> Numbers:
    """As Flax draws them, each gate by itself: the state's matrices orthogonal, the input's LeCun normal, vectors zero."""
    if not p.rows:
        return np.zeros(p.shape(sizes))
    make = _lecun_normal if p.rows == "inputs" else _rotation
    return np.concatenate([make(rng, sizes[p.rows], sizes[p.columns]) for _ in range(p.gates)], axis=1)


def _glorot(rng: np.random.Generator, p: Parameter, sizes: dict[str, int]) -> Numbers:
    """Each gate uniform with variance 2 / (rows + columns), vectors zero (Glorot & Bengio 2010)."""
    if not p.rows:
        return np.zeros(p.shape(sizes))
    bound = np.sqrt(6 / (sizes[p.rows] + sizes[p.columns]))
    return rng.uniform(-bound, bound, p.shape(sizes))


SCHEMES = {"torch": _as_torch, "orthogonal": _orthogonal, "glorot": _glorot}


def _lecun_normal(rng: np.random.Generator, rows: int, columns: int) -> Numbers:
    """Of variance 1 / rows, from a normal distribution without what is beyond two deviations."""
    values = rng.standard_normal((rows, columns))
    while (beyond := np.abs(values) > 2).any():
        values[beyond] = rng.standard_normal(np.count_nonzero(beyond))
    # 0.8796 is the deviation of what is left of the distribution.
    cut: Numbers = values / (0.87962566103423978 * np.sqrt(rows))
    return cut


def _rotation(rng: np.random.Generator, rows: int, columns: int) -> Numbers:
    """Orthonormal rows or columns, whichever are fewer, uniformly over all of them (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    turned: Numbers = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return turned if rows >= columns else turned.T


def _checked(cell: str, program: Program, sizes: Mapping[str, int]) -> dict[str, int]:
    known = {space for p in program.parameters for space in (p.rows, p.columns) if space}
    found: dict[str, int] = {}
    for space, size in sizes.items():
        if space not in known | {"hidden"}:
            raise unknown_name(f"{cell}.init", "argument", space, known)
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise OptionError(f"{cell}.init: {space}={size!r} is not a whole number of 1 or more.")
        found[space] = int(size)
    # Spaces that are not spoken of are as large as the hidden one.
    return dict.fromkeys(sorted(known), found["hidden"]) | found


def _words(cell: str, seed: Any) -> npt.NDArray[Any]:
    """A seed as numbers that NumPy's generators take."""
    try:
        known = binding_for(type(seed)).seed_words(seed) if hasattr(seed, "dtype") else np.asarray(seed)
        words = known.ravel()
    except Exception as error:
        raise OptionError(
            f"{cell}.init: the seed has no values here ({type(error).__name__}). Parameters are drawn by NumPy: call init "
            "outside of jax.jit, jax.vmap and torch.compile."
        ) from None
    if words.dtype.kind not in "iu" or not words.size or (words < 0).any():
        raise OptionError(
            f"{cell}.init: seed={seed!r}. Give a whole number of 0 or more, or a key of jax.random."
        )
    return words
