"""Checks that every operation makes of its arguments before any kernel starts.

Each raises in the form: the operation, what was given, the rule it broke, what to do.
"""

from collections.abc import Sequence
from typing import Any

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError

Shape = tuple[int, ...]

HALF = ("float16", "bfloat16")
REAL = (*HALF, "float32", "float64")
COMPLEX = ("complex64", "complex128")

_COMPLEX_OF = {
    "float16": "complex64",
    "bfloat16": "complex64",
    "float32": "complex64",
    "float64": "complex128",
}


def is_scalar(x: Any) -> bool:
    """A Python number, or a NumPy scalar or 0-dimensional array of one: taken in the dtype of the arrays around it."""
    if isinstance(x, (int, float, complex)):
        return True
    return type(x).__module__ == "numpy" and getattr(x, "shape", None) == () and x.dtype.kind in "biufc"


def number_of(operation: str, name: str, x: Any) -> complex:
    """A scalar as a Python number that an array can hold."""
    number: complex = x.item() if hasattr(x, "item") else x
    try:
        complex(number)
    except OverflowError:
        raise OptionError(
            f"{operation}: {name} is an integer of {len(str(abs(number)))} digits. Give a number within the range of float64."
        ) from None
    return number


def is_complex_number(x: Any) -> bool:
    """Does a scalar have an imaginary part by its type?"""
    return isinstance(x, complex) or getattr(getattr(x, "dtype", None), "kind", "") == "c"


def flag(operation: str, name: str, value: Any) -> bool:
    """A boolean option; anything else would be guessed at."""
    if value is True or value is False or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise OptionError(f"{operation}: {name}={value!r} is not a boolean. Give {name}=True or {name}=False.")


def binding_of(
    operation: str,
    scalars: Sequence[str],
    optional: Sequence[str],
    what: str = "an array with a time axis",
    **arrays: Any,
) -> Binding:
    """The one binding of all arrays given; Python scalars and None pass where the names say so."""
    binding: Binding | None = None
    first = ""
    for name, x in arrays.items():
        if x is None:
            if name not in optional:
                raise ArrayTypeError(f"{operation}: {name} is None. Give {what}.")
            continue
        if is_scalar(x):
            if name not in scalars:
                raise ArrayTypeError(f"{operation}: {name}={x!r} is a number. Give {what}.")
            continue
        if isinstance(x, (list, tuple, range)):
            raise ArrayTypeError(
                f"{operation}: {name} is a {type(x).__name__}, not an array. Convert it first, for example "
                f"with {_converter(arrays)}({name})."
            )
        try:
            found = binding_for(type(x))
        except ArrayTypeError as error:
            raise ArrayTypeError(f"{operation}: {name}: {error}") from None
        if binding is None:
            binding, first = found, name
        elif found is not binding:
            raise ArrayTypeError(
                f"{operation}: {first} is a {binding.framework} array and {name} a {found.framework} array. "
                "Give all arrays in one framework; nothing is converted behind your back."
                + (
                    " resets_from_lengths makes its mask where the array of lengths is."
                    if name == "resets"
                    else ""
                )
            )
    if binding is None:
        raise ArrayTypeError(
            f"{operation}: no array was given. Give at least {what.replace('an ', 'one ', 1)}."
        )
    return binding


def _converter(arrays: dict[str, Any]) -> str:
    """How a list becomes an array of the framework that the other arguments are in."""
    known = {"torch": "torch.as_tensor", "jax": "jnp.asarray", "jaxlib": "jnp.asarray", "cupy": "cp.asarray"}
    modules = [type(x).__module__.partition(".")[0] for x in arrays.values()]
    return next((known[module] for module in modules if module in known), "np.asarray")


def same_device(operation: str, binding: Binding, **arrays: Any) -> None:
    """Refuse arrays on different devices; nothing is moved behind the user's back."""
    first: tuple[str, Any] | None = None
    for name, x in arrays.items():
        if x is None or is_scalar(x):
            continue
        device = binding.device_of(x)
        if device is None:  # under tracing there is none
            continue
        if first is None:
            first = (name, device)
        elif device != first[1]:
            raise ArrayTypeError(
                f"{operation}: {first[0]} is on {first[1]} and {name} on {device}. Move them to one device first."
            )


def floating(operation: str, name: str, dtype: str) -> str:
    """The dtype name, if it is one of the floating or complex kinds."""
    if dtype not in REAL and dtype not in COMPLEX:
        raise DtypeError(
            f"{operation}: {name}.dtype={dtype} is not one of {', '.join((*REAL, *COMPLEX))}. "
            f"Cast it first, for example {name}.astype('float32'), or {name}.float() in PyTorch."
        )
    return dtype


def boolean(operation: str, name: str, dtype: str) -> None:
    """Refuse a mask that is not boolean."""
    if dtype != "bool":
        raise DtypeError(
            f"{operation}: {name}.dtype={dtype} is not boolean. Give a mask: {name} != 0, or for lengths "
            "of sequences seqpar.resets_from_lengths(lengths)."
        )


def complex_of(dtype: str) -> str:
    """The complex kind that goes with a floating kind."""
    return _COMPLEX_OF.get(dtype, dtype)


def state_of(dtype: str) -> str:
    """The dtype in which a state is carried: float32 for the half kinds."""
    return "float32" if dtype in HALF else dtype


def time_axis(operation: str, axis: Any, shape: Shape) -> int:
    """The time axis as a number from the front. One-dimensional input uses its only axis."""
    rank = len(shape)
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise OptionError(f"{operation}: axis={axis!r} is not an integer. Give the number of the time axis.")
    number = int(axis.__index__())
    if rank == 0:
        raise ShapeError(
            f"{operation}: a 0-dimensional input has no time axis. Give an array with at least one axis."
        )
    if rank == 1 and number == -2:
        return 0
    if not -rank <= number < rank:
        raise ShapeError(
            f"{operation}: axis={number} is out of range for an input of shape {shape}. "
            f"Give an axis from {-rank} to {rank - 1}."
        )
    return number % rank


def broadcast(
    operation: str,
    names: tuple[str, str],
    left: Shape,
    right: Shape,
    axis: int,
    of: tuple[Shape, Shape] | None = None,
    behind: tuple[str, str] | None = None,
) -> Shape:
    """NumPy's broadcasting of two shapes, both ways; `axis` (as the user gave it) only words the error.

    Where only axes in front broadcast, `of` are the whole shapes and `behind` the other axes in an index, for the error.
    """
    rank = max(len(left), len(right))
    wide_left, wide_right = pad(left, rank), pad(right, rank)
    for i, (m, n) in enumerate(zip(wide_left, wide_right, strict=True)):
        if m != n and m != 1 and n != 1:
            time = axis % rank == i if -rank <= axis < rank else rank == 1
            where = f"along axis={axis} (time)" if time else f"along axis={i - rank}"
            short = 0 if len(left) < len(right) else 1
            if len(left) != len(right) and _fit(*((*s, 1) if len(s) < rank else s for s in (left, right))):
                last = "last axis" if behind is None else "last axis in front of the state"
                rest = "" if behind is None else behind[short]
                mend = f"Shapes align at the {last}: {names[short]}[..., None{rest}] would fit."
            elif time:
                mend = f"Give {names[0]} and {names[1]} the same number of steps."
            else:
                mend = "Sizes must be equal, or one of them 1."
            whole = of or (left, right)
            raise ShapeError(
                f"{operation}: {names[0]}.shape={tuple(whole[0])} does not broadcast against "
                f"{names[1]}.shape={tuple(whole[1])} {where}. {mend}"
            )
    return tuple(n if m == 1 else m for m, n in zip(wide_left, wide_right, strict=True))


def _fit(left: Shape, right: Shape) -> bool:
    rank = max(len(left), len(right))
    return all(m == n or 1 in (m, n) for m, n in zip(pad(left, rank), pad(right, rank), strict=True))


def broadcasts_to(operation: str, name: str, shape: Shape, target: Shape, meaning: str) -> None:
    """Refuse a shape that does not broadcast to the target (one way)."""
    # Not `m in (1, n)`, which torch.compile cannot tell of sizes that it holds open.
    fits = len(shape) <= len(target) and all(
        m == 1 or m == n for m, n in zip(pad(shape, len(target)), target, strict=True)
    )
    if not fits:
        raise ShapeError(
            f"{operation}: {name}.shape={tuple(shape)} does not broadcast to {tuple(target)}, {meaning}. "
            f"Give {name} that shape, or one with sizes of 1 in it."
        )


def pad(shape: Shape, rank: int) -> Shape:
    """The shape with axes of size 1 in front, up to a rank."""
    return (1,) * (rank - len(shape)) + tuple(shape)


def reshaped(binding: Binding, x: Array, shape: Shape) -> Array:
    """The array with axes of size 1 added: a view, in every framework."""
    return x if tuple(x.shape) == shape else binding.namespace(x).reshape(x, shape)
