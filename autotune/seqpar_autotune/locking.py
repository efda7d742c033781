"""Who has a file of the store in hand: recorders hold theirs, `prune` takes those that nobody holds.

The system frees a lock when its process ends, however it ends. Where there are none (some network file systems), files
that were written to within the last hour count as held. On Windows an open file cannot be replaced or deleted at all.
"""

import os
import time

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HOUR = 3600.0


def hold(file: int) -> None:
    """Say that lines may still come into an open file, for as long as it is open."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
        except OSError:  # a file system without locks
            return


def take(file: int) -> bool:
    """Have an open file for oneself until it is closed; False where somebody else has it in hand."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:
            return time.time() - os.fstat(file).st_mtime > HOUR
    return True
