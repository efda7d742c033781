"""What is timed for tall matrices: the public call under both numerics, every kernel by name, and the peers.

A contender is made, run once over memory that was spoilt before, and checked; only then may it be timed, as for recurrences.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import seqpar
from seqpar.dispatch.choice import REFERENCE_RANK
from seqpar.dispatch.options import Numerics
from seqpar_bench.gpu.answers import Inputs
from seqpar_bench.gpu.contenders import NUMERICS, SLACK_OF_PEERS, Contender, LeftOutError, Made
from seqpar_bench.gpu.frameworks import Frame
from seqpar_bench.gpu.tall_answers import TallYardstick
from seqpar_bench.gpu.tall_cases import TallCase, Work
from seqpar_bench.gpu.tall_peers import tall_peers_of


@dataclass(frozen=True)
class TallField:
    """One case and work in one framework."""

    case: TallCase
    which: Work
    frame: Frame
    given: Inputs
    yardstick: TallYardstick

    def contenders(self) -> Iterator[Contender]:
        """The public calls, the peers, and the kernels that were not chosen."""
        chosen: list[str] = []
        for numerics in NUMERICS:
            with seqpar.options(numerics=numerics):
                label = self._explained().kernel.label
            chosen.append(label)
            make = partial(self._public, numerics)
            yield Contender(self.frame, f"{numerics}: {label}", make, numerics=numerics)
        for name, function in tall_peers_of(self.which, self.frame):
            make = partial(self._peer, function)
            yield Contender(self.frame, name, make, ours=False, peer=True)
        for candidate in self._explained().candidates:
            label = candidate.kernel.label
            if candidate.refusal is None and candidate.rank < REFERENCE_RANK and label not in chosen:
                yield Contender(self.frame, label, partial(self._kernel, label))

    def _explained(self, **forced: Any) -> Any:
        return self.case.explained(self.which, self.given.a, self.given.b, **forced)

    def _public(self, numerics: Numerics) -> Made:
        """What a user calls."""

        def call(a: Any, b: Any) -> Any:
            with seqpar.options(numerics=numerics):
                return self.case.call(self.which, a, b)

        with seqpar.options(numerics=numerics):
            choice = self._explained()
        if choice.provenance == "reference":
            raise LeftOutError("the automatic choice is the reference code")
        # Without a wish a user writes no `with`.
        plain = partial(self.case.call, self.which)
        return self._made(plain if numerics == "any" else call, str(choice))

    def _kernel(self, label: str) -> Made:
        backend, _, method = label.partition(".")
        named = {"method": method} if backend == "framework" else {"backend": backend, "method": method}
        choice = self._explained(**named)
        if choice.kernel.label != label:
            raise LeftOutError(f"method={method!r} is {choice.kernel.label} here")
        return self._made(partial(self.case.call, self.which, **named), str(choice))

    def _made(self, function: Callable[..., Any], what: str) -> Made:
        thunk = self.frame.forward(function, self.given.a, self.given.b)
        return Made(thunk, partial(self.yardstick.check, self.which), what)

    def _peer(self, function: Callable[..., Any]) -> Made:
        thunk = self.frame.forward(function, self.given.a, self.given.b)
        return Made(thunk, partial(self.yardstick.check, self.which, slack=SLACK_OF_PEERS, signs=False))
