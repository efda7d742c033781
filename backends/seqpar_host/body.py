"""What every kernel has to start from: the words of its job, the formats of its slots, the type of its states."""

from typing import Any

from seqpar_host.formats import FORMATS, Format
from seqpar_host.job import HEADER, PER_SLOT, SLOTS, MatrixSpecialisation, Specialisation
from seqpar_host.simd import I64, Int

TIMELESS = {"h0", "final", "g_final", "dh0"}


class Body:
    """The code of one kernel while it is emitted."""

    formats: dict[str, Format]
    reaches: dict[str, str]

    def __init__(
        self, builder: Any, of: Specialisation | MatrixSpecialisation, words: Int, main: str
    ) -> None:
        self.builder = builder

        def word(index: int) -> Int:
            pointer = builder.inttoptr((words + 8 * index).value, I64.as_pointer())
            return Int(builder, builder.load(pointer))

        self.steps, self.extent, self.cached, self.n, self.k = map(word, range(HEADER))
        self.slots: dict[str, list[Int]] = {}
        self.formats, self.reaches = {}, {}
        for index, name in enumerate(SLOTS[of.kernel]):
            if of.formats[index]:
                first = HEADER + PER_SLOT * index
                self.slots[name] = [word(first + entry) for entry in range(PER_SLOT)]
                self.formats[name] = FORMATS[of.formats[index]]
                self.reaches[name] = of.reaches[index]
        self.main = self.formats[main]
        self.state, self.complex = self.main.state, self.main.complex

    @property
    def origin(self) -> Int:
        return Int(self.builder, I64(0))
