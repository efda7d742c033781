"""What all pictures of a report share: colours that the colour-blind tell apart, marks, letters, and frames without ornament.

Ink, grid and paper are colours that nothing else has: in the SVG of a page they become the page's own.
"""

from __future__ import annotations

from typing import Any

from seqpar_bench.bench.row import Kind

Axes = Any
INK, GRID, PAPER = "#1f2933", "#d5dae1", "#fffffe"
COLOURS: dict[Kind, str] = {
    "seqpar": "#0b6fa4",
    "kernel": "#7fb8d8",
    "own": "#e08214",
    "peer": "#8b7f9c",
    "limit": INK,
}
MARKS: dict[Kind, str] = {"seqpar": "o", "kernel": "o", "own": "s", "peer": "D", "limit": "_"}
WORDS: dict[Kind, str] = {
    "seqpar": "seqpar",
    "kernel": "seqpar, one kernel by name",
    "own": "the framework's own way",
    "peer": "others",
    "limit": "limit of the hardware",
}
STYLE: dict[str, Any] = {
    "figure.dpi": 130,
    "savefig.dpi": 130,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    # Text stays text: it is searched, copied, and small.
    "svg.fonttype": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8.5,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": PAPER,
}


def plain(words: str) -> str:
    """Words that matplotlib takes for no formula."""
    return words.replace("$", r"\$")


def handles(kinds: list[Kind]) -> list[Any]:
    """For a legend of these kinds."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label=WORDS[kind])
        if kind == "limit"
        else Line2D(
            [], [], color=COLOURS[kind], marker=MARKS[kind], linestyle="", markersize=7, label=WORDS[kind]
        )
        for kind in kinds
    ]
