"""What the plans of a linear recurrence have in common, whichever way its memory lies: formats, strides, carries."""

from collections.abc import Mapping

from seqpar.dispatch.geometry import Geometry
from seqpar.linear_recurrence_operation import Walk
from seqpar.validation import COMPLEX, state_of
from seqpar_triton.limits import AXES, TIMELESS
from seqpar_triton.program import Call, Program

Formats = Mapping[str, str]
Scratch = dict[str, tuple[tuple[int, ...], str]]


class LinearShape:
    """One problem as the calls of its program see it; `main` names the operand whose format the state follows."""

    def __init__(
        self, spec: Walk, geometry: Geometry, formats: Formats, main: str, width: int, down: bool
    ) -> None:
        if len(geometry.sizes) > AXES:
            raise NotImplementedError(f"{len(geometry.sizes)} axes beside time, and a kernel walks three")
        self.spec, self.geometry, self.formats, self.width, self.down = spec, geometry, formats, width, down
        state = state_of(formats[main])
        self.complex = state in COMPLEX
        self.wide = state in ("float64", "complex128")
        self.carry_wide = self.wide or spec.gate != "value"
        self.axes = (1,) * (AXES - len(geometry.sizes)) + geometry.sizes

    @property
    def carry(self) -> str:
        """Dtype of a state between segments."""
        if self.complex:
            return "complex128" if self.carry_wide else "complex64"
        return "float64" if self.carry_wide else "float32"

    def others(self, name: str) -> tuple[int, ...]:
        """Strides over the three axes beside time; of what is absent, zeros."""
        found = self.geometry.strides[name].others if name in self.geometry.strides else ()
        return (0,) * (AXES - len(found)) + found

    def strides(self, *names: str) -> tuple[int, ...]:
        """As the kernels take them: a step where there is time, then one stride per axis."""
        found: list[int] = []
        for name in names:
            if name not in TIMELESS:
                found.append(self.geometry.strides[name].step if name in self.geometry.strides else 0)
            found += self.others(name)
        return tuple(found)

    def program(self, calls: tuple[Call, ...], scratch: Scratch, segments: int) -> Program:
        """The calls with the formats of all that they read and write; none where there is no sequence."""
        formats = {name: self.formats[name] for name in self.geometry.strides}
        formats |= {name: dtype for name, (_, dtype) in scratch.items()}
        calls = calls if self.geometry.sequences else ()
        return Program(calls=calls, formats=formats, scratch=scratch, segments=segments)
