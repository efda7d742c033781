"""Two trained networks, whose memory no random weights have. `python -m seqpar_bench.networks.train` made them."""

from pathlib import Path
from typing import Any

import numpy as np


def trained(name: str) -> dict[str, Any]:
    """Weights of a network, in float64.

    `adding`: a GRU that reads (number, mark) and gives the sum of the two marked numbers of its sequence, so it has to keep
    them for up to a hundred steps. `sine`: a GRU whose own output is its input; it was trained on a noisy sine to predict the
    next value and how uncertain that is, and draws one from noise.
    """
    with np.load(Path(__file__).parent / f"{name}.npz") as data:
        return {key: data[key].astype(np.float64) for key in data}
