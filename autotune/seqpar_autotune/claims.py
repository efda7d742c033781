"""What a trial in a storage says of itself: its point, who measures it, and what came of it.

Used by `sampling`. Several processes read and write the same storage; a point is given out once, unless whoever took it is gone.
"""

import datetime
import json
import os
import socket
from typing import Any

from .outcome import Measured
from .space import Point
from .verdict import Verdict

STALE = datetime.timedelta(minutes=15)
"""A point that a process elsewhere took so long ago and said nothing of since is given out again: that process is gone."""
DUPLICATE = "duplicate"
RELEASED = "released"


def labels(point: Point) -> dict[str, Any]:
    return {"point": point.key, "branch": point.branch, "knobs": json.dumps(point.config)}


def owner() -> dict[str, Any]:
    """Who measures it: this process."""
    return {"host": socket.gethostname(), "process": os.getpid()}


def holds(trial: Any) -> bool:
    """Does this trial keep its point from being given out?"""
    if trial.state.name == "RUNNING" and trial.datetime_start is not None:
        age = datetime.datetime.now() - trial.datetime_start
        return age < STALE and not _gone(trial.user_attrs)
    return trial.user_attrs.get("verdict") not in (DUPLICATE, RELEASED)


def read(trial: Any) -> Measured:
    """What another process, or an earlier run, has measured."""
    facts = trial.user_attrs
    point = Point(facts["branch"], tuple(json.loads(facts["knobs"]).items()))
    verdict = Verdict(facts["verdict"])
    ratio = trial.value if verdict is Verdict.OK else None
    return Measured(point, verdict, (), ratio, facts.get("message", ""), elsewhere=True)


def _gone(facts: dict[str, Any]) -> bool:
    """Was it taken by a process of this machine that is no more, killed with points in hand?"""
    # On Windows a signal of zero is Ctrl-C.
    if os.name != "posix" or facts.get("host") != socket.gethostname() or "process" not in facts:
        return False
    try:
        os.kill(facts["process"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False
