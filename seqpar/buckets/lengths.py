"""Lengths as they come (a list, an array of any framework, a histogram) as a sorted histogram; and what is wrong with them."""

from typing import Any, NamedTuple

import numpy as np

from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError

Array = Any


class Histogram(NamedTuple):
    """Distinct lengths, rising, and how many sequences have each."""

    lengths: Array
    counts: Array

    @property
    def samples(self) -> int:
        return int(self.counts.sum())

    @property
    def tokens(self) -> int:
        """Steps of all sequences together."""
        return int((self.lengths * self.counts).sum())


def histogram(name: str, lengths: Any) -> Histogram:
    """Read lengths, or a pair `(lengths, counts)`, for the function called `name`."""
    if is_histogram(lengths):
        given, counts = (
            numbers(name, what, x) for what, x in zip(("lengths", "counts"), lengths, strict=True)
        )
        if given.shape != counts.shape:
            raise ShapeError(
                f"{name}: the histogram has {given.size} lengths and {counts.size} counts. Give a count for each length."
            )
        if float(counts.sum(dtype=np.float64)) >= 2.0**62:
            raise OptionError(
                f"{name}: counts are 2**62 sequences or more. Give counts in larger units: only their proportions matter."
            )
        if given.size and int(counts.max()) == 0:
            raise OptionError(f"{name}: all {counts.size} counts are zero. Give at least one sequence.")
    else:
        given, counts = numbers(name, "lengths", lengths), None
    if given.size == 0:
        raise OptionError(f"{name}: lengths is empty. Give the length of at least one sequence.")
    found = _counted(given, counts)
    if found.lengths[-1] == 0:
        raise OptionError(
            f"{name}: all {found.samples} lengths are zero. Give numbers of steps, at least one of them above zero."
        )
    if (steps := float((np.maximum(found.lengths, 1).astype(np.float64) * found.counts).sum())) >= 2.0**62:
        raise OptionError(
            f"{name}: the sequences have {steps:.3g} steps in all, and counted are fewer than 2**62. "
            "Give counts in larger units: only their proportions matter."
        )
    return found


def padding(boundaries: Array, given: Histogram) -> float:
    """The share of padded steps that no sequence has, where each is padded to the first boundary that holds it."""
    padded = boundaries[np.searchsorted(boundaries, given.lengths)].astype(np.float64)
    # Not `@`: a BLAS whose threads find the cores busy takes 10 ms for a product of 10,000 numbers.
    return 1.0 - given.tokens / float((padded * given.counts).sum())


def summed(where: Array, what: Array, size: int) -> Array:
    """Sums of whole numbers by place, exactly."""
    found = np.zeros(size, np.int64)
    np.add.at(found, where, what)
    return found


def binned(given: Histogram, bins: int = 100) -> tuple[tuple[int, int], ...]:
    """Up to which length how many sequences, in at most so many bins: of equal ratio where lengths differ much, else equal."""
    first, last = max(1, int(given.lengths[0])), int(given.lengths[-1])
    space = np.geomspace if last > 8 * first else np.linspace
    ends = np.minimum(np.ceil(space(first, last, bins)).astype(np.int64), last)
    ends[-1] = last  # which a float may not hold exactly
    ends = np.unique(ends)
    counts = np.zeros(ends.size, np.int64)
    np.add.at(counts, np.searchsorted(ends, given.lengths), given.counts)
    return tuple(zip(ends.tolist(), counts.tolist(), strict=True))


def is_histogram(lengths: Any) -> bool:
    """Is this a pair (lengths, counts), not two lengths?"""
    return (
        isinstance(lengths, tuple)
        and len(lengths) == 2
        and all(np.ndim(x) > 0 or getattr(x, "shape", ()) != () for x in lengths)
    )


def are_pairs(lengths: Any) -> bool:
    """Are these pairs of lengths, or a histogram of pairs?"""
    if is_histogram(lengths):
        return np.ndim(lengths[0]) == 2
    if isinstance(lengths, (list, tuple)):
        return len(lengths) > 0 and np.ndim(lengths[0]) == 1 and len(lengths[0]) == 2
    return np.ndim(lengths) == 2 and np.shape(lengths)[1] == 2


def numbers(name: str, what: str, given: Any) -> Array:
    """Whole numbers of zero or more as a 1-D NumPy array of int64."""
    values = on_host(name, what, given)
    if values.ndim == 0:
        # A number or a string; or a generator, a set, a dictionary, none of which NumPy looks into.
        raise ShapeError(
            f"{name}: {what} of type {type(given).__name__} is not one list. Give a list or an array with one number per "
            "sequence, or a histogram as a tuple (lengths, counts)."
        )
    if values.ndim != 1:
        raise ShapeError(
            f"{name}: {what}.shape={values.shape} is not one list. Give one number per sequence, as [len(x) for x in sequences]."
        )
    return whole(name, what, values)


def whole(name: str, what: str, values: Array) -> Array:
    """The same for an array of any rank that is on the host."""
    if values.size == 0:
        return values.astype(np.int64)
    exact = values.dtype == object and all(type(x) is int or isinstance(x, np.integer) for x in values.flat)
    if values.dtype.kind not in "iu" and not exact:
        bad = _first_fraction(values)
        raise DtypeError(
            f"{name}: {what} {'contains ' + bad if bad else f'has dtype {values.dtype}'}, which is no whole number of steps. "
            "Give integers" + ("." if bad else f", for instance {what}.astype(int).")
        )
    if int(values.min()) < 0:
        raise OptionError(f"{name}: {what} contains {int(values.min())}. Give numbers of zero or more.")
    if int(values.max()) > 2**62:
        raise OptionError(f"{name}: {what} contains {int(values.max())}. Give numbers of at most 2**62.")
    return values.astype(np.int64, copy=False)


def on_host(name: str, what: str, given: Any) -> Array:
    """The values as a NumPy array, from wherever they are."""
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise ArrayTypeError(
            f"{name}: {what} has masked entries, and each sequence has a length. Give {what}.compressed(), or fill them."
        )
    try:
        return np.asarray(given)
    except Exception as error:  # arrays on a device refuse, each with an error of its own, and offer a list
        try:
            return np.asarray(given.tolist())
        except Exception:
            kind = type(given).__name__
            raise ArrayTypeError(
                f"{name}: {what} is a {kind} whose values cannot be read as whole numbers ({error}). Give a list or an array of "
                "integers, one for each sequence, as [len(x) for x in sequences] is, outside of jit, vmap or compile."
            ) from error


def _counted(lengths: Array, counts: Array | None) -> Histogram:
    longest = int(lengths.max())
    if longest < 4 * lengths.size + 1024:
        # Counting is 10 times as fast as sorting. Weights of bincount would be floats, and not whole beyond 2**53.
        found = np.zeros(longest + 1, np.int64)
        if counts is None:
            found += np.bincount(lengths, minlength=longest + 1)
        else:
            np.add.at(found, lengths, counts)
        kept = np.flatnonzero(found)
        return Histogram(kept, found[kept])
    distinct, where = np.unique(lengths, return_inverse=True)
    found = np.zeros(distinct.size, np.int64)
    np.add.at(found, where, 1 if counts is None else counts)
    kept = np.flatnonzero(found)
    return Histogram(distinct[kept], found[kept])


def _first_fraction(values: Array) -> str:
    if values.dtype.kind == "f":
        odd = values[~(values == np.floor(values)) | np.isinf(values)]
        return str(odd.flat[0]) if odd.size else ""
    if values.dtype.kind == "b":
        return ""
    odd = [x for x in values.flat if not isinstance(x, (int, np.integer))]
    return repr((odd or [values.flat[0]])[0])
