"""What `seqpar bench` makes of a run: tables at any width, exponents, pictures, a summary, and a folder with all of them."""

import dataclasses
import hashlib
import io
import json
import math
import random
import re
import sys
from pathlib import Path

import pytest

import bench_runs
from seqpar.errors import MissingExtraError, OptionError
from seqpar_bench.bench.report import amounts, plots, scaling, tables, terminal
from seqpar_bench.bench.report import folder as report
from seqpar_bench.bench.report.headline import headlines
from seqpar_bench.bench.report.page import page
from seqpar_bench.bench.report.plot_lengths import draw_lengths
from seqpar_bench.bench.report.plot_style import COLOURS, PAPER
from seqpar_bench.bench.report.summary import summary
from seqpar_bench.bench.row import Run, read


@pytest.fixture(scope="module")
def run() -> Run:
    return bench_runs.made_up_run()


@pytest.fixture(scope="module")
def pictures(run: Run) -> list[plots.Picture]:
    return plots.draw(run)


def lines_of(*rows: object, limits: dict[str, dict[str, float]] | None = None) -> list[tables.Line]:
    run = Run(date="2026-05-04", rows=list(rows), limits=limits or {})  # type: ignore[arg-type]
    return tables.rows(run, "linear_recurrence")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3.2e-10, "0.32 ns"),
        (4.56e-7, "456 ns"),
        (9.996e-7, "1.00 us"),
        (1.5e-3, "1.50 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (2325.0, "2,320 s"),
    ],
)
def test_durations_have_three_digits_and_the_unit_that_fits(seconds: float, text: str) -> None:
    assert amounts.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1e-8, "10 ns"), (1e-6, "1 us"), (2.5e-4, "250 us"), (9.997e-4, "1 ms"), (1e3, "1,000 s")],
)
def test_marks_of_an_axis_have_no_noughts_that_say_nothing(seconds: float, text: str) -> None:
    assert amounts.tick(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.34, "12.3x"), (0.5794, "0.579x"), (1234.0, "1,230x"), (1.0, "1.00x"), (99.96, "100x")],
)
def test_speedups_have_three_digits(value: float, text: str) -> None:
    assert amounts.ratio(value) == text


def test_lines_of_a_place_begin_with_limits_then_come_the_quickest_then_those_without_times() -> None:
    row = bench_runs.made_up_row
    found = lines_of(
        row(None, name="not here", kind="peer", verdict="missing", note="pip install it"),
        row(None, name="breaks", kind="peer", verdict="crash", note="why"),
        row(3e-3, name="slow", kind="peer"),
        row(1e-3, name="quick"),
        row(9e-3, name="copy", kind="limit"),
    )
    assert [line["who"] for line in found] == ["copy", "quick", "slow", "breaks", "not here"]


def test_the_public_call_says_what_it_chose_and_others_do_not() -> None:
    row = bench_runs.made_up_row
    found = lines_of(
        row(1e-3, ran="host.chunked"), row(2e-3, name="host.chunked", kind="kernel", ran="host.chunked")
    )
    assert [line["who"] for line in found] == ["seqpar (host.chunked)", "host.chunked"]


def test_speed_is_in_bytes_where_copying_takes_longer_and_in_operations_elsewhere() -> None:
    row = bench_runs.made_up_row
    copy = row(1e-3, name="copy", kind="limit", nbytes=20_000_000)
    product = row(1e-3, name="matrix product", kind="limit", flops=110_000_000)
    by_bytes = lines_of(copy, product, row(1e-3, nbytes=10_000_000, flops=10_000_000))
    by_flops = lines_of(copy, product, row(1e-3, nbytes=10_000_000, flops=100_000_000))
    assert [line["speed"] for line in by_bytes] == ["20.0 GB/s", "110 GFLOP/s", "10.0 GB/s"]
    assert by_flops[-1]["speed"] == "100 GFLOP/s"


def test_several_missing_rows_of_one_framework_and_note_are_one_line(run: Run) -> None:
    found = [line for line in tables.rows(run, "linear_recurrence") if line.verdict == "missing"]
    assert [(line["problem"], line["framework"], line["who"], line["note"]) for line in found] == [
        (tables.EVERYWHERE, "torch", "torch_scan.scan", bench_runs.PIP),
        (tables.EVERYWHERE, "cupy", "seqpar", "pip install cupy-cuda12x"),
    ]


def test_a_single_missing_row_keeps_its_problem(run: Run) -> None:
    (found,) = (line for line in tables.rows(run, "solve_recurrence") if line.verdict == "missing")
    assert found["problem"] == "GRU, 32 units (8 x 2048 x 32)"


def test_what_is_not_known_has_no_key_to_sort_by() -> None:
    (timed, failed) = lines_of(
        bench_runs.made_up_row(1e-3), bench_runs.made_up_row(None, name="b", verdict="crash")
    )
    time = tables.COLUMNS.index("time")
    assert timed.cells[time] == ("1.00 ms", 1e-3)
    assert failed.cells[time] == ("crash", None)
    assert timed.cells[tables.COLUMNS.index("speed-up")] == ("", None)


def test_the_frameworks_own_way_has_speedup_one_without_a_cross() -> None:
    (line,) = lines_of(bench_runs.made_up_row(1e-3, kind="own", speedup=1.0))
    assert line["speed-up"] == "1"


def test_sweeps_can_be_left_out_or_stand_alone(run: Run) -> None:
    every = tables.rows(run, "linear_recurrence")
    alone, swept = (tables.rows(run, "linear_recurrence", sweeps=sweeps) for sweeps in (False, True))
    assert len(alone) + len(swept) == len(every)
    assert {line["problem"].split(" (")[0] for line in swept} == {"64 features"}


@pytest.mark.parametrize("width", [80, 100, 120, 160, 200])
def test_no_line_on_a_terminal_is_longer_than_the_terminal_is_wide(
    run: Run, width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for operation in run.operations():
        terminal.print_operation(run, operation, sweeps=False, width=width)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    for needed in ("seqpar (host.seq", "speed-up", "11.7x", "[1] pip install torch-scan", "0.32 ns"):
        assert needed in shown


@pytest.mark.parametrize("width", [80, 120, 160])
def test_rich_has_room_for_every_cell_on_one_line(run: Run, width: int) -> None:
    console = pytest.importorskip("rich.console")
    box, table = pytest.importorskip("rich.box"), pytest.importorskip("rich.table")
    for operation in run.operations():
        names, lines, _ = terminal.fitted(tables.rows(run, operation, sweeps=False), width)
        drawn = table.Table(*names, box=box.SIMPLE_HEAD)
        for line in lines:
            drawn.add_row(*line)
        screen = console.Console(width=width, file=io.StringIO(), markup=False)
        screen.print(drawn)
        shown = [line for line in screen.file.getvalue().splitlines() if line.strip()]
        assert len(shown) == 2 + len(lines)


def test_a_wide_terminal_shows_what_a_narrow_one_leaves_out(run: Run) -> None:
    lines = tables.rows(run, "linear_recurrence", sweeps=False)
    wide, narrow = (terminal.fitted(lines, width)[0] for width in (200, 80))
    assert [name for name in wide if name not in narrow] == [
        "dtype",
        "pass",
        "spread",
        "speed",
        "of limit",
        "error",
    ]


def test_a_narrow_terminal_has_the_words_of_a_place_under_each_other(run: Run) -> None:
    columns, cells, _ = terminal.fitted(tables.rows(run, "matrix_recurrence"), 80)
    assert columns[0] == "problem"
    assert [row[0] for row in cells[:4]] == ["64 states", "4096 x 64 x 64", "float32 forward", ""]


def test_places_with_fewer_contestants_than_words_keep_all_words() -> None:
    row = bench_runs.made_up_row
    places = [
        row(1e-3, problem=f"problem {i}", name="a name that takes a lot of room " * 2) for i in range(2)
    ]
    _, cells, _ = terminal.fitted(lines_of(*places), 80)
    words = ["4 x 4096 x 256", "float32 forward"]
    assert [line[0] for line in cells] == ["problem 0", *words, "problem 1", *words]


def test_a_run_on_the_terminal_tells_exponents_headlines_troubles_and_what_was_left_out(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.show(run)
    shown = capsys.readouterr().out
    for needed in (
        "1.20 ± 0.00",
        "25.6x to 25.6x, 4 problems",
        "went wrong: torch: the worker was started again",
        "left out: qr 4,000,000 x 32 float32: takes 12.0 GiB of memory",
        "Lengths of a sweep count only where",
    ):
        assert needed in shown
    assert "(4194304 x 64)" not in shown  # every length of a sweep is not


def test_markdown_takes_awkward_words_for_words(run: Run) -> None:
    text = tables.markdown(tables.rows(run, "solve_recurrence"))
    (line,) = (line for line in text.splitlines() if "peer 1" in line)
    assert r"""fails with \<b\>"x" &amp; 'y'\</b\> \| \`a\` \</script\>""" in line
    columns = text.splitlines()[0].count("|")
    assert line.replace(r"\|", "").count("|") == columns


def test_exponents_are_those_of_the_laws_the_times_follow(run: Run) -> None:
    found = {(law.framework, law.name): law for law in scaling.exponents(run)}
    loop, scan = found["torch", "torch loop"], found["jax", "jax.lax.associative_scan"]
    assert loop.exponent == pytest.approx(1, abs=1e-3)
    assert scan.exponent == pytest.approx(1.2, abs=1e-3)
    assert loop.error == pytest.approx(0, abs=1e-3)
    assert loop.lengths == tuple(2**k for k in range(8, 23))
    assert loop.each == pytest.approx(3e-7)


def test_the_cost_of_a_call_does_not_flatten_an_exponent(run: Run) -> None:
    (law,) = (law for law in scaling.exponents(run) if (law.framework, law.name) == ("torch", "seqpar"))
    assert law.exponent == pytest.approx(1, abs=0.01)
    shortest = next(row for row in run.rows if row.sweep and (row.framework, row.name) == ("torch", "seqpar"))
    assert shortest.median is not None
    assert 0.5 * shortest.median < law.call < shortest.median


@pytest.mark.parametrize("power", [0.5, 1.0, 1.2, 2.0])
@pytest.mark.parametrize("call", [0.0, 1e-5, 1e-3])
def test_a_law_with_a_cost_of_each_call_is_found_whatever_its_power(power: float, call: float) -> None:
    lengths = [2**k for k in range(8, 23)]
    exponent, error, found = scaling.fit(lengths, [call + 1e-7 * n**power for n in lengths])
    assert exponent == pytest.approx(power, abs=1e-3)
    assert error is not None
    assert error < 1e-3
    assert found == pytest.approx(call, rel=1e-2, abs=1e-7)


def test_beyond_caches_the_longest_lengths_have_an_exponent_of_their_own() -> None:
    row = bench_runs.made_up_row
    # Three times slower per step from 2^16 on.
    rows = [
        row(1e-5 + 1e-9 * n * (3 if k > 15 else 1), sweep="lengths", length=n)
        for k in range(8, 23)
        if (n := 2**k)
    ]
    (law,) = scaling.exponents(Run(date="", rows=rows))
    assert law.exponent > 1.05
    assert law.beyond == pytest.approx(1, abs=0.02)
    (short,) = scaling.exponents(Run(date="", rows=rows[::5] + rows[:2]))
    assert short.beyond is None


def test_one_outlier_does_not_tilt_an_exponent() -> None:
    lengths = [2**k for k in range(8, 23)]
    seconds = [1e-9 * n**1.5 for n in lengths]
    seconds[9] *= 10
    exponent, error, _ = scaling.fit(lengths, seconds)
    assert exponent == pytest.approx(1.5, abs=0.02)
    assert error is not None
    assert 0 <= error < 0.2


def test_noise_shows_in_the_error_of_an_exponent() -> None:
    lengths = [2**k for k in range(8, 17)]
    noise = [0.1, -0.1, 0.05, 0.1, -0.05, 0.0, -0.1, 0.1, 0.05]

    def error(size: float) -> float:
        found = scaling.fit(
            lengths, [1e-9 * n * math.exp(size * x) for n, x in zip(lengths, noise, strict=True)]
        )[1]
        assert found is not None
        return found

    assert 0 < error(0.01) < error(0.1) < error(1.0)


def test_the_error_of_an_exponent_covers_the_truth_as_often_as_a_standard_error_does() -> None:
    # The lengths of --quick. Three unknowns leave two degrees of freedom: one error covers 58 of 100, three cover 90.
    lengths = [2**k for k in range(8, 17, 2)]
    draw = random.Random(0)
    off = []
    for _ in range(100):
        seconds = [(1e-5 + 1e-8 * n) * draw.lognormvariate(0, 0.2) for n in lengths]
        exponent, error, _ = scaling.fit(lengths, seconds)
        assert error is not None
        off.append(abs(exponent - 1) / error)
    assert 45 <= sum(x < 1 for x in off) <= 80
    assert sum(x < 3 for x in off) >= 85
    assert max(off) < 50


def test_a_curve_through_three_of_five_lengths_has_an_error_of_the_other_two() -> None:
    lengths = [2**k for k in range(8, 17, 2)]
    seconds = [1e-8 * n for n in lengths]
    seconds[1] *= 1.5
    seconds[3] /= 1.5
    _, error, _ = scaling.fit(lengths, seconds)
    assert error is not None
    assert error > 0.05


@pytest.mark.parametrize(("power", "bound"), [(-0.5, 0.0), (7.0, 5.0)])
def test_an_exponent_at_its_bound_has_no_error_and_says_so(power: float, bound: float) -> None:
    row = bench_runs.made_up_row
    rows = [row(1e-20 * n**power, sweep="lengths", length=n) for n in (256, 512, 1024, 2048, 4096)]
    (law,) = scaling.exponents(Run(date="", rows=rows))
    assert law.exponent == pytest.approx(bound, abs=2e-3)
    assert law.error is None
    assert law.text == f"{bound:.2f}, at the bound"
    assert law.text in scaling.table([law])[0]


def test_marks_are_hollow_where_lengths_are_too_few_for_a_fit() -> None:
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure

    def inside(count: int) -> str:
        rows = [
            bench_runs.made_up_row(1e-6 * n, sweep="lengths", length=n)
            for n in (256, 512, 1024, 2048, 4096)[:count]
        ]
        drawn = draw_lengths(Figure, Run(date="", rows=rows), "linear_recurrence")
        assert drawn is not None
        return to_hex(drawn.axes[0].lines[0].get_markerfacecolor())

    assert inside(3) == PAPER
    assert inside(5) == COLOURS["seqpar"]


def test_three_lengths_have_no_exponent() -> None:
    row = bench_runs.made_up_row
    rows = [row(1e-6 * n, sweep="lengths", length=n) for n in (1000, 2000, 3000)]
    assert scaling.exponents(Run(date="", rows=rows)) == []
    rows.append(row(4e-3, sweep="lengths", length=4000))
    assert len(scaling.exponents(Run(date="", rows=rows))) == 1


def test_lengths_of_a_sweep_make_a_headline_only_where_there_is_nothing_else() -> None:
    row = bench_runs.made_up_row
    swept = [row(1e-3, speedup=0.5, sweep="lengths", length=n) for n in (256, 512)]
    (alone,) = headlines(Run(date="", rows=swept))
    (both,) = headlines(Run(date="", rows=[*swept, row(1e-3, speedup=4.0)]))
    assert (alone.mean, alone.problems) == (pytest.approx(0.5), 2)
    assert (both.mean, both.problems) == (pytest.approx(4.0), 1)


def test_headlines_are_geometric_means_with_the_worst_and_the_best() -> None:
    row = bench_runs.made_up_row
    rows = [
        row(1e-3, speedup=4.0),
        row(1e-3, problem="other", speedup=0.25),
        row(1e-3, name="x", kind="peer", speedup=9.0),
    ]
    (found,) = headlines(Run(date="", rows=rows))
    assert (found.mean, found.worst, found.best, found.problems) == (pytest.approx(1.0), 0.25, 4.0, 2)
    assert found.worst_problem == "other (4 x 4096 x 256), float32, forward"


def test_every_operation_has_its_pictures(pictures: list[plots.Picture]) -> None:
    assert [picture.name for picture in pictures] == [
        "linear_recurrence_speed",
        "linear_recurrence_lengths",
        "matrix_recurrence_speed",
        "plan_buckets_speed",
        "solve_recurrence_speed",
        "roofline",
    ]


def test_pictures_name_the_rows_they_were_drawn_from(
    run: Run, pictures: list[plots.Picture], tmp_path: Path
) -> None:
    from PIL import Image

    run.write(tmp_path / "bench.json")
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    (tmp_path / "x.png").write_bytes(pictures[0].png)
    with Image.open(tmp_path / "x.png") as image:
        assert image.info["seqpar-record"] == digest
        assert "Software" not in image.info


def test_the_same_rows_give_the_same_bytes_whatever_the_users_style(run: Run) -> None:
    import matplotlib

    some = [row for row in run.rows if row.sweep]
    first = plots.draw(Run(date="one", rows=some, limits=run.limits))
    with matplotlib.rc_context({"xtick.major.size": 20, "lines.solid_capstyle": "round"}):
        again = plots.draw(Run(date="another", rows=some, limits=run.limits))
        assert matplotlib.rcParams["xtick.major.size"] == 20
    assert {picture.name.split("_")[-1] for picture in first} == {"speed", "lengths", "roofline"}
    assert [(p.png, p.svg) for p in again] == [(p.png, p.svg) for p in first]


def test_pictures_for_the_page_take_its_colours_and_share_no_names(pictures: list[plots.Picture]) -> None:
    assert all("currentColor" in p.svg and "#1f2933" not in p.svg and "<?xml" not in p.svg for p in pictures)
    names = [name for p in pictures for name in set(re.findall(r'\bid="([^"]+)"', p.svg))]
    assert len(names) == len(set(names))
    for p in pictures:
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', p.svg))
        assert used <= set(re.findall(r'\bid="([^"]+)"', p.svg))


def test_a_contestant_with_a_dollar_in_its_name_is_no_formula() -> None:
    rows = [bench_runs.made_up_row(1e-3, name="a$b_c$d", nbytes=1000)]
    (picture,) = plots.draw(Run(date="", rows=rows))
    assert "a$b_c$d</text>" in picture.svg


@pytest.mark.parametrize("odd", [1e308, 5e-324, 0.0, -1.0, math.inf, math.nan])
def test_odd_numbers_of_one_row_are_not_drawn_and_the_others_are(odd: float) -> None:
    row = bench_runs.made_up_row
    facts = {"nbytes": 1000, "flops": 1000}
    rows = [
        row(1e-3, **facts, limit=odd, speedup=odd, error=odd, spread=odd),
        row(odd, name="odd", kind="own", **facts),
        row(1e-3, name="odd bytes", nbytes=int(max(min(odd, 1e300), -1)) if odd == odd else 0),
        *(row(1e-6 * n, sweep="s", length=n, **facts) for n in (256, 512, 1024, 2048, 4096)),
        *(row(odd, sweep="s", name="odd", length=n, **facts) for n in (256, 512, 1024, 2048, 4096)),
    ]
    run = Run(date="", rows=rows, limits={"cpu": {"copy": odd, "float32": 1e9}}, elapsed=odd, load_before=odd)
    pictures = plots.draw(run)
    assert [picture.name for picture in pictures] == [
        "linear_recurrence_speed",
        "linear_recurrence_lengths",
        "roofline",
    ]
    assert all("odd</text>" not in picture.svg for picture in pictures)
    assert "numpy" in pictures[0].svg
    shown = page(run, pictures)
    assert not re.search("--share:(nan|-|inf)", shown)
    assert "linear_recurrence" in summary(run, pictures)


@pytest.mark.parametrize("seconds", [1e308, 5e-324, math.inf])
def test_a_run_of_nothing_but_odd_times_has_a_page_without_pictures(run: Run, seconds: float) -> None:
    odd = [dataclasses.replace(row, seconds=(seconds,) * len(row.seconds)) for row in run.rows]
    assert plots.draw(Run(date="", rows=odd, limits=run.limits)) == []
    assert "linear_recurrence" in page(Run(date="", rows=odd, limits=run.limits))


@pytest.mark.parametrize("speedup", [-1.0, 0.0, math.nan, math.inf])
def test_a_speedup_that_is_none_makes_no_headline(speedup: float) -> None:
    row = bench_runs.made_up_row
    assert headlines(Run(date="", rows=[row(1e-3, speedup=speedup)])) == []
    (found,) = headlines(Run(date="", rows=[row(1e-3, speedup=speedup), row(1e-3, problem="b", speedup=2.0)]))
    assert (found.mean, found.problems) == (pytest.approx(2.0), 1)


def test_the_largest_speedup_there_is_has_a_mean() -> None:
    (found,) = headlines(Run(date="", rows=[bench_runs.made_up_row(1e-3, speedup=sys.float_info.max)]))
    assert math.isfinite(found.mean)


def test_a_contestant_without_operations_is_no_bar_among_those_with() -> None:
    row = bench_runs.made_up_row
    rows = [row(1e-3, flops=1000), row(1e-3, name="uncounted", kind="peer")]
    (picture,) = plots.draw(Run(date="", rows=rows))
    assert "seqpar</text>" in picture.svg
    assert "uncounted" not in picture.svg


def test_names_of_picture_files_are_safe_and_differ() -> None:
    operations = ("../../evil/x", "evil x", "EVIL-X", "\ud800", "a" * 300, "linear_recurrence")
    rows = [bench_runs.made_up_row(1e-3, operation=name, nbytes=1000) for name in operations]
    pictures = plots.draw(Run(date="", rows=rows))
    names = [picture.name for picture in pictures]
    assert len({name.lower() for name in names}) == len(operations)
    assert all(re.fullmatch(r"[\w-]{1,100}", name, re.ASCII) for name in names)
    assert names[0] == "evil-x_speed"
    assert names[-1] == "linear_recurrence_speed"
    assert [picture.operation for picture in pictures] == list(operations)
    for picture in pictures:
        assert f'id="{picture.name}-' in picture.svg


def test_words_that_no_encoding_has_are_drawn_and_written(tmp_path: Path) -> None:
    bad = "\ud800\x00\x1b[31m bad"
    rows = [bench_runs.made_up_row(1e-3, name=bad, problem=bad, note=bad, nbytes=1000, flops=10)]
    written = report.write(Run(date="", rows=rows, limits={"cpu": {bad: 1e9}}, troubles=[bad]), tmp_path)
    assert {path.suffix for path in written} == {".json", ".md", ".png", ".html"}
    assert all(path.stat().st_size for path in written)
    assert read(tmp_path / "bench.json").rows[0].note == bad


def test_the_summary_has_hardware_headline_tables_exponents_problems_and_pictures(
    run: Run, pictures: list[plots.Picture]
) -> None:
    text = summary(run, pictures)
    for needed in (
        r"# seqpar bench: Made-up CPU \<8&amp;9\>, 2 cores",
        "seqpar 0.1.0, numpy 2.4.0",
        "`seqpar bench --out report`, 2026-05-04, 321 s",
        "7.85x: features last (4 x 4096 x 256), float32, forward",
        "![linear_recurrence: time against length](linear_recurrence_lengths.png)",
        "1.20 ± 0.00",
        "## What went wrong\n\n" + r"* torch: the worker was started again \<twice\> &amp; went on",
        "## Left out\n\n" + r"* qr 4,000,000 x 32 float32: takes 12.0 GiB of memory &amp; \<more\>",
        "Lengths of a sweep count only where",
    ):
        assert needed in text


def test_the_summary_of_a_run_that_lacks_nothing_has_no_empty_lists(run: Run) -> None:
    text = summary(Run(date="", rows=run.rows[:3]))
    assert "What went wrong" not in text
    assert "Left out" not in text


def test_the_page_lists_what_went_wrong_and_what_was_left_out(run: Run) -> None:
    text = page(Run(date="", rows=run.rows[:3], troubles=run.troubles, left_out=run.left_out))
    assert "<li>torch: the worker was started again &lt;twice&gt; &amp; went on</li>" in text
    assert "<li>left out: qr 4,000,000 x 32 float32: takes 12.0 GiB of memory &amp; &lt;more&gt;</li>" in text


def test_the_summary_of_a_busy_machine_warns(run: Run) -> None:
    calm, busy = (Run(date="", rows=run.rows[:3], load_before=load) for load in (0.2, 0.9))
    assert "do not trust" not in summary(calm)
    assert "do not trust the times" in summary(busy)


def test_a_report_is_a_folder_that_can_be_read_back(
    run: Run, pictures: list[plots.Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "draw", lambda _: pictures)
    written = report.write(run, tmp_path / "new" / "report")
    assert sorted(written) == sorted((tmp_path / "new" / "report").iterdir())
    assert [path.name for path in written[:2]] == ["bench.json", "summary.md"]
    assert len(read(written[0]).rows) == len(run.rows)
    linked = [part.split(")")[0] for part in written[1].read_text().split("](")[1:]]
    assert {"roofline.png", "linear_recurrence_speed.png"} <= set(linked)
    assert all((tmp_path / "new" / "report" / name).is_file() for name in linked)


def test_a_report_without_matplotlib_has_everything_else(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'seqpar\[report\]'"):
        plots.draw(run)
    written = report.write(run, tmp_path)
    assert [path.name for path in written] == ["bench.json", "summary.md", "index.html"]
    for path in written[1:]:
        assert "pip install" in path.read_text()
        assert "matplotlib is not installed" in path.read_text()


def test_a_report_that_fails_has_the_numbers_and_leaves_files_of_others(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "index.html").write_text("old")

    def broken(*_: object) -> str:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(plots, "draw", lambda _: [])
        patch.setattr(report, "page", broken)
        with pytest.raises(RuntimeError, match="broken"):
            report.write(run, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "index.html", "notes.txt"]
    assert (tmp_path / "index.html").read_text() == "old"
    assert [row.key for row in read(tmp_path / "bench.json").rows] == [row.key for row in run.rows]
    monkeypatch.setattr(plots, "draw", lambda _: [])
    report.write(run, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "index.html").read_text() != "old"


def test_pictures_that_cannot_be_drawn_cost_nothing_else(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Run) -> list[plots.Picture]:
        raise ValueError("the axis <breaks>")

    monkeypatch.setattr(plots, "draw", broken)
    report.write(run, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "index.html", "summary.md"]
    assert "no pictures: ValueError: the axis &lt;breaks&gt;" in (tmp_path / "index.html").read_text()


def test_a_disk_that_fills_up_leaves_the_old_page(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "summary.md").write_text("old")
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "index.html":
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(plots, "draw", lambda _: [])
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OptionError, match="No space left on device"):
        report.write(run, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "summary.md"]
    assert (tmp_path / "summary.md").read_text() == "old"


def test_a_report_into_a_file_is_refused_before_anything_is_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OptionError, match="is a file, and a report is a folder"):
        report.write(run, tmp_path / "taken")
    with pytest.raises(OptionError, match="cannot be written"):
        report.write(run, tmp_path / "taken" / "below")
    assert (tmp_path / "taken").read_text() == "mine"
