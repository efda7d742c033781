"""An operation without rules of differentiation: one that its public function differentiates in another way, or not at all."""

from typing import Any

from seqpar.dispatch.operation import Operation


class Underived(Operation):
    """What kernels compute, described for the tuner and for no framework's derivatives."""

    through_bindings = False

    def jvp(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"{self.name} has no derivatives as an operation: call the public function")

    vjp = transpose = batch = jvp
