"""A made-up run of `seqpar bench` for the tests of its tables, pictures and pages: every kind, every verdict, awkward words.

Times follow formulas, so that tests know what to find: the sweep "lengths" of torch's loop is exactly linear, that of
`jax.lax.associative_scan` goes with n^1.2, seqpar's is linear over an overhead of 20 us, which hides the law below 2^14 steps.
"""

import random

from seqpar_bench.bench.row import Kind, Row, Run

COPY, PRODUCT = 20e9, 110e9
LENGTHS = tuple(2**k for k in range(8, 23))
AWKWARD = "fails with <b>\"x\" & 'y'</b> | `a` </script>"
PIP = "pip install torch-scan"
ROUNDS = 7


def made_up_run(*, rounds: int = ROUNDS) -> Run:
    draw = random.Random(7)
    rows: list[Row] = []
    for which in ("forward", "gradient"):
        for problem, shape in (("features last", (4, 4096, 256)), ("time last", (1024, 4096))):
            rows += _linear(problem, shape, which, draw, rounds)
    rows += _matrices(draw, rounds)
    rows += _sweep(draw, rounds)
    rows += _planning(draw, rounds)
    rows += _troubles(draw, rounds)
    return Run(
        date="2026-05-04",
        command="seqpar bench --out report",
        machine={"cpu": "Made-up CPU <8&9>", "cores": 2, "system": "Linux", "python": "3.12.1"},
        devices=[{"device": "cpu", "name": "Made-up CPU", "facts": {}, "tools": {}}],
        versions={"seqpar": "0.1.0", "numpy": "2.4.0", "torch": "2.13.0", "jax": "0.10.2"},
        load_before=0.1,
        elapsed=321.0,
        limits={"cpu": {"copy": COPY, "float32": PRODUCT, "float64": PRODUCT / 2}},
        rows=rows,
        troubles=["torch: the worker was started again <twice> & went on"],
        left_out=["qr 4,000,000 x 32 float32: takes 12.0 GiB of memory & <more>"],
    )


def made_up_row(seconds: float | tuple[float, ...] | None = 1e-3, **given: object) -> Row:
    """A row of the problem "features last"; `given` says what is different."""
    if not isinstance(seconds, tuple):
        seconds = () if seconds is None else (seconds,) * ROUNDS
    facts: dict[str, object] = {
        "operation": "linear_recurrence",
        "problem": "features last",
        "shape": (4, 4096, 256),
        "dtype": "float32",
        "which": "forward",
        "framework": "numpy",
        "device": "cpu",
        "name": "seqpar",
        "kind": "seqpar",
        "seconds": seconds,
        **given,
    }
    return Row(**facts)  # type: ignore[arg-type]


def _times(seconds: float, draw: random.Random, rounds: int) -> tuple[float, ...]:
    # The median is the middle one, whatever was drawn.
    half = rounds // 2
    late = [seconds * (1 + draw.uniform(0, 0.06)) for _ in range(half)]
    early = [seconds * (1 - draw.uniform(0, 0.03)) for _ in range(rounds - half - 1)]
    times = [*early, seconds, *late]
    draw.shuffle(times)
    return tuple(times)


def _copy(**place: object) -> Row:
    return made_up_row(8e6 / COPY, name="copy", kind="limit", nbytes=8_000_000, spread=0.004, **place)


def _product(**place: object) -> Row:
    return made_up_row(
        2 * 1024**3 / PRODUCT, name="matrix product", kind="limit", flops=2 * 1024**3, spread=0.006, **place
    )


def _linear(problem: str, shape: tuple[int, ...], which: str, draw: random.Random, rounds: int) -> list[Row]:
    size = 1
    for n in shape:
        size *= n
    nbytes = 12 * size * (2 if which == "gradient" else 1)
    flops = 2 * size * (3 if which == "gradient" else 1)
    limit = nbytes / COPY
    common = {
        "problem": problem,
        "shape": shape,
        "which": which,
        "nbytes": nbytes,
        "flops": flops,
        "limit": limit,
    }

    def row(framework: str, name: str, kind: Kind, factor: float, own: float | None, **more: object) -> Row:
        seconds = limit * factor
        return made_up_row(
            framework=framework,
            name=name,
            kind=kind,
            seconds=_times(seconds, draw, rounds),
            spread=0.021,
            speedup=own and own / factor,
            error=1.2e-7,
            **common,
            **more,
        )

    found = [
        _copy(problem=problem, shape=shape, which=which),
        _product(problem=problem, shape=shape, which=which),
    ]
    for framework, own, name in (
        ("numpy", 14.0, "numpy loop"),
        ("torch", 31.0, "torch loop"),
        ("jax", 9.5, "jax.lax.scan"),
    ):
        if framework == "numpy" and which == "gradient":
            continue
        found += [
            row(framework, name, "own", own, own),
            row(framework, "seqpar", "seqpar", 1.21, own, ran="host.sequential"),
            row(framework, "host.sequential", "kernel", 1.2, own),
            row(framework, "host.chunked", "kernel", 1.6, own),
        ]
    found += [
        row("jax", "jax.lax.associative_scan", "peer", 16.4, 9.5),
        row("numpy", "scipy.signal.lfilter", "peer", 5.2, 14.0),
        made_up_row(
            None,
            framework="torch",
            name="torch_scan.scan",
            kind="peer",
            verdict="missing",
            note=PIP,
            **common,
        ),
        made_up_row(
            None,
            framework="cupy",
            name="seqpar",
            verdict="missing",
            note="pip install cupy-cuda12x",
            **common,
        ),
    ]
    return found


def _matrices(draw: random.Random, rounds: int) -> list[Row]:
    nbytes, flops = 4 * 4096 * 64 * 66, 2 * 4096 * 64 * 64 * 40
    limit = flops / PRODUCT
    place = {"operation": "matrix_recurrence", "problem": "64 states", "shape": (4096, 64, 64)}
    common = {**place, "nbytes": nbytes, "flops": flops, "limit": limit}
    return [
        made_up_row(
            framework=framework, name=name, kind=kind, seconds=_times(limit * factor, draw, rounds), spread=0.05,
            speedup=12.0 / factor, error=3.1e-6, **common,
        )
        for framework, name, kind, factor in (
            ("torch", "torch loop", "own", 12.0),
            ("torch", "seqpar", "seqpar", 2.5),
            ("numpy", "numpy loop", "own", 12.0),
            ("numpy", "seqpar", "seqpar", 3.1),
        )
    ] + [_copy(**place), _product(**place)]  # fmt: skip


def _sweep(draw: random.Random, rounds: int) -> list[Row]:
    """Exact laws: these have no noise but that within a row, which a median does not see."""
    found = []
    for n in LENGTHS:
        nbytes = 12 * 64 * n
        limit = nbytes / COPY
        loop = 3e-7 * n
        place = {"problem": "64 features", "shape": (n, 64), "sweep": "lengths", "length": n}
        found += [_copy(**place), _product(**place)]
        for framework, name, kind, seconds, own in (
            ("torch", "torch loop", "own", loop, loop),
            ("torch", "seqpar", "seqpar", 2e-5 + 1.5 * limit, loop),
            ("jax", "jax.lax.scan", "own", 1e-5 + 6 * limit, 1e-5 + 6 * limit),
            ("jax", "jax.lax.associative_scan", "peer", 1e-8 * n**1.2, 1e-5 + 6 * limit),
            ("jax", "seqpar", "seqpar", 6e-5 + 1.6 * limit, 1e-5 + 6 * limit),
        ):
            facts = {
                **place,
                "nbytes": nbytes,
                "flops": 2 * 64 * n,
                "limit": limit,
                "spread": 0.01,
                "error": 2e-7,
            }
            found.append(
                made_up_row(
                    _times(seconds, draw, rounds), framework=framework, name=name, kind=kind,
                    speedup=own and own / seconds, ran="host.sequential" if name == "seqpar" else "", **facts,
                )
            )  # fmt: skip
    return found


def _planning(draw: random.Random, rounds: int) -> list[Row]:
    common = {"operation": "plan_buckets", "problem": "speech", "shape": (100_000,), "dtype": "int64"}
    return [
        made_up_row(name="seqpar", seconds=_times(4e-4, draw, rounds), spread=0.1, speedup=3.5, **common),
        made_up_row(
            name="quantiles", kind="own", seconds=_times(1.4e-3, draw, rounds), speedup=1.0, **common
        ),
        made_up_row(
            None, name="or-tools", kind="peer", verdict="left out", note="would take more than 60 s", **common
        ),
    ]


def _troubles(draw: random.Random, rounds: int) -> list[Row]:
    common = {
        "operation": "solve_recurrence",
        "problem": "GRU, 32 units",
        "shape": (8, 2048, 32),
        "which": "gradient",
    }
    verdicts = ("wrong", "crash", "timeout", "memory", "compile", "invalid", "unstable")
    return [
        made_up_row(name="seqpar", seconds=_times(9_300.0, draw, rounds), spread=0.4, speedup=0.25, error=0.0, **common),
        made_up_row(name="numpy loop", kind="own", seconds=_times(2_325.0, draw, rounds), speedup=1.0, **common),
        made_up_row(framework="torch", seconds=_times(3.2e-10, draw, rounds), speedup=5e5, error=float("inf"), **common),
        *(
            made_up_row(
                None, framework="torch", name=f"peer {i}", kind="peer", verdict=verdict,
                note=AWKWARD if verdict == "crash" else f"it was {verdict}, as a peer may be " + "at length " * (6 * i),
                error=0.37 if verdict == "wrong" else None, **common,
            )
            for i, verdict in enumerate(verdicts)
        ),
        made_up_row(None, framework="jax", name="diffrax", kind="peer", verdict="missing", note="pip install diffrax", **common),
    ]  # fmt: skip
