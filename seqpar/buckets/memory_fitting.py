"""`seqpar.fit_memory`: the peak memory of a user's step at a few sizes, running out of it included."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from seqpar.buckets.cost_progress import advancing
from seqpar.buckets.cost_table import Size
from seqpar.buckets.host_memory import HostMemory
from seqpar.buckets.memory_model import MemoryModel
from seqpar.buckets.options import count
from seqpar.buckets.user_step import UserStep, arrays_of, sizes_of
from seqpar.dispatch.device_memory import DeviceMemory
from seqpar.dispatch.frameworks import binding_for, loaded_bindings
from seqpar.errors import ArrayTypeError, MeasurementError, OptionError

NAME = "fit_memory"


def fit_memory(
    step: Callable[..., Any],
    lengths: int | Iterable[Any],
    batches: int | Iterable[int] | None = None,
    *,
    inputs: Callable[[int, int], Any] | None = None,
    limit: int | None = None,
    fraction: float = 0.9,
    device: Any = None,
    measure: Callable[[Callable[[], None]], int] | None = None,
    repeats: int = 2,
    synchronise: Callable[[], Any] | None = None,
    progress: bool | None = None,
) -> MemoryModel:
    """Run a step at a few sizes, read the peak of memory, and fit m(length, batch), for `memory=` of `seqpar.plan_buckets`.

    Four to six sizes suffice: two or three lengths with two batch sizes. They run from small to large, and one that runs out of
    memory is survived: the model then holds below it. Run it where and how the training runs, its model and optimiser made.

    Parameters
    ----------
    step, lengths, batches, inputs, synchronise, progress
        As in `seqpar.measure_cost`.
    limit, fraction
        The bytes there are, by default as the device says; batches take `fraction` of it at most.
    device
        Where to read the peak: a device of a framework, an array there, or "cpu". By default where the arrays are that
        the step takes or returns; if it shows none, the device in use; and the host where no framework uses another.
    measure
        Reads the peak instead, where seqpar cannot: ``measure(run)`` calls ``run()``, which runs the step, and returns
        the bytes in use at most.
    repeats
        Runs of each size. The first may take more, where a library tries its algorithms out.

    Notes
    -----
    PyTorch's peak counts what tensors take; its caching allocator can hold more, one reason for `fraction`. CuPy's is that of
    its default memory pool. JAX's cannot be forgotten: a size counts only if it needs more than all before it in the process,
    so give `device` or `inputs`, and run this first. On the host (Linux) it is the resident memory of the process,
    and running out of it may end the process instead of raising: give a `limit` that is safe.

    Raises
    ------
    seqpar.errors.MeasurementError
        If the step raises for another reason, or memory does not grow.

    Examples
    --------
    With a measure of its own, so that the result is the same on every machine:

    >>> import seqpar
    >>> last = [0, 0]
    >>> def step(length, batch):
    ...     last[:] = length, batch
    ...     if length * batch > 40_000:
    ...         raise MemoryError
    >>> def measure(run):
    ...     run()
    ...     return 10**9 + 300_000 * last[0] * last[1]
    >>> model = seqpar.fit_memory(step, [100, 400], [1, 8, 128], measure=measure, limit=24 * 10**9)
    >>> model.failed, model.batch_size(400)
    (((400, 128),), 114)
    """
    run = UserStep(NAME, step, inputs, synchronise)
    sizes = sizes_of(NAME, lengths, batches)
    count(NAME, "repeats", repeats)
    if measure is not None and not callable(measure):
        raise ArrayTypeError(
            f"{NAME}: measure={measure!r} is not a function. Give one that takes a function."
        )
    if limit is None and measure is not None:
        raise OptionError(f"{NAME}: measure= was given without limit=. Give the bytes that there are.")
    if limit is not None:
        count(NAME, "limit", limit)
    with advancing(NAME, progress, len(sizes)) as advance:
        return _Probes(run, sizes, measure, device, repeats, advance).model(limit, fraction)


class _Probes:
    """The peaks of one call of `fit_memory` as they come in."""

    def __init__(
        self,
        run: UserStep,
        sizes: list[Size],
        measure: Callable[[Callable[[], None]], int] | None,
        device: Any,
        repeats: int,
        advance: Callable[[str], None],
    ) -> None:
        self.run = run
        self.sizes = sizes
        self.measure = measure
        self.repeats = repeats
        self.advance = advance
        self.memory: DeviceMemory | None = None
        self.peaks: dict[Size, int] = {}
        self.failed: list[Size] = []
        self.hidden: list[Size] = []
        if measure is None:
            self.memory = _memory_of(device) if device is not None else self._memory_of_inputs()

    def model(self, limit: int | None, fraction: float) -> MemoryModel:
        if self.measure is None and self.memory is None:
            # The step shows where it runs when it has run, if memory suffices for the smallest size.
            found: list[DeviceMemory] = []
            self.run.attempt(self.sizes[0], lambda: found.append(self._memory_of_result()), dict)
            self.memory = found[0] if found else _memory_in_use()
        for size in self.sizes:
            if not any(size[0] >= length and size[1] >= batch for length, batch in self.failed):
                self._probe(size)
            self.advance(f"length {size[0]}, batch {size[1]}")
        if limit is None:
            assert self.memory is not None
            limit = self.memory.limit()
        where = "measure=" if self.memory is None else self.memory.name
        notes = [f"the peaks of {', '.join(map(str, self.hidden))} are hidden by earlier ones."] * bool(
            self.hidden
        )
        if len(self.peaks) < 2:
            hidden = f" {notes[0]} Run it in a process of its own, or give measure=." if notes else ""
            raise MeasurementError(
                f"{NAME}: two sizes have to fit into memory and show a peak, on {where}, and of {len(self.sizes)} "
                f"{len(self.peaks)} did.{hidden}" + " Give smaller ones." * (not hidden),
                dict(self.peaks),
            )
        return MemoryModel.fit(self.peaks, limit=limit, fraction=fraction, failed=self.failed, notes=notes)

    def _probe(self, size: Size) -> None:
        if not self.run.attempt(size, lambda: self._measured(size), lambda: dict(self.peaks)):
            self.failed.append(size)

    def _measured(self, size: Size) -> None:
        if self.measure is not None:
            self.peaks[size] = count(
                NAME, f"the measure of (length, batch)={size}", self.measure(lambda: self._runs(size))
            )
            return
        assert self.memory is not None
        self.memory.start()
        self._runs(size)
        peak = self.memory.peak()
        if peak is None:
            self.hidden.append(size)
        else:
            self.peaks[size] = peak

    def _runs(self, size: Size) -> None:
        for _ in range(self.repeats):
            self.run.prepared(size)()

    def _memory_of_inputs(self) -> DeviceMemory | None:
        if self.run.inputs is None:
            return None
        found: list[DeviceMemory | None] = [None]
        size = self.sizes[0]
        self.run.attempt(size, lambda: found.append(_memory_of_arrays(self.run.made(size))), dict)
        return found[-1]

    def _memory_of_result(self) -> DeviceMemory:
        return _memory_of_arrays(self.run.prepared(self.sizes[0])()) or _memory_in_use()


def _memory_of(device: Any) -> DeviceMemory:
    """The memory of the device that the user named."""
    if isinstance(device, str):
        if device in ("cpu", "host"):
            return HostMemory()
        raise OptionError(
            f"{NAME}: device={device!r} is a name, and frameworks differ in what they call a device. Give the framework's own, "
            "for instance torch.device('cuda:0') or jax.devices()[0], or an array that is there."
        )
    try:
        binding = binding_for(type(device))
    except ArrayTypeError:
        raise ArrayTypeError(
            f"{NAME}: device={device!r} is neither a device nor an array. Give a device of the framework, an array, or 'cpu'."
        ) from None
    return binding.device_memory(device) or HostMemory()


def _memory_of_arrays(tree: Any) -> DeviceMemory | None:
    """The memory of the first device other than the host that arrays are on."""
    found = (binding.device_memory(x) for binding, x in arrays_of(tree))
    return next((memory for memory in found if memory is not None), None)


def _memory_in_use() -> DeviceMemory:
    """The memory of the one device on which a framework has arrays."""
    found = [memory for binding in loaded_bindings() if (memory := binding.device_memory(None)) is not None]
    if len(found) > 1:
        raise OptionError(
            f"{NAME}: the step shows no arrays, and there are some {', '.join(x.name for x in found)}. Give device=."
        )
    return found[0] if found else HostMemory()
