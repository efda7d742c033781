"""Importing this plants kernels that misbehave: recurrences that crash the process, and one that hangs.

For `seqpar autotune --import seqpar_bench.autotune_planted`, which has to find them out and to go on. They are planted where
there is little else to try, so that they are tried on a slow machine as well. Left to itself no choice takes them.
"""

import os
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from seqpar.dispatch.problem import Kernel
from seqpar.dispatch.registry import Backend, add_backend

NAME = "planted"
LAST = 1000.0


class Planted(Kernel):
    """Can run everything, as it says, and is the last to be chosen."""

    backend = NAME
    form = "arrays"

    def refuses(self, problem: Any, config: Any) -> str | None:
        return None

    def rank(self, problem: Any) -> float:
        return LAST


class Crashing(Planted):
    operation = "linear_recurrence"
    method = "crashing"

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> NoReturn:
        os.abort()


class CrashingBackward(Crashing):
    operation = "linear_recurrence_backward"


class Hanging(Planted):
    operation = "matrix_recurrence"
    method = "hanging"

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> NoReturn:
        while True:
            time.sleep(1.0)


KERNELS = (Crashing(), CrashingBackward(), Hanging())
add_backend(Backend(name=NAME, version="0", kernels=lambda: KERNELS))
