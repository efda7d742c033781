"""Figures of `seqpar.cells`: fused kernels against torch.nn, `jax.lax.scan` and a loop in NumPy, and against a walk step by step.

Every answer is compared before anything is timed: outputs and gradients with torch.nn's in float64, the automatic choice with the
sequential method to the bit. In each group of times stand all peers; the first is ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seqpar_bench.answers import WrongAnswerError
from seqpar_bench.cells_cases import FULL, Case, Sizes, network, predicting, remembering
from seqpar_bench.cells_ways import (
    JAX,
    Answer,
    NumPy,
    NumPyLoop,
    Run,
    Torch,
    TorchModule,
    jax_scan,
    jax_seqpar,
)
from seqpar_bench.measure import Samples, interleave
from seqpar_bench.record import Figure, Record

Ways = Mapping[str, Torch | TorchModule | JAX]
Target = tuple[str, float]
"""Whom to beat, and how many times as fast."""

OURS, OWN = "seqpar", "seqpar, sequential"
SCAN, TOGETHER = "lax.scan", "lax.scan, inputs' products before it"
SAME = 1e-6
"""How far outputs, which lie within -1 and 1, may be from torch.nn's."""
OUTPUTS, GRADIENTS = 1e-5, 1e-4
"""How far anybody's may be from float64: outputs as they are, gradients over the largest number of each."""
SLOWER = 1.3
"""How much longer than the sequential method an automatic choice may take where there is nothing to gain."""
SAMPLE = 1e-2
"""Seconds: what ran before leaves threads that spin for about one millisecond."""


def torch_gru(record: Record, rounds: int, sizes: Sizes = FULL) -> None:
    """Figure 1: torch.nn.GRU at 32 units."""
    goals = dict(zip(sizes.batches, (90.0, 35.0, 10.0), strict=False))
    training = {sizes.batches[0]: 60.0, sizes.batches[-1]: 10.0}
    for batch, goal in goals.items():
        case = network("gru", 32, batch, sizes.steps)
        own: tuple[Target, ...] = ((OWN, 2.0),) if batch == 1 else ()
        _same_as_torch(record, "1", case)
        _forward(record, "1", "torch", case, (("torch.nn.GRU", goal), *own), rounds)
        if batch in training:
            _training(record, "1", "torch", case, (("torch.nn.GRU", training[batch]), *own), rounds)


def torch_gru_small(record: Record, rounds: int, sizes: Sizes = FULL) -> None:
    """Figure 2: few units, many steps."""
    case = network("gru", 8, 1, sizes.more_steps)
    _same_as_torch(record, "2", case)
    _forward(record, "2", "torch", case, (("torch.nn.GRU", 100.0),), rounds)


def jax_gru(record: Record, rounds: int, sizes: Sizes = FULL) -> None:
    """Figure 3: `jax.lax.scan`, compiled, and a loop in NumPy."""
    case = network("gru", 32, 1, sizes.steps)
    goals = ((SCAN, 6.0), (TOGETHER, 6.0))
    _forward(record, "3", "JAX under jit", case, goals, rounds)
    _training(record, "3", "JAX under jit", case, goals, rounds)
    small = network("gru", 8, 1, sizes.more_steps)
    _forward(record, "3", "JAX under jit", small, ((SCAN, 5.0), (TOGETHER, 5.0)), rounds)
    _forward(record, "3", "NumPy", case, (("NumPy loop", 60.0),), rounds)


def torch_lstm(record: Record, rounds: int, sizes: Sizes = FULL) -> None:
    """Figure 4: torch.nn.LSTM."""
    case = network("lstm", 32, 1, sizes.steps)
    _same_as_torch(record, "4", case)
    _forward(record, "4", "torch", case, (("torch.nn.LSTM", 4.0),), rounds)
    _training(record, "4", "torch", case, (("torch.nn.LSTM", 5.0),), rounds)


def hard_cases(sizes: Sizes = FULL) -> dict[str, Case]:
    """Where nothing, or little, is to be gained by walking in parallel."""
    return {
        "chaotic (recurrent weights x5)": network("gru", 32, 1, sizes.steps, 5.0),
        f"T = {sizes.few_steps}": network("gru", 32, 1, sizes.few_steps),
        f"chaotic, T = {sizes.few_steps}, batch {sizes.many_rows}": network(
            "gru", 32, sizes.many_rows, sizes.few_steps, 5.0
        ),
        f"batch {sizes.many_rows}, T = {sizes.table_steps // 4:,}": network(
            "gru", 32, sizes.many_rows, sizes.table_steps // 4
        ),
        "trained on the adding problem": remembering(sizes.steps),
        "trained on a noisy sine": predicting(sizes.steps),
    }


def never_slower(record: Record, rounds: int, sizes: Sizes = FULL) -> None:
    """Figure 5: the automatic choice against the sequential method."""
    for name, case in hard_cases(sizes).items():
        for framework, ways in _all_ways(case).items():
            title = f"5 {framework}, GRU, {name}, forward"
            runs = {who: way.forward() for who, way in ways.items()}
            answers = {who: run.answer() for who, run in runs.items() if who in (OURS, OWN)}
            same_bits(title, answers)
            steps_follow(title, case, answers[OWN])
            _no_slower(record, title, runs, rounds)
        title = f"5 torch, GRU, {name}, training step"
        runs = {who: Torch(case, method).training() for who, method in ((OURS, "auto"), (OWN, "sequential"))}
        same_bits(title, {who: run.answer() for who, run in runs.items()})
        _no_slower(record, title, runs, rounds)


def _no_slower(record: Record, title: str, runs: Mapping[str, Run], rounds: int) -> None:
    times = times_of(runs, min(rounds, 7))
    text = f"{title[2:]}: time of the automatic choice over that of the sequential method"
    figure = Figure(title[0], text, times[OURS].over(times[OWN]), SLOWER, "at most", group=title)
    record.add([figure], {title: times})


def _all_ways(case: Case) -> dict[str, dict[str, NumPy | NumPyLoop | Torch | TorchModule | JAX]]:
    """By framework: ours, ours step by step, and the framework's own."""
    return {
        "NumPy": {OURS: NumPy(case), OWN: NumPy(case, "sequential"), "NumPy loop": NumPyLoop(case)},
        "torch": {OURS: Torch(case), OWN: Torch(case, "sequential"), _torch_name(case): TorchModule(case)},
        "JAX under jit": {
            OURS: jax_seqpar(case),
            OWN: jax_seqpar(case, "sequential"),
            SCAN: jax_scan(case),
            TOGETHER: jax_scan(case, together=True),
        },
    }


def _forward(
    record: Record, number: str, framework: str, case: Case, goals: tuple[Target, ...], rounds: int
) -> None:
    ways = _all_ways(case)
    others = {who: way for peers in ways.values() for who, way in peers.items()}
    if framework != "NumPy":
        del others["NumPy loop"]
    runs = {who: way.forward() for who, way in (others | ways[framework]).items()}
    truth = TorchModule(case, "float64").forward().answer()
    _faster(record, _title(number, framework, case, "forward"), runs, truth, goals, min(rounds, 9))


def _training(
    record: Record, number: str, framework: str, case: Case, goals: tuple[Target, ...], rounds: int
) -> None:
    ways: dict[str, Ways] = {
        "torch": {OURS: Torch(case), OWN: Torch(case, "sequential")},
        "JAX under jit": {OURS: jax_seqpar(case), OWN: jax_seqpar(case, "sequential")},
    }
    peers: Ways = {
        _torch_name(case): TorchModule(case),
        SCAN: jax_scan(case),
        TOGETHER: jax_scan(case, together=True),
    }
    runs = {who: way.training() for who, way in (*ways[framework].items(), *peers.items())}
    truth = TorchModule(case, "float64").training().answer()
    _faster(record, _title(number, framework, case, "training step"), runs, truth, goals, min(rounds, 5))


def _title(number: str, framework: str, case: Case, what: str) -> str:
    batch, steps, _ = case.x.shape
    units, name = case.module.hidden_size, case.cell.name.upper()
    return f"{number} {framework}, {name}, batch {batch}, T = {steps:,}, n = {units}, {what}"


def _torch_name(case: Case) -> str:
    return f"torch.nn.{type(case.module).__name__}"


def _faster(
    record: Record,
    title: str,
    runs: Mapping[str, Run],
    truth: Answer,
    goals: tuple[Target, ...],
    rounds: int,
) -> None:
    answers = {who: run.answer() for who, run in runs.items()}
    for who, answer in answers.items():
        check(f"{title}: {who}", answer, truth)
    same_bits(title, answers)
    times = times_of(runs, rounds)
    figures = [
        Figure(title[0], f"{title[2:]}: speed-up over {who}", times[who].over(times[OURS]), goal, group=title)
        for who, goal in goals
    ]
    record.add(figures, {title: times})


def times_of(runs: Mapping[str, Run], rounds: int) -> dict[str, Samples]:
    thunks = {who: run.call for who, run in runs.items()}
    return interleave(thunks, rounds=rounds, sample_seconds=SAMPLE)


def _same_as_torch(record: Record, number: str, case: Case) -> None:
    mine, theirs = Torch(case).forward().answer(), TorchModule(case).forward().answer()
    error = float(np.abs(mine["outputs"] - theirs["outputs"]).max())
    text = f"{_title(number, 'torch', case, 'forward')[2:]}: largest difference from {_torch_name(case)}"
    record.add([Figure(number, text, error, SAME, "at most", "")])


def check(who: str, answer: Answer, truth: Answer) -> None:
    """Raise where an answer is not the truth, to what float32 allows."""
    if answer.keys() != truth.keys():
        raise WrongAnswerError(f"{who}: {sorted(answer)} and not {sorted(truth)}")
    for name, true in truth.items():
        allowed = OUTPUTS if name == "outputs" else GRADIENTS * float(np.abs(true).max())
        error = float(np.abs(answer[name].astype(np.float64) - true).max())
        if not error <= allowed:
            raise WrongAnswerError(
                f"{who}: {name} is {error:.3g} from the truth, and {allowed:.3g} is allowed"
            )


def same_bits(title: str, answers: Mapping[str, Answer]) -> None:
    for name, mine in answers[OURS].items():
        apart = np.count_nonzero(
            np.ascontiguousarray(mine).view(np.int32)
            != np.ascontiguousarray(answers[OWN][name]).view(np.int32)
        )
        if apart:
            raise WrongAnswerError(f"{title}: {apart} numbers of {name} are not the sequential method's")


def steps_follow(title: str, case: Case, answer: Answer) -> None:
    """Every state follows from the one before it: all that can be asked of a walk in chaos."""
    states = answer["outputs"].astype(np.float64)
    entering = np.concatenate([np.zeros_like(states[:, :1]), states[:, :-1]], 1)
    params = {name: p.astype(np.float64) for name, p in case.params.items()}
    error = float(np.abs(case.cell(params, entering, case.x.astype(np.float64)) - states).max())
    if not error <= OUTPUTS:
        raise WrongAnswerError(f"{title}: a step is {error:.3g} from what the cell makes of the state before")
