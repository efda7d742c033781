"""A training or inference step of the user's: run at a length and a batch size, and waited for.

`measure_cost` times it and `fit_memory` reads the memory that it takes. Its arrays say, by their bindings, how to wait for
them, and the frameworks that are loaded say whether an error means that memory did not suffice.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any

from seqpar.buckets.cost_table import Size
from seqpar.buckets.options import count
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.frameworks import binding_for, loaded_bindings
from seqpar.errors import ArrayTypeError, MeasurementError, NotEligibleError, OptionError
from seqpar.trees import flatten

Array = Any


class UserStep:
    """`step(length, batch)`, or `step(*inputs(length, batch))` with the making of the inputs apart."""

    def __init__(self, name: str, step: Any, inputs: Any, synchronise: Any) -> None:
        for what, given in (("step", step), ("inputs", inputs), ("synchronise", synchronise)):
            if not callable(given) and not (given is None and what != "step"):
                raise ArrayTypeError(f"{name}: {what}={given!r} is not a function. Give one.")
        self.name = name
        self.step = step
        self.inputs = inputs
        self.synchronise = synchronise
        # Loading a binding takes tenths of a second, which are not the first step's.
        for _ in loaded_bindings():
            pass

    def made(self, size: Size) -> Any:
        """The inputs at a size, ready."""
        assert self.inputs is not None
        found = self._guarded("inputs", size, self.inputs)
        for binding, x in arrays_of(found):
            binding.finish(x)
        return found

    def prepared(self, size: Size) -> Callable[[], Any]:
        """The step at a size, as a function that returns its result when all is done that the step has started."""
        if self.inputs is None:
            return lambda: self._run(size, self.step)
        made = self.made(size)
        if isinstance(made, Mapping):
            return lambda: self._run(size, lambda *_: self.step(**made))
        given = made if isinstance(made, (tuple, list)) else (made,)
        return lambda: self._run(size, lambda *_: self.step(*given))

    def attempt(self, size: Size, act: Callable[[], Any], known: Callable[[], dict[Size, float]]) -> bool:
        """Do something with the step at a size; False if memory does not suffice, of which nothing is left behind.

        `known` is what the error holds that says that the step raised for another reason.
        """
        try:
            act()
            return True
        except MeasurementError as error:
            error.measured = known()
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Behind the handler nothing holds the traceback any more, nor the arrays of the step that it holds.
        release_memory()
        return False

    def _run(self, size: Size, step: Callable[[int, int], Any]) -> Any:
        result = self._guarded("step", size, step)
        # Devices report what went wrong when they are waited for.
        self._guarded("step", size, lambda *_: self._wait(result))
        return result

    def _guarded(self, what: str, size: Size, function: Callable[[int, int], Any]) -> Any:
        """What a function of the user's returns; its error, unless it ran out of memory, with the size."""
        try:
            return function(*size)
        except Exception as error:
            if is_out_of_memory(error) or isinstance(error, _Unwaitable):
                raise
            length, batch = size
            raise MeasurementError(
                f"{self.name}: {what}({length}, {batch}) raised {type(error).__name__}: {error}. "
                f"That is length {length} and batch size {batch}; the error itself is above this one."
            ) from error

    def _wait(self, result: Any) -> None:
        if self.synchronise is not None:
            self.synchronise()
            return
        # Coroutines, generators and futures: what they stand for has not run, or runs elsewhere.
        if inspect.iscoroutine(result) or inspect.isgenerator(result) or hasattr(result, "add_done_callback"):
            close = getattr(result, "close", None)
            if callable(close):
                close()  # or Python warns of a coroutine that nobody awaited
            raise _Unwaitable(
                f"{self.name}: the step returns a {type(result).__name__}, whose work is not done. Do it in the step, for "
                "instance by asyncio.run(...) or .result(), or give synchronise=."
            )
        on_devices = False
        for binding, x in arrays_of(result):
            if binding.deferred(x):
                raise _Unwaitable(
                    f"{self.name}: the step returns a {binding.framework} array that nobody has computed yet. "
                    "Compute it in the step."
                )
            try:
                binding.finish(x)
            except NotEligibleError as error:
                raise _Unwaitable(f"{self.name}: {error}") from error
            on_devices = on_devices or binding.framework != "numpy"
        if not on_devices:
            # Numbers on the host, or nothing: whatever the step has started may still run.
            for binding in loaded_bindings():
                binding.finish(None)


class _Unwaitable(NotEligibleError):
    """Nobody knows how to wait for what a step returns; which is for the user to mend, not an error of the step."""


def arrays_of(tree: Any) -> Iterable[tuple[Binding, Array]]:
    """Arrays in whatever a step takes or returns, each with its binding; models, numbers and texts are passed over."""
    for leaf in flatten(tree)[0]:
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            try:
                yield binding_for(type(leaf)), leaf
            except ArrayTypeError:
                continue


def is_out_of_memory(error: BaseException | None) -> bool:
    """Does an error, or what caused it, say that memory did not suffice?"""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        for binding in loaded_bindings():
            if binding.is_out_of_memory(error):
                return True
        error = error.__cause__
    return False


def release_memory() -> None:
    """What a step that ran out of memory has left behind. No traceback may hold its arrays any longer."""
    gc.collect()
    for binding in loaded_bindings():
        memory = binding.device_memory(None)
        if memory is not None:
            memory.release()


def sizes_of(name: str, lengths: Any, batches: Any) -> list[Size]:
    """The (length, batch) to try, small ones first: all combinations, or without `batches` the pairs given as lengths."""
    if batches is not None:
        found = set(product(_numbers(name, "lengths", lengths), _numbers(name, "batches", batches)))
    else:
        try:
            pairs = [tuple(pair) for pair in lengths]
        except TypeError:
            pairs = [()]
        if any(len(pair) != 2 for pair in pairs):
            raise OptionError(
                f"{name}: without batches, lengths are pairs (length, batch). Give the batch sizes to try, for instance "
                f"{name}(step, [64, 256, 1024], [4, 32]), or pairs."
            )
        found = {(count(name, "length", length), count(name, "batch", batch)) for length, batch in pairs}
    if not found:
        raise OptionError(f"{name}: there is no length or no batch size to try. Give at least one of each.")
    return sorted(found, key=lambda size: (size[0] * size[1], size))


def _numbers(name: str, what: str, given: Any) -> list[int]:
    one = isinstance(given, (int, float)) or getattr(given, "shape", None) == ()
    if not one and not isinstance(given, Iterable):
        raise OptionError(f"{name}: {what}={given!r} are no whole numbers. Give a list of them.")
    return [count(name, what, n) for n in ([given] if one else given)]
