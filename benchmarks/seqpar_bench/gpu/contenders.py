"""What is timed for one case and pass: the public call under both numerics, every kernel by name, and the peers.

A contender is made, run once over memory that was spoilt before, and checked; only then may it be timed. Whatever cannot take
part is a row with the reason.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import seqpar
from seqpar.dispatch.choice import REFERENCE_RANK, Choice, choose
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.faces import Call, prepare
from seqpar.dispatch.operation import operations
from seqpar.dispatch.options import NO_WISH, Numerics, Request
from seqpar_bench.gpu.answers import Inputs, Yardstick
from seqpar_bench.gpu.cases import SIZES, Case, Pass
from seqpar_bench.gpu.frameworks import Frame
from seqpar_bench.gpu.peers import YARDSTICKS, Peer, peers_of
from seqpar_bench.measure import Thunk

Array = Any
NUMERICS: tuple[Numerics, ...] = ("any", "deterministic")
SLACK_OF_PEERS = 50.0
"""How many times the bound on our errors theirs may be: some add logarithms. Some carry half precision, which costs more."""
LONGEST_LOOP = 20_000
"""Steps beyond which XLA's loop over single steps is not timed."""


class LeftOutError(Exception):
    """Why a contender takes no part."""


@dataclass(frozen=True)
class Made:
    """Ready to run."""

    thunk: Thunk
    check: Callable[[Any], object]
    """Raises where a result of the thunk is wrong."""
    what: str = ""
    """The kernel and its config, where it is ours."""
    moved: int = 0
    """Bytes, where they are not those of the pass."""


@dataclass(frozen=True)
class Contender:
    frame: Frame
    name: str
    make: Callable[[], Made]
    numerics: Numerics | None = None
    """Of the public call; None for kernels by name and for peers."""
    ours: bool = True
    """Is it this library that computes?"""
    peer: bool = False
    """Does somebody else compute the same?"""


@dataclass(frozen=True)
class Field:
    """One case and pass in one framework: where contenders meet."""

    case: Case
    which: Pass
    frame: Frame
    given: Inputs
    yardstick: Yardstick

    def contenders(self) -> Iterator[Contender]:
        """The public calls, the kernel of the first without them, the peers, and the kernels that were not chosen."""
        chosen: list[str] = []
        for numerics in NUMERICS:
            label = self._choice(Request(numerics=numerics)).kernel.label
            chosen.append(label)
            make = partial(self._public, numerics)
            yield Contender(self.frame, f"{numerics}: {label}", make, numerics=numerics)
        if self.which == "backward":
            yield Contender(self.frame, f"kernel alone: {chosen[0]}", partial(self._kernel, chosen[0]))
        for name, peer in peers_of(self.case, self.frame, self.given):
            if self.which == "forward" or name not in YARDSTICKS:
                make = partial(self._peer, peer)
                yield Contender(self.frame, name, make, ours=False, peer=name not in YARDSTICKS)
        for candidate in self._choice(NO_WISH).candidates:
            kernel = candidate.kernel
            too_long = kernel.label == "xla.sequential" and self.case.steps > LONGEST_LOOP
            if (
                candidate.refusal is None
                and candidate.rank < REFERENCE_RANK
                and kernel.label not in chosen
                and not too_long
            ):
                yield Contender(self.frame, kernel.label, partial(self._kernel, kernel.label))

    # --- ours -------------------------------------------------------------------------------------------------------------

    def _choice(self, wish: Request) -> Choice:
        """What dispatch chooses for the pass."""
        call = self._prepared()
        if self.which == "forward":
            return choose(call.problem(), wish)
        # Whatever has the shape of the states stands for them.
        operation, arguments = self._fused(call, call.unshape(self.given.b))
        return choose(problem_of(call.binding, operation, call.spec, arguments), wish)

    def _prepared(self) -> Call:
        call = prepare(self.case.function, self.given.a, self.given.b, axis=self.case.axis)
        assert isinstance(call, Call)
        return call

    def _fused(self, call: Call, results: Any) -> tuple[Any, Any]:
        """The fused backward operation and its operands."""
        assert call.operation.fused_backward is not None
        cotangents = call.unshape(self.given.g)
        arguments = call.operation.backward_operands(call.spec, call.operands, results, cotangents)
        return operations[call.operation.fused_backward], arguments

    def _public(self, numerics: Numerics) -> Made:
        """What a user calls."""
        choice = self._choice(Request(numerics=numerics))
        if choice.provenance == "reference":
            raise LeftOutError("the automatic choice is the reference code")

        def call(*arrays: Array) -> Array:
            with seqpar.options(numerics=numerics):
                return self.case.call(*arrays)

        a, b, g = self.given
        if self.which == "forward":
            # Without a wish a user writes no `with`.
            thunk = self.frame.forward(self.case.call if numerics == "any" else call, a, b)
            return Made(thunk, self.yardstick.forward, str(choice))
        with seqpar.options(numerics=numerics):
            thunk = self.frame.gradients(self.case, a, b, g)
        return Made(thunk, self._check_gradients, str(choice))

    def _kernel(self, label: str) -> Made:
        """One kernel and nothing around it but dispatch."""
        backend, _, method = label.partition(".")
        a, b, _ = self.given
        if self.which == "forward":
            named = partial(self.case.call, backend=backend, method=method)
            what = str(
                seqpar.explain(
                    self.case.function, a, b, axis=self.case.axis, backend=backend, method=method
                ).choice
            )
            return Made(self.frame.forward(named, a, b), self.yardstick.forward, what)
        call = self._prepared()
        results = call.binding.call(call.operation, call.spec, call.operands, NO_WISH)
        operation, arguments = self._fused(call, results)
        wish = Request(method=method, backend=backend, source="explicit")

        def fused(*operands: Array) -> Any:
            return call.binding.call(operation, call.spec, operands, wish)

        choice = choose(problem_of(call.binding, operation, call.spec, arguments), wish)
        return Made(self.frame.forward(fused, *arguments), self._check_gradients, str(choice))

    def _check_gradients(self, results: Any) -> float:
        da, db = (x.reshape(like.shape) for x, like in zip(results[:2], self.given[:2], strict=True))
        return self.yardstick.backward(da, db)

    # --- others -----------------------------------------------------------------------------------------------------------

    def _peer(self, make: Callable[[], Peer] | str) -> Made:
        if isinstance(make, str):
            raise LeftOutError(make)
        peer = make()
        a, b, g = peer.given
        if peer.numbers:
            moved = peer.numbers * self.case.elements * SIZES[self.case.dtype]
            return Made(self.frame.forward(peer.function, a, b), lambda _: None, moved=moved)
        slack = max(SLACK_OF_PEERS, self.yardstick.half_precision)
        if self.which == "forward":
            thunk = self.frame.forward(peer.function, a, b)
            return Made(thunk, lambda h: self.yardstick.forward(peer.restore(h), slack))

        def check(gradients: Any) -> float:
            da, db = (peer.restore(x) for x in gradients)
            return self.yardstick.backward(da, db, slack, peer.logarithmic)

        return Made(self.frame.backward(peer.function, a, b, g), check)


def checked(contender: Contender, field: Field) -> Made:
    """Made, run and found right. The memory that results will lie in was filled with NaN before."""
    made = contender.make()
    spoilt = [x * float("nan") for x in (field.given.a, field.given.b)]
    field.frame.wait()
    del spoilt
    result = made.thunk()
    field.frame.wait()
    made.check(result)
    return made
