"""How many threads a kernel may use: what others have set, never more, and nothing is changed."""

import os
import sys

from seqpar.dispatch.profile import usable_cores
from seqpar_host.launch import MOST_THREADS


def thread_limit(asked: int | None = None) -> int:
    """The smallest of what the caller asked for, numba's setting and the processors this process may run on.

    One inside a DataLoader's worker.
    """
    loader = sys.modules.get("torch.utils.data._utils.worker")
    if loader is not None and loader.get_worker_info() is not None:
        return 1
    limit = usable_cores() if asked is None else min(asked, usable_cores())
    setting = os.environ.get("NUMBA_NUM_THREADS", "")
    if setting.isdigit():
        limit = min(limit, int(setting))
    layer = sys.modules.get("numba.np.ufunc.parallel")
    # get_num_threads() would start numba's threads if they do not run yet.
    if layer is not None and layer._is_initialized:
        limit = min(limit, layer.get_num_threads())
    return max(1, min(limit, MOST_THREADS))
