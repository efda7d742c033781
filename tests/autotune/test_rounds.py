"""Times that were taken are whole, whatever ends a round."""

import itertools
import random
import sys
from types import FrameType
from typing import Any

from seqpar_autotune import rounds as rounds_module
from seqpar_autotune.rounds import Rounds
from seqpar_autotune.space import Point

DEFAULT, OTHERS = Point("default"), [Point("first"), Point("second")]


def interrupted_at(line: int) -> tuple[Rounds, bool]:
    """Two rounds, with Ctrl-C before the so-manieth line of the module in the second one; was there such a line?"""
    rounds = Rounds(
        lambda points: [1.0] * len(points), DEFAULT, generator=random.Random(0), clock=lambda: 0.0
    )
    rounds.run(OTHERS[:1])
    _ = rounds.ratio(OTHERS[0])
    count = itertools.count()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != rounds_module.__file__:
            return None
        if event == "line" and next(count) == line:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        rounds.run(OTHERS)
    except KeyboardInterrupt:
        return rounds, True
    finally:
        sys.settrace(before)
    return rounds, False


def test_ctrl_c_between_any_two_lines_leaves_whole_times() -> None:
    for line in itertools.count():
        rounds, there = interrupted_at(line)
        assert rounds.ratio(OTHERS[0]) == 1.0
        for point in rounds.tried:
            assert rounds.measured(point).ratio == 1.0
        for point in rounds.working:
            assert rounds.ratio(point) == 1.0
        if not there:
            break
    assert line > 20 and len(rounds.seconds[DEFAULT]) == 2
