"""`qr` and `lstsq` over a process group of `torch.distributed`: two processes with gloo, rows shared out unevenly."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("torch")

START = """
    import hashlib, os, sys
    from datetime import timedelta
    import torch, torch.distributed as dist
    import seqpar
    torch.set_num_threads(1)
    rank, where = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group(
        "gloo", init_method=f"file://{where}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    random = torch.Generator().manual_seed(0)
    def normal(*shape, dtype=torch.float64):
        return torch.randn(*shape, dtype=dtype, generator=random)
    def mine(split):
        return slice(0, split) if rank == 0 else slice(split, None)
    def close(x, y, atol=1e-12):
        assert torch.allclose(x, y, rtol=1e-11, atol=atol), (x - y).abs().max()
    def bits(*tensors):
        '''Everybody has these bits.'''
        sums = [None, None]
        dist.all_gather_object(sums, [hashlib.sha256(x.detach().numpy().tobytes()).hexdigest() for x in tensors])
        assert sums[0] == sums[1], sums
    def raises(words, function):
        try:
            function()
        except (seqpar.errors.SeqparError, RuntimeError) as error:
            assert words in str(error), str(error)
        else:
            raise AssertionError(f"nothing raised {words!r}")
    def wanting(x):
        return x.clone().requires_grad_()
"""


# At the end of the interpreter, after all that is tested, one process in twenty aborted in PyTorch 2.13 ("terminate called
# without an active exception": a thread that is not joined). So that end is not waited for.
END = """
dist.barrier()
dist.destroy_process_group()
os._exit(0)
"""


def in_two_processes(tmp_path: Path, checks: dict[str, str]) -> None:
    """Run code as rank 0 and as rank 1 of a group, for three minutes at most; a failure says of which check it is."""
    code = textwrap.dedent(START)
    for name, check in checks.items():
        code += f"\nprint({name!r}, file=sys.stderr)\nrandom.manual_seed(0)\n" + textwrap.dedent(check)
    code += END
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":  # a machine whose own name leads nowhere has this interface all the same
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    command = [sys.executable, "-c", code]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=180)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(text[-3000:] for text in said)


# Each is run by both processes, one after the other: starting them takes longer than what they compute.
CHECKS = {
    "both ranks have the bits and the whole of the answer": """
        # Uneven, one with fewer rows than columns, one with none; in all fewer rows than columns; batches.
        for shape, split in (((60, 5), 20), ((60, 5), 57), ((60, 5), 60), ((60, 5), 0), ((4, 5), 1), ((3, 40, 4), 13)):
            for dtype in (torch.float32, torch.complex128):
                a = normal(*shape, dtype=dtype)
                own = a[..., mine(split), :]
                q, r, info = seqpar.qr(own, group="world", return_info=True)
                want = seqpar.qr(a, return_info=True)
                atol = 2e-5 if dtype is torch.float32 else 1e-12
                assert q.shape == (*own.shape[:-1], want.R.shape[-2])
                close(q, want.Q[..., mine(split), :], atol)
                close(r, want.R, atol)
                close(info.condition, want.info.condition, 1e-3)
                alone = seqpar.qr(own, mode="r", group=dist.group.WORLD)
                close(alone, want.R, atol)
                bits(r, alone, info.method)
    """,
    "least squares with everything": """
        a, b, w, ridge = normal(60, 5), normal(60, 2), torch.rand(60, generator=random), torch.full((5,), 0.3)
        for split in (20, 57, 60):
            own = mine(split)
            found = seqpar.lstsq(a[own], b[own], weights=w[own], ridge=ridge, intercept=True, group="world")
            want = seqpar.lstsq(a, b, weights=w, ridge=ridge, intercept=True)
            for x, y in zip(found[:5], want[:5]):
                close(x, y)
            bits(*found)
        short, own = a.clone(), mine(22)
        short[:, 1] = short[:, 0]
        found = seqpar.lstsq(short[own], b[own, 0], group="world")
        close(found.x, seqpar.lstsq(short, b[:, 0]).x)
        assert int(found.rank) == 4
        # A compiler leaves the exchange between two graphs.
        def f(a, b, group):
            return seqpar.qr(a + 1, mode="r", group=group).sum() * seqpar.lstsq(a + 1, b, group=group).x
        close(torch.compile(f, backend="eager")(a[own], b[own], "world"), f(a, b, None))
        # One member's NaN is everybody's.
        a[50, 2] = torch.nan
        assert seqpar.qr(a[own], mode="r", group="world").isnan().any()
    """,
    "accumulators of all ranks are merged in their order": """
        a, b = normal(700, 5), normal(700, 2)
        for split in (123, 700):
            for options in ({"folds": 3, "intercept": True}, {"forget": 0.99}):
                first, second = (seqpar.LstsqAccumulator(5, 2, **options) for _ in range(2))
                first.push(a[:split], b[:split])
                second.push(a[split:], b[split:])
                found = (first, second)[rank].all_merged("world")
                want = first.merge(second)
                assert found.rows == 700
                close(found.solve(0.1).x, want.solve(0.1).x)
                if "folds" in options:
                    close(found.cross_validate([0.1, 1.0]).scores, want.cross_validate([0.1, 1.0]).scores)
                bits(found.r)
                found.push(a, b)
                assert (first, second)[rank].rows == (split, 700 - split)[rank]
        unlike = seqpar.LstsqAccumulator(5, 2, intercept=bool(rank)).push(a, b)
        raises("LstsqAccumulator.all_merged: not all members have n_features=5", lambda: unlike.all_merged("world"))
    """,
    "gradients are those of the sum of both losses": """
        def of_qr(q, wq, r, wr):
            return ((q * wq).abs() ** 2).sum(), ((r.sin() * wr).abs() ** 2).sum()
        def of_fit(fit):
            return (fit.x.sin().abs() ** 2).sum() + fit.residual_norm.sum() + fit.singular_values.prod()
        # A loss of what both have is shared between them: rank 0 has a quarter of it, rank 1 the rest.
        share = (0.25, 0.75)[rank]
        for dtype in (torch.float64, torch.complex128):
            for split in (20, 57, 60):
                own = mine(split)
                a, b, w = normal(60, 5, dtype=dtype), normal(60, 2, dtype=dtype), normal(60).abs() + 0.5
                ridge = torch.full((5,), 0.3, dtype=torch.float64)
                wq, wr = normal(60, 5, dtype=dtype), normal(5, 5, dtype=dtype)
                one, all_rows = wanting(a[own]), wanting(a)
                q, r = seqpar.qr(one, group="world")
                rows, shared = of_qr(q, wq[own], r, wr)
                (rows + share * shared).backward()
                whole = seqpar.qr(all_rows)
                sum(of_qr(whole.Q, wq, whole.R, wr)).backward()
                close(one.grad, all_rows.grad[own], 1e-11)

                one.grad = None
                (share * of_qr(q, wq[own], seqpar.qr(one, mode="r", group="world"), wr)[1]).backward()
                all_rows.grad = None
                of_qr(whole.Q, wq, seqpar.qr(all_rows, mode="r"), wr)[1].backward()
                close(one.grad, all_rows.grad[own], 1e-11)

                given = [wanting(x) for x in (a[own], b[own], w[own], ridge)]
                wants = [wanting(x) for x in (a, b, w, ridge)]
                fit = seqpar.lstsq(*given[:2], weights=given[2], ridge=given[3], group="world")
                (share * of_fit(fit)).backward()
                of_fit(seqpar.lstsq(*wants[:2], weights=wants[2], ridge=wants[3])).backward()
                for x, y in zip(given[:3], wants[:3]):
                    close(x.grad, y.grad[own], 1e-9)
                close(given[3].grad, wants[3].grad, 1e-9)
    """,
    "what members do not share and what has no group is refused by all": """
        a = normal(30, 4)
        raises("members may differ in rows alone".capitalize(), lambda: seqpar.qr(a[:, : 3 + rank], group="world"))
        raises("Give one dtype", lambda: seqpar.qr(a.float() if rank else a, group="world"))
        raises("wants a gradient", lambda: seqpar.qr(wanting(a) if rank else a, group="world", mode="r"))
        raises("method='tsqrr'", lambda: seqpar.qr(a[: 2 if rank else 28], group="world", method="tsqrr"))
        raises("not a process group of which this process is a member", lambda: seqpar.qr(a, group="words"))
        raises("not a process group of which this process is a member", lambda: seqpar.lstsq(a, a[:, 0], group=2))
        def total(a):
            return seqpar.qr(a, mode="r", group="world").sum()
        raises("under torch.func or forward mode", lambda: torch.func.grad(total)(a))
        only = dist.new_group([0])
        if rank:
            raises("not a process group", lambda: seqpar.qr(a, group=only))
        else:
            close(seqpar.qr(a, mode="r", group=only), seqpar.qr(a, mode="r"))
        # Second derivatives would have to be exchanged once more: refused, never wrong.
        x = wanting(a)
        (g,) = torch.autograd.grad(seqpar.qr(x, mode="r", group="world").sin().sum(), x, create_graph=True)
        raises("once_differentiable", lambda: g.sum().backward())
    """,
}


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    in_two_processes(tmp_path, CHECKS)


def test_a_group_without_processes_is_refused() -> None:
    import numpy as np
    import torch

    import seqpar
    from seqpar.errors import OptionError

    with pytest.raises(OptionError, match=r"qr: group='world' was given, and there are no processes"):
        seqpar.qr(torch.ones(3, 2), group="world")
    with pytest.raises(OptionError, match=r"lstsq: group='world' was given with numpy arrays"):
        seqpar.lstsq(np.ones((3, 2)), np.ones(3), group="world")
    with pytest.raises(OptionError, match=r"qr: group='world' was given with numpy arrays"):
        seqpar.explain(seqpar.qr, np.ones((3, 2)), group="world")
