"""Draw the picture of the README from a committed record: bandwidth of seqpar and of each framework's own loop.

    python -m seqpar_bench.chart [benchmarks/results/<machine>/linear_recurrence.json] [--out docs/images/speed.png]

Needs matplotlib (the extra `report`). It draws what the file says and measures nothing.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from seqpar_bench.cases import FEATURES, TIME_LAST
from seqpar_bench.picture import metadata
from seqpar_bench.record import profile_name

BARS: tuple[tuple[str, str, str, int], ...] = (
    # group of samples, case, label, bytes
    ("1 numpy", "numpy.add", "numpy.add (same bytes)", FEATURES.bytes_moved),
    ("1 numpy", "seqpar", "seqpar, NumPy", FEATURES.bytes_moved),
    ("2 torch", "seqpar", "seqpar, PyTorch", FEATURES.bytes_moved),
    ("3 jax", "seqpar", "seqpar, JAX (jit)", FEATURES.bytes_moved),
    ("4 time last", "seqpar", "seqpar, NumPy, time last (1024, 4096)", TIME_LAST.bytes_moved),
    ("1 numpy", "NumPy loop", "NumPy loop", FEATURES.bytes_moved),
    ("2 torch", "torch loop", "torch loop", FEATURES.bytes_moved),
    ("3 jax", "jax.lax.scan", "jax.lax.scan (jit)", FEATURES.bytes_moved),
    ("3 jax", "jax.lax.associative_scan", "jax.lax.associative_scan (jit)", FEATURES.bytes_moved),
)


def bandwidths(record: dict[str, Any]) -> list[tuple[str, float]]:
    """Label and GB/s of every bar whose samples the record holds."""
    found = []
    for group, case, label, moved in BARS:
        samples = record["seconds"].get(group, {}).get(case)
        if samples:
            found.append((label, moved / samples["median"] / 1e9))
    return found


def drawn(record: dict[str, Any]) -> Any:
    """What of the record the picture shows."""
    return [bandwidths(record), record["machine"]["cpu"]]


def draw(record: dict[str, Any], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    bars = bandwidths(record)[::-1]
    colours = [
        "#b8c0c8" if label.startswith("numpy.add") else "#1f6f8b" if "seqpar" in label else "#d98f3c"
        for label, _ in bars
    ]
    figure, axes = plt.subplots(figsize=(8, 3.6), dpi=130)
    filled = axes.barh([label for label, _ in bars], [value for _, value in bars], color=colours)
    axes.bar_label(filled, [f"{value:.1f}" for _, value in bars], padding=3, fontsize=8)
    axes.set_xlabel("GB/s of a, b and h (median); longer is faster")
    machine = record["machine"]
    axes.set_title(
        f"h[t] = a[t] * h[t-1] + b[t], float32, (4, 4096, 256) unless said; {machine['cpu'].strip()}, 2 threads",
        fontsize=9,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    axes.tick_params(labelsize=8)
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata=metadata(drawn(record)))
    plt.close(figure)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m seqpar_bench.chart", description=__doc__.splitlines()[0])
    default = Path("benchmarks/results") / profile_name() / "linear_recurrence.json"
    parser.add_argument("record", type=Path, nargs="?", default=default)
    parser.add_argument("--out", type=Path, default=Path("docs/images/speed.png"))
    args = parser.parse_args(argv)
    draw(json.loads(args.record.read_text()), args.out)
    print(f"written: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
