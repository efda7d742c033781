"""What all host kernels have in common: the memory they work on, and how they bind to it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from seqpar.dispatch.geometry import row_major
from seqpar.dispatch.problem import Kernel, Launch, Layout, Problem
from seqpar.validation import COMPLEX, REAL

if TYPE_CHECKING:
    from seqpar_host.plan import Plan


class HostKernel(Kernel):
    """A numba kernel over host memory that some binding can show."""

    backend = "host"
    form = "buffers"
    kernel: ClassVar[str]
    instead: ClassVar[str] = "sequential"
    """A method that needs less memory."""

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if problem.device != "cpu":
            return f"works on host memory, and the arrays are on {problem.device}"
        if not problem.addressable:
            return f"{problem.framework} shows no memory that it could work on (or the memory is not aligned)"
        supported = {*REAL, *COMPLEX}
        odd = [name for name in problem.dtypes if name not in (None, "bool", *supported)]
        return f"has no format for {', '.join(map(str, odd))}" if odd else None

    def plan(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> "Plan":
        """The words that launch the kernel on memory laid out so."""
        from seqpar_host.plan import make_plan

        return make_plan(self.kernel, spec, layouts)

    def bind(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> Launch:
        from seqpar_host.compile import launcher
        from seqpar_host.launch import MOST_SLOTS
        from seqpar_host.threads import thread_limit

        plan, run = self.plan(spec, config, layouts), launcher()
        words, alone = plan.address, plan.threads == 1
        absent = (0,) * (MOST_SLOTS - len(layouts))

        def launch(addresses: Sequence[int], threads: int | None = None) -> None:
            # That the closure holds the plan keeps its words alive.
            if run(words, 1 if alone else min(plan.threads, thread_limit(threads)), *addresses, *absent):
                raise MemoryError(
                    f"{self.operation}: there is no memory for what {self.label} notes down. Give it fewer rows at a time, or "
                    f"method={self.instead!r}."
                )

        return launch

    def xla_handler(
        self,
        spec: Any,
        config: Any,
        operands: Sequence[tuple[tuple[int, ...], str] | None],
        results: Sequence[tuple[tuple[int, ...], str]],
        include: str,
    ) -> int:
        from seqpar_host.xla import xla_handler, xla_version

        made_for = (self.kernel, spec, config, tuple(operands), tuple(results))
        layouts = [None if x is None else row_major(*x) for x in (*operands, *results)]
        return xla_handler(
            made_for, lambda: self.plan(spec, config, layouts), layouts, len(operands), xla_version(include)
        )
