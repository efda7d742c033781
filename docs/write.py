"""Write the parts of the documents that are made from the code and from the records, and draw the pictures of the records.

    python docs/write.py            brings README.md, docs/*.md and the pictures up to date
    python docs/write.py --check    only says which are not; `tests/test_docs.py` does the same

Parts of documents stand between markers. From the code: "capabilities", the table of kernels; "api", the reference of every
public name from its docstring; "zoo", every cell with its parameters and equations. From the records under benchmarks/results:
"figures", promised and measured; "others", what was measured beside them; "speed", how many times as fast as others, in the
README; "shares", of a GPU's bandwidth; "evidence" and "peers", what each way of solving a nonlinear recurrence came to; "cells"
and "sizes", what recurrent networks take and what everybody else's take; "buckets", "savings", "strokes" and "ranks", what plans
of buckets save; "choices", "wrong", "methods" and "counts", what tuning found.

A picture says inside which numbers it shows, so that only drawing it needs matplotlib (the extra `report`), not the check.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from seqpar_bench import capabilities
from seqpar_bench.documents import measured, reference, shares, speed
from seqpar_bench.documents.pictures import pictures

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PART = re.compile(r"(<!-- begin (\w+): python docs/write\.py -->\n).*?(<!-- end \2 -->)", re.DOTALL)

FROM_CODE: dict[str, Callable[[], str]] = {
    "capabilities": capabilities.table,
    "api": reference.api,
    "zoo": reference.zoo,
}
FROM_RECORDS: dict[str, Callable[[Path], str]] = {
    "figures": measured.figures,
    "others": measured.others,
    "speed": speed.speed,
    "shares": shares.shares,
    "evidence": measured.evidence,
    "peers": measured.peers,
    "cells": measured.cells,
    "sizes": measured.sizes,
    "buckets": measured.buckets,
    "savings": measured.savings,
    "strokes": measured.strokes,
    "ranks": measured.ranks,
    "choices": measured.choices,
    "wrong": measured.wrong,
    "methods": measured.methods,
    "counts": measured.counts,
}


def written(text: str) -> str:
    """A document with all its parts brought up to date."""
    return PART.sub(lambda found: f"{found[1]}\n{_part(found[2])}\n\n{found[3]}", text)


def _part(name: str) -> str:
    return FROM_CODE[name]() if name in FROM_CODE else FROM_RECORDS[name](ROOT)


def stale() -> Iterator[Path]:
    """Documents whose parts are not what the code and the records say."""
    for path in DOCUMENTS:
        text = path.read_text()
        if written(text) != text:
            yield path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if something is out of date"
    )
    args = parser.parse_args(argv)
    documents, drawings = list(stale()), [picture for picture in pictures(ROOT) if picture.stale]
    if args.check:
        for path in (*documents, *(picture.path for picture in drawings)):
            print(f"out of date: {path.relative_to(ROOT)}")
        return 1 if documents or drawings else 0
    for path in documents:
        path.write_text(written(path.read_text()))
        print(f"written: {path.relative_to(ROOT)}")
    left = 0
    for picture in drawings:
        try:
            picture.redraw()
        except ImportError as error:
            left += 1
            print(
                f"not drawn: {picture.path.relative_to(ROOT)}: {error}. Drawing needs matplotlib: pip install '.[report]'."
            )
        else:
            print(f"drawn: {picture.path.relative_to(ROOT)}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
