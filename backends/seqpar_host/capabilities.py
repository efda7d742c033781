"""The host kernels as a choice sees them: what they can run, how they rank, and how they bind to memory."""

from collections.abc import Sequence
from typing import Any, ClassVar

import seqpar
from seqpar.dispatch.operation import Abstract
from seqpar.dispatch.problem import Kernel, Launch, Layout, Problem
from seqpar.dispatch.registry import Backend
from seqpar.validation import COMPLEX, REAL
from seqpar_host.configs import SequentialConfig


def host_backend() -> Backend:
    """The entry point of the group "seqpar.backends"."""
    return Backend(name="host", version=seqpar.__version__, kernels=lambda: (Sequential(), Backward()))


class HostKernel(Kernel):
    """A numba kernel over host memory that some binding can show."""

    backend = "host"
    form = "buffers"
    kernel: ClassVar[str]

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if problem.device != "cpu":
            return f"works on host memory, and the arrays are on {problem.device}"
        if not problem.addressable:
            return f"{problem.framework} shows no memory that it could work on (or the memory is not aligned)"
        supported = {*REAL, *COMPLEX}
        odd = [name for name in problem.dtypes if name not in (None, "bool", *supported)]
        return f"has no format for {', '.join(map(str, odd))}" if odd else None

    def bind(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> Launch:
        from seqpar_host import kernels
        from seqpar_host.compile import launcher

        kernel = kernels.walk_kernel if self.kernel == "walk" else kernels.backward_kernel
        plan = kernel.plan(spec, [layout and kernels.Layout(*layout) for layout in layouts])
        run, words, most = launcher(), plan.address, plan.threads
        absent = (0,) * (10 - len(layouts))

        def launch(addresses: Sequence[int], threads: int | None = None) -> None:
            count = most
            if count > 1:
                limit = kernels.thread_limit()
                count = min(count, limit if threads is None else min(limit, threads))
            run(words, count, *addresses, *absent)

        launch.plan = plan  # type: ignore[attr-defined]  # its words must live as long as the launch
        return launch

    def xla_handler(
        self, spec: Any, config: Any, operands: Sequence[Abstract | None], results: Sequence[Abstract], include: str
    ) -> int:
        """Address of a function that XLA calls on the CPU, for jaxlib's headers in `include`; raises if they differ."""
        from seqpar_host.xla import xla_handler, xla_version

        return xla_handler(spec, operands, results, version=xla_version(include))


class Sequential(HostKernel):
    operation = "linear_recurrence"
    method = "sequential"
    config = SequentialConfig
    kernel = "walk"
    summary = "every option; rows in parallel; bitwise the same for any number of threads"


class Backward(HostKernel):
    operation = "linear_recurrence_backward"
    method = "sequential"
    config = SequentialConfig
    kernel = "backward"
    summary = "the whole vjp in one pass over time"
