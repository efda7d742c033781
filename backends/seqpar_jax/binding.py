"""What seqpar has to know of JAX: facts of arrays, traced or not, and the way from a call to its primitive.

Arrays of JAX have no address a caller may use, and under tracing no device either. So nothing is chosen here: every call
binds a primitive (see `primitives`), and the kernel is chosen when the primitive is lowered for a platform.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from seqpar.dispatch import watching
from seqpar.dispatch.choice import choose
from seqpar.dispatch.memos import on_invalidate
from seqpar.dispatch.operation import Operation, operations
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array, Layout
from seqpar.dispatch.profile import HardwareProfile
from seqpar.errors import NotEligibleError
from seqpar.recurrence_solution import RecurrenceSolution
from seqpar.solving.recurrence import Recurrence, Solved, Step
from seqpar.solving.stepping import Stepper
from seqpar.solving.wish import Wish
from seqpar.tall.implicit import ImplicitQ
from seqpar_jax import accelerator, eager, lowering, primitives, ragged, solving
from seqpar_jax.group import MeshAxis
from seqpar_jax.linear_algebra import JaxLinearAlgebra
from seqpar_jax.solving_stepper import JaxStepper


class JaxBinding:
    """JAX arrays, concrete and traced."""

    framework = "jax"

    def namespace(self, x: Array) -> Any:
        return jnp

    def compiling(self) -> bool:
        return False

    def facts(self, x: Array | None) -> Any:
        if x is None:
            return None
        return x.aval if isinstance(x, Tracer) else (x.aval, x.sharding)

    def dtype_name(self, dtype: Any) -> str:
        return str(dtype.name)

    def device(self, x: Array) -> str:
        if isinstance(x, Tracer):
            return lowering.device_kind(jax.default_backend())
        return lowering.device_kind(next(iter(x.devices())).platform)

    def device_of(self, x: Array) -> Any:
        # An uncommitted array follows the others wherever they are; only committed ones can disagree.
        return None if isinstance(x, Tracer) or not x.committed else frozenset(x.devices())

    def traced(self, x: Array) -> bool:
        # Eager calls too are compiled programs, whose kernel is chosen while they are lowered.
        return True

    def posed_on(self, device: str) -> tuple[bool, bool]:
        return device in lowering.ADDRESSABLE, True

    def deferred(self, x: Array) -> bool:
        return False

    def cast(self, x: Array, dtype: str) -> Array:
        return x.astype(dtype)

    def full(self, value: Any, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        return _full(value, shape, dtype)

    def layout(self, x: Array) -> Layout | None:
        """What a kernel that XLA calls would see: row-major memory."""
        if self.device(x) not in lowering.ADDRESSABLE:
            return None
        shape = tuple(x.shape)
        strides = tuple(math.prod(shape[i + 1 :]) * x.dtype.itemsize for i in range(len(shape)))
        return Layout(shape, strides, x.dtype.name)

    def readable(self, x: Array) -> Array:
        return x

    def address(self, x: Array) -> int:
        raise TypeError("jax shows its memory to compiled programs only")

    def empty(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        return jnp.empty(shape, dtype=dtype)

    def from_numpy(self, x: Any, like: Array) -> Array:
        devices = self.device_of(like)
        return jnp.asarray(x) if devices is None else jax.device_put(x, next(iter(devices)))

    def placed(
        self, x: Any, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], device: str
    ) -> Array:
        if np.dtype(getattr(jnp, dtype)).itemsize > 4 and dtype not in ("complex64",):
            # Whoever describes double precision had it: without this mode JAX would make it single precision, and a warning.
            jax.config.update("jax_enable_x64", True)
        there = [d for d in jax.local_devices() if lowering.device_kind(d.platform) == device]
        if not there:
            raise NotEligibleError(f"seqpar: jax has no device={device!r} here.")
        return jax.device_put(np.broadcast_to(np.asarray(x, getattr(jnp, dtype)), shape), there[0])

    def on_host(self, x: Array) -> Any:
        found = np.asarray(x)
        return found.astype(np.float32) if found.dtype.name == "bfloat16" else found

    def laid_out(
        self, pieces: Sequence[Array], starts: Sequence[int], size: int, value: Any, like: Array
    ) -> Array:
        return ragged.laid_out(self, pieces, starts, size, value, like)

    def cut_out(self, line: Array, starts: Sequence[int], lengths: Sequence[int]) -> list[Array]:
        return ragged.cut_out(self, line, starts, lengths)

    def seed_words(self, seed: Array) -> Any:
        typed = jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(seed) if typed else seed)

    def linear_algebra(self, xp: Any) -> JaxLinearAlgebra:
        return JaxLinearAlgebra()

    def group(self, operation: str, named: Any) -> MeshAxis:
        return MeshAxis(operation, named)

    def on_device(self, x: Array) -> None:
        return None

    def threads(self) -> int | None:
        return None

    def loading(self) -> tuple[int, int] | None:
        return None

    def finish(self, x: Array | None) -> None:
        accelerator.finish(x)

    def stopwatch(self, x: Array) -> None:
        # JAX shows no events of its devices.
        return None

    def device_memory(self, where: Any) -> accelerator.AllocatorMemory | None:
        return accelerator.memory_of(where)

    def profile(self, device: str) -> HardwareProfile | None:
        return accelerator.profile(device)

    def is_out_of_memory(self, error: BaseException) -> bool:
        return accelerator.is_out_of_memory(error)

    def in_backward_pass(self) -> bool:
        return False  # it is a program like any other

    def direct(self, operands: Sequence[Array | None]) -> bool:
        return False

    def call(
        self, operation: Operation, spec: Any, operands: Sequence[Array | None], request: Request
    ) -> tuple[Array, ...]:
        arrays = [x for x in operands if x is not None]
        present = tuple([x is not None for x in operands])
        for x in arrays:
            if isinstance(x, Tracer):
                _refuse_early(operation, spec, operands, request)
                if watching.watchers:
                    watching.traced(watching.Posed(self, operation, spec, operands, request))
                return primitives.apply(operation, spec, operands, request)
        if watching.watchers:
            return self._watched(operation, spec, operands, request)(operands)
        return _compiled(operation.name, spec, request, present)(*arrays)

    def _watched(
        self, operation: Operation, spec: Any, operands: Sequence[Array | None], request: Request
    ) -> watching.Runner:
        """The same for whoever watches calls, who are told of each kind of them: programs look at shapes by themselves."""
        key = (operation.name, spec, request, *map(self.facts, operands))
        run = _watched.get(key)
        if run is None:
            present = tuple([x is not None for x in operands])

            def make() -> watching.Runner:
                program = _compiled(operation.name, spec, request, present)
                return lambda given: program(*[x for x in given if x is not None])

            call = watching.Posed(self, operation, spec, operands, request)
            run = _watched[key] = watching.watched(call, make)
        return run

    def vjp(
        self, function: Callable[..., Any], primals: Sequence[Array], options: dict[str, Any]
    ) -> tuple[Any, Callable[..., Any]] | None:
        result, transpose = jax.vjp(lambda *arrays: function(*arrays, **options), *primals)

        def pullback(cotangent: Any) -> Any:
            if (
                isinstance(result, tuple)
                and isinstance(cotangent, (tuple, list))
                and len(cotangent) == len(result)
            ):
                parts = [
                    jnp.zeros_like(x) if g is None else g for g, x in zip(cotangent, result, strict=True)
                ]
                cotangent = type(result)(*parts)
            return transpose(cotangent)

        return result, pullback

    def tracing(self, x: Array) -> bool:
        return isinstance(x, Tracer)

    def outside_compiler(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        return function(**arguments)

    def stepper(self, step: Step, params: Sequence[Any]) -> Stepper:
        return JaxStepper(step, params)

    def solve(self, recurrence: Recurrence, wish: Wish) -> Solved:
        return solving.solve(self, recurrence, wish)

    def beneath(self, x: Array) -> Array | None:
        return None

    def as_one_program(
        self, function: Callable[..., Any], static: Any, key: Hashable, arrays: Sequence[Any]
    ) -> Any:
        if any(isinstance(x, Tracer) for x in jax.tree.leaves(arrays)):
            return function(static, *arrays)
        return _program(eager.Keyed(partial(function, static), (function, key)))(*arrays)

    def plan_by_shapes(self, recurrence: Recurrence, wish: Wish) -> tuple[str, Any, str] | None:
        return solving.plan_by_shapes(recurrence, wish)


@partial(jax.jit, static_argnums=(1, 2))
def _full(value: Any, shape: tuple[int, ...], dtype: str) -> Array:
    # 6 microseconds where an eager jnp.full takes 48.
    return jnp.full(shape, value, dtype=dtype)


@lru_cache(maxsize=4096)
def _compiled(
    name: str, spec: Any, request: Request, present: tuple[bool, ...]
) -> Callable[..., tuple[Array, ...]]:
    """The operation under jit, for eager calls."""
    operation = operations[name]

    def run(*arrays: Array) -> tuple[Array, ...]:
        return primitives.apply(operation, spec, lowering.spread(present, arrays), request)

    run.__name__ = name
    return jax.jit(run)


@lru_cache(maxsize=4096)
def _program(keyed: eager.Keyed) -> Callable[..., Any]:
    """A function of arrays under jit, for eager calls."""
    return jax.jit(lambda *arrays: keyed.function(*arrays))


_watched: dict[Any, watching.Runner] = {}
on_invalidate(_watched.clear)
on_invalidate(_compiled.cache_clear)
on_invalidate(_program.cache_clear)

_SOLUTION = tuple(f.name for f in fields(RecurrenceSolution) if f.name not in ("history", "problem"))
"""What of a solution passes through transformations."""

jax.tree_util.register_dataclass(
    RecurrenceSolution, data_fields=_SOLUTION, meta_fields=(), drop_fields=("history", "problem")
)
jax.tree_util.register_dataclass(ImplicitQ, data_fields=("R", "factors", "origin"), meta_fields=("rows",))


def _refuse_early(
    operation: Operation, spec: Any, operands: Sequence[Array | None], request: Request
) -> None:
    """A forced choice that cannot run raises while the user's function is traced, where the traceback shows the call.

    The platform is not known yet, so what can run on one of those at hand is left to the lowering.
    """
    if not request.source:
        return
    metas = lowering.metas_of(operands)
    refusal: NotEligibleError | None = None
    for platform in dict.fromkeys((jax.default_backend(), "cpu")):
        problem = lowering.problem_of(operation, spec, metas, lowering.device_kind(platform))
        if 0 in problem.shape:
            return
        try:
            choose(problem, request)
            return
        except NotEligibleError as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal
