"""What seqpar has to know of one array framework: the contract a binding fulfils."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from seqpar.dispatch.operation import Operation
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array, Layout

if TYPE_CHECKING:
    from seqpar.algorithms.linear_algebra import LinearAlgebra
    from seqpar.dispatch.device_memory import DeviceMemory
    from seqpar.dispatch.group import Group
    from seqpar.dispatch.profile import HardwareProfile


class Stopwatch(Protocol):
    """Two marks in the work of a device, and the time between them."""

    def start(self, calls: int) -> None:
        """Before so many calls. The device may be kept busy until they are under way, so that it never waits for the host."""

    def stop(self) -> float:
        """Behind them: waits, and gives the seconds that they took."""


class Binding(Protocol):
    """What seqpar has to know of one framework. `seqpar.dispatch.plain_bindings.ArrayAPIBinding` is the plain one."""

    framework: str

    def namespace(self, x: Array) -> Any:
        """The array API namespace of an array."""

    def compiling(self) -> bool:
        """Is the framework's compiler reading this Python code right now, so that no memo may be touched?"""

    def facts(self, x: Array | None) -> Any:
        """All of an array that checking and choosing depend on, hashable and cheap."""

    def dtype_name(self, dtype: Any) -> str: ...

    def device(self, x: Array) -> str:
        """Kind of device: "cpu", "cuda", ..."""

    def device_of(self, x: Array) -> Any:
        """The device itself, comparable with ==; None under tracing."""

    def traced(self, x: Array) -> bool: ...

    def posed_on(self, device: str) -> tuple[bool, bool]:
        """`addressable` and `traced` of the problems that arrays with numbers pose on a kind of device, present or not."""

    def deferred(self, x: Array) -> bool:
        """Are the numbers of x computed later, whenever somebody asks for them, and its sizes perhaps unknown until then?"""

    def cast(self, x: Array, dtype: str) -> Array: ...

    def layout(self, x: Array) -> Layout | None:
        """Raw memory behind an array, or None where there is none to see (lazy, traced, remote)."""

    def readable(self, x: Array) -> Array:
        """x, or a copy of its numbers where only the place or the order of its bytes keeps kernels from reading them."""

    def address(self, x: Array) -> int: ...

    def empty(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        """An uninitialised array, row-major."""

    def full(self, number: complex, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        """An array of one number, on the device of `like`."""

    def from_numpy(self, x: Any, like: Array) -> Array:
        """A NumPy array as an array of this framework, on the device of `like`."""

    def placed(
        self, x: Any, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], device: str
    ) -> Array:
        """An array made from nothing but a description: numbers of NumPy, cast and repeated along axes where x has size one.

        `strides` in elements, 0 along axes that are to be repeated without memory; without strides they are row-major.
        """

    def on_host(self, x: Array) -> Any:
        """The numbers of an array as a NumPy array, those of kinds that NumPy does not have by itself in float32."""

    def laid_out(
        self, pieces: Sequence[Array], starts: Sequence[int], size: int, value: Any, like: Array
    ) -> Array:
        """Pieces (steps, ...) on one line of `size` steps, each at its start, in rising order, and `value` in between.

        A new array shaped (size, ...) like `like`, whose derivative is that of a copy.
        """

    def cut_out(self, line: Array, starts: Sequence[int], lengths: Sequence[int]) -> list[Array]:
        """The pieces of a line again, in the order of the line."""

    def seed_words(self, seed: Array) -> Any:
        """The numbers of a seed as a NumPy array: its own, or those inside a random key of the framework."""

    def linear_algebra(self, xp: Any) -> "LinearAlgebra":
        """What factorisations of matrices need of the framework."""

    def group(self, operation: str, named: Any) -> "Group":
        """The members that share rows out, from what the user named them by."""

    def on_device(self, x: Array) -> Callable[[], AbstractContextManager[Any]] | None:
        """What makes the device of x the one that kernels are launched on, or None where there is only one."""

    def threads(self) -> int | None:
        """The framework's own thread setting, or None when it has none."""

    def loading(self) -> tuple[int, int] | None:
        """Which worker of a data loader of the framework this process is, of how many; None if it is none."""

    def finish(self, x: Array | None) -> None:
        """Wait for an array, and for all else on its device where the framework waits for devices.

        With None for everything under way on the device in use, without setting up one that nobody uses.
        """

    def stopwatch(self, x: Array) -> "Stopwatch | None":
        """What times work on the device of x by its own clock; None where the host's is right, which waits for results."""

    def device_memory(self, where: Any) -> "DeviceMemory | None":
        """The memory of an array's device, of a device of the framework, or with None of the one in use; None for the host's."""

    def profile(self, device: str) -> "HardwareProfile | None":
        """What results measured on a kind of device are filed under: the one in use and its tools; None where there is none."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Does an error say that memory did not suffice, on the host or a device? Builtin MemoryError goes without saying."""

    def in_backward_pass(self) -> bool:
        """Is the framework working through a backward pass in this thread?"""

    def direct(self, operands: Sequence[Array | None]) -> bool:
        """May the kernel be called on these at once: nothing traced, no gradient wanted, no transform at work?"""

    def call(
        self, operation: Operation, spec: Any, operands: Sequence[Array | None], request: Request
    ) -> tuple[Array, ...]:
        """Run an operation, differentiable and traceable the way the framework does it."""

    def vjp(
        self, function: Callable[..., Any], primals: Sequence[Array], options: dict[str, Any]
    ) -> tuple[Any, Callable[..., Any]] | None:
        """The framework's own reverse mode, or None when it has none."""
