"""Everything seqpar raises on purpose, in one small tree under `SeqparError`.

Each class also inherits the builtin exception a user would guess, so `except ValueError` keeps working.
Messages say, in this order: the operation, what was given, the rule it broke, what to do.
"""

from collections.abc import Iterable, Mapping


class SeqparError(Exception):
    """Base of every error seqpar raises on purpose."""


class ShapeError(SeqparError, ValueError):
    """Shapes or an axis that do not fit together."""


class DtypeError(SeqparError, TypeError):
    """A dtype the operation cannot take; the message names the cast."""


class ArrayTypeError(SeqparError, TypeError):
    """Not an array, or arrays of different frameworks or devices."""


class OptionError(SeqparError, ValueError):
    """An option with a value it cannot have."""


class NotEligibleError(SeqparError, ValueError):
    """The method, backend or config that was asked for cannot run this problem."""


class ConvergenceError(SeqparError, ArithmeticError):
    """A solver that stopped before its test of agreement was passed; `solution` is what it had by then."""

    def __init__(self, message: str, solution: object = None) -> None:
        super().__init__(message)
        self.solution = solution


class MeasurementError(SeqparError, RuntimeError):
    """A step of the user's that raised while it was measured; `measured` is what was known by then, by (length, batch)."""

    def __init__(self, message: str, measured: Mapping[tuple[int, int], float] | None = None) -> None:
        super().__init__(message)
        self.measured = dict(measured or {})


class MissingExtraError(SeqparError, ImportError):
    """An optional dependency is absent; the message carries the pip line."""


class BackendError(SeqparError, RuntimeError):
    """A backend that failed to load, to compile or to run."""


def renamed(error: SeqparError, operation: str, name: str) -> SeqparError:
    """An error of an operation under the name of the function that was called."""
    text = str(error)
    return type(error)(name + text.removeprefix(operation)) if text.startswith(f"{operation}:") else error


def unknown_name(operation: str, kind: str, given: object, known: Iterable[str]) -> OptionError:
    """An `OptionError` for a misspelt name, with the nearest known one."""
    names = sorted(known)
    # Names are in small letters.
    near = _nearest(str(given).lower(), tuple(names))
    hint = f" Did you mean {near!r}?" if near is not None else ""
    return OptionError(f"{operation}: {kind}={given!r} is not one of {', '.join(map(repr, names))}.{hint}")


def _nearest(given: str, names: tuple[str, ...]) -> str | None:
    import difflib  # a millisecond, which `import seqpar` has no use for

    return next(iter(difflib.get_close_matches(given, names, n=1, cutoff=0.5)), None)


# torch.compile evaluates a function with this mark while tracing: it cannot follow difflib.
_nearest._dynamo_marked_constant = True  # type: ignore[attr-defined]
