"""How a public function of arrays runs: it finds the binding, checks its arguments once per kind of call, starts the kernel.

Each such function has one `Face`, made beside it, and a `plan` that says what is right for it.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.execute import Runner, runner
from seqpar.dispatch.faces import Call
from seqpar.dispatch.memos import on_invalidate
from seqpar.dispatch.operation import Operation
from seqpar.dispatch.options import NO_WISH, Request, check_wish, requested
from seqpar.dispatch.problem import Array
from seqpar.errors import NotEligibleError, OptionError, renamed
from seqpar.validation import binding_of, is_complex_number, is_scalar

Fix = Callable[[Any, Array], Array]
"""From an argument as given to its canonical form; the second argument tells dtype and device. Kept, so it holds no array."""
Results = tuple[Array, ...]


class Plan:
    """What checking the arguments found out: the static spec, and the way of each argument and result to its other form."""

    __slots__ = ("fixes", "given", "plain", "run", "shape", "spec", "unshape")

    def __init__(
        self,
        spec: Any,
        fixes: Sequence[Fix | None],
        given: int,
        shape: Callable[[Binding, Results], Results] | None = None,
        unshape: Callable[[Binding, tuple[Any, ...]], tuple[Any, ...]] | None = None,
    ) -> None:
        self.spec = spec
        self.fixes = fixes
        self.given = given
        """Which argument is an array for certain."""
        self.plain = all(fix is None for fix in fixes)
        self.run: Runner | None = None
        self.shape = shape
        """From the operation's results to the user's, where they differ in axes of size one."""
        self.unshape = unshape
        """The same for cotangents, the other way."""

    def canonical(self, arrays: tuple[Any, ...]) -> tuple[Array | None, ...]:
        if self.plain:
            return arrays
        like = arrays[self.given]
        return tuple([x if fix is None else fix(x, like) for x, fix in zip(arrays, self.fixes, strict=True)])


class Face:
    """How a public function of arrays becomes calls of an operation.

    `plan(binding, *arrays, *flags)` checks everything that can be wrong and reads shapes and dtypes only. What it finds is
    kept per kind of call, so that a repeated call checks nothing again.
    """

    def __init__(
        self,
        operation: Operation,
        plan: Callable[..., Plan],
        *,
        name: str = "",
        arrays: tuple[str, ...],
        flags: tuple[str, ...],
        scalars: tuple[str, ...] = (),
        optional: tuple[str, ...] = (),
        returns: Callable[..., Any] = tuple,
        what: str = "an array with a time axis",
    ) -> None:
        self.operation = operation
        self.name = name or operation.name
        """What errors call the function."""
        self.plan = plan
        self.arrays = arrays
        self.flags = flags
        self.scalars = scalars
        self.optional = optional
        self.returns = returns
        """The named tuple of all results, which `return_final=True` gives."""
        self.what = what
        """What an argument has to be, for errors."""
        self._plans: dict[Any, Plan] = {}
        on_invalidate(self._plans.clear)

    def call(
        self,
        arrays: tuple[Any, ...],
        flags: tuple[Any, ...],
        return_final: bool,
        method: str,
        backend: str | None,
        config: Any,
    ) -> Any:
        """What the public function returns."""
        results = self.results(arrays, flags, method, backend, config)
        return self.returns(*results) if return_final else results[0]

    def binding(self, arrays: tuple[Any, ...]) -> Binding:
        """The one binding of all arrays."""
        named = dict(zip(self.arrays, arrays, strict=True))
        return binding_of(self.name, self.scalars, self.optional, self.what, **named)

    def results(
        self, arrays: tuple[Any, ...], flags: tuple[Any, ...], method: str, backend: str | None, config: Any
    ) -> Results:
        """The results of the operation, in the axes of the user's arrays."""
        binding = self.binding(arrays)
        explicit = method != "auto" or backend is not None or config is not None
        if binding.compiling():
            plan = self.plan(binding, *arrays, *flags)
            # The operator lays this over the overlay when it runs; torch.compile cannot read context variables.
            wish = Request(method, backend, config, source="explicit" if explicit else "")
            results = binding.call(self.operation, plan.spec, plan.canonical(arrays), wish)
            return results if plan.shape is None else plan.shape(binding, results)
        if explicit:
            check_wish(self.name, method, backend, config)
        request = requested(method, backend, config) if self.operation.wished_for else NO_WISH
        plan = self._plan(binding, arrays, flags, request)
        operands = plan.canonical(arrays)
        try:
            if binding.direct(operands):
                if plan.run is None:
                    plan.run = runner(binding, self.operation, plan.spec, operands, request)
                results = plan.run(operands)
            else:
                results = binding.call(self.operation, plan.spec, operands, request)
        except (NotEligibleError, OptionError) as error:
            if self.name == self.operation.name:
                raise
            raise renamed(error, self.operation.name, self.name) from None
        return results if plan.shape is None else plan.shape(binding, results)

    def _plan(
        self, binding: Binding, arrays: tuple[Any, ...], flags: tuple[Any, ...], request: Request
    ) -> Plan:
        facts = binding.facts
        described = [is_complex_number(x) if is_scalar(x) else facts(x) for x in arrays]
        # Flags with their types, because True == 1 == 1.0, and an axis=True must not pass for an axis=1.
        key = (binding, *described, *flags, *map(type, flags), request)
        try:
            plan = self._plans.get(key)
        except TypeError:  # an unhashable flag is a wrong one: let the checks name it
            return self.plan(binding, *arrays, *flags)
        if plan is None:
            plan = self.plan(binding, *arrays, *flags)
            if len(self._plans) > 4096:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def prepare(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
        """The same call, checked and canonical but not run."""
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        values = bound.arguments
        arrays = tuple(values[name] for name in self.arrays)
        flags = tuple(values[name] for name in self.flags)
        return_final = values["return_final"]

        def gives(results: Results) -> Any:
            return self.returns(*results) if return_final else results[0]

        def takes(cotangent: Any) -> tuple[Array | None, ...]:
            return tuple(cotangent) if return_final else (cotangent, None)

        return self.prepared(
            arrays, flags, values["method"], values["backend"], values["config"], gives, takes
        )

    def prepared(
        self,
        arrays: tuple[Any, ...],
        flags: tuple[Any, ...],
        method: str,
        backend: str | None,
        config: Any,
        gives: Callable[[Results], Any],
        takes: Callable[[Any], tuple[Array | None, ...]],
    ) -> Call:
        """A checked call, for a function that `gives` something of the results and `takes` cotangents of that."""
        check_wish(self.name, method, backend, config)
        binding = self.binding(arrays)
        plan = self.plan(binding, *arrays, *flags)

        def shape(results: Results) -> Any:
            return gives(results if plan.shape is None else plan.shape(binding, results))

        def unshape(cotangent: Any) -> tuple[Array | None, ...]:
            parts = takes(cotangent)
            return parts if plan.unshape is None else plan.unshape(binding, parts)

        return Call(
            binding=binding,
            operation=self.operation,
            spec=plan.spec,
            operands=plan.canonical(arrays),
            request=requested(method, backend, config),
            shape=shape,
            unshape=unshape,
        )
