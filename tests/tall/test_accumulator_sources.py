"""Where rows come from: generators, arrays, and files that are larger than memory should be."""

import subprocess
import sys
import textwrap
import tracemalloc
import types

import numpy as np
import pytest

from seqpar import LstsqAccumulator
from seqpar.errors import ArrayTypeError, MissingExtraError, ShapeError
from tall.accumulated import near, problem, solution


def test_a_generator_is_pushed_block_by_block():
    a, b = problem(500, 3)
    weights = np.arange(500.0)

    def blocks():
        for first in range(0, 500, 120):
            rows = slice(first, first + 120)
            yield a[rows], b[rows], weights[rows]

    fit = LstsqAccumulator(3)
    assert fit.push_from(blocks()) is fit
    near(fit.solve().x, solution(a, b, weights=weights))


@pytest.mark.parametrize("kind", [tuple, list])
def test_whole_arrays_are_pushed_in_slices(kind):
    a, b = problem(500, 3, 2)
    fit = LstsqAccumulator(3, 2, block_rows=128).push_from(kind((a, b)))
    near(fit.solve().x, solution(a, b))
    assert LstsqAccumulator(3, 2).push_from((a[:0], b[:0])).rows == 0


def test_a_list_of_blocks_is_pushed():
    a, b = problem(100, 3)
    fit = LstsqAccumulator(3).push_from([(a[:10], b[:10]), [a[10:], b[10:]]])
    near(fit.solve().x, solution(a, b))


def test_the_block_that_fails_is_named():
    a, b = problem(30, 3)
    fit = LstsqAccumulator(3)
    with pytest.raises(ShapeError) as raised:
        fit.push_from([(a, b), (a, b[:10]), (a, b)])
    assert raised.value.__notes__ == ["in block 1 of the source; the blocks before it were taken up"]
    assert fit.rows == 30


def test_a_generator_that_raises_is_told_which_block_it_was():
    a, b = problem(500, 3)

    def blocks():
        yield a[:100], b[:100]
        yield a[100:200], b[100:200]
        raise OSError("the disk is gone")

    fit = LstsqAccumulator(3)
    with pytest.raises(OSError, match="disk is gone") as raised:
        fit.push_from(blocks())
    assert raised.value.__notes__ == ["in block 2 of the source; the blocks before it were taken up"]
    assert fit.rows == 200


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.ones((4, 3)), r"push_from: source is a ndarray. Give \(a, b\), or an iterable"),
        (3, r"push_from: source is a int"),
        ([np.ones((4, 3))], r"push_from: a block is a list of 1. Give \(a, b\)"),
        (iter([np.ones((4, 3))]), r"push_from: a block is a ndarray"),
        ((np.ones((4, 3)),) * 4, r"push_from: a block is a tuple of 4"),
    ],
)
def test_what_yields_no_blocks_is_refused(source, message):
    with pytest.raises(ArrayTypeError, match=message):
        LstsqAccumulator(3).push_from(source)


def test_arrays_of_unlike_length_are_refused():
    with pytest.raises(ShapeError, match=r"b.shape=\(5,\) does not fit a.shape=\(4, 3\)"):
        LstsqAccumulator(3).push_from((np.ones((4, 3)), np.ones(5)))


def test_a_missing_progress_bar_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'seqpar\[report\]'"):
        LstsqAccumulator(3).push_from([problem(30, 3)], progress=True)


@pytest.mark.parametrize(
    ("source", "total", "steps"),
    [
        (lambda a, b: (a, b), 300, [128, 128, 44]),
        (lambda a, b: [(a, b), (a, b)], 2, [1, 1]),
        (lambda a, b: iter([(a, b)]), None, [1]),
    ],
)
def test_progress_is_told_to_rich(monkeypatch, source, total, steps):
    told = []

    class Progress:
        def __init__(self, *columns):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            told.append("closed")

        def add_task(self, name, total):
            told.append(total)

        def update(self, task, advance):
            told.append(advance)

    column = lambda *_: None
    names = ("BarColumn", "MofNCompleteColumn", "TextColumn", "TimeElapsedColumn")
    module = types.SimpleNamespace(Progress=Progress, **dict.fromkeys(names, column))
    monkeypatch.setitem(sys.modules, "rich", types.ModuleType("rich"))
    monkeypatch.setitem(sys.modules, "rich.progress", module)
    fit = LstsqAccumulator(3, block_rows=128).push_from(source(*problem(300, 3)), progress=True)
    assert told == [total, *steps, "closed"]
    assert fit.rows == 300 * (1 if total == 300 else len(steps))


@pytest.mark.parametrize("dtype", [None, "float64"])
def test_a_file_is_read_a_slice_at_a_time(tmp_path, dtype):
    rows, features = 200_000, 10
    a, b = problem(rows, features, dtype="float32")
    a.tofile(tmp_path / "a")
    b.tofile(tmp_path / "b")
    expected = solution(a, b)
    del a, b
    a = np.memmap(tmp_path / "a", "float32", "r", shape=(rows, features))
    b = np.memmap(tmp_path / "b", "float32", "r")
    warm = LstsqAccumulator(features, intercept=True, dtype=dtype, folds=2, block_rows=4096)
    warm.push(a[:9000], b[:9000])
    tracemalloc.start()
    try:
        fit = LstsqAccumulator(features, dtype=dtype, folds=2, block_rows=4096).push(a, b)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Blocks of 4096 rows in double precision are 0.4 MB and the file is 8 MB.
    assert peak < 3e6
    near(fit.solve().x, expected, dtype="float32")


def test_rows_made_on_the_fly_need_no_memory_of_their_number():
    program = """
        import resource
        import numpy as np
        import seqpar

        def blocks(count):
            random = np.random.default_rng(0)
            for _ in range(count):
                a = random.standard_normal((20_000, 32), dtype=np.float32)
                yield a, a[:, 0]

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        fit = seqpar.LstsqAccumulator(32).push_from(blocks(3))
        before = peak()
        fit.push_from(blocks(60))
        assert fit.rows == 1_260_000
        assert peak() - before < 20_000, f"{peak() - before} kB more for 154 MB of rows"
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
