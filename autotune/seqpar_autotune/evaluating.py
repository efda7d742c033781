"""What `search` asks for times: points become candidates, which a worker checks and measures."""

from collections.abc import Sequence

from seqpar.dispatch.options import Numerics

from .candidates import candidate_of
from .outcome import Reading
from .rounds import Evaluate
from .space import Point
from .worker import Worker
from .workload import Workload


def evaluator(worker: Worker, workload: Workload, *, seed: int = 0, numerics: Numerics = "any") -> Evaluate:
    """The times of a workload, for `search`; the worker is about this workload from here on.

    With numerics="deterministic" a candidate whose bits differ from run to run is unstable, whatever it promises.
    """
    worker.prepare(workload, seed, numerics=numerics)

    def evaluate(points: Sequence[Point], /) -> Sequence[Reading]:
        return worker.round([candidate_of(point) for point in points])

    return evaluate
