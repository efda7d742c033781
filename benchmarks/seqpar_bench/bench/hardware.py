"""Where a run was made: machine, devices and versions, nothing that names the one at hand."""

from __future__ import annotations

import datetime
import os

from seqpar.dispatch.gpu_profile import gpus
from seqpar.dispatch.profile import host_profile
from seqpar.errors import OptionError
from seqpar_bench.bench.row import Run
from seqpar_bench.record import machine, versions

TOOLS = (
    "seqpar",
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "torch",
    "triton",
    "jax",
    "jaxlib",
    "jax-triton",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "dask",
    "accelerated-scan",
    "fla-core",
)
"""Distributions that have a part in times."""
KINDS = ("cpu", "cuda")


def begun(command: str) -> Run:
    """An empty run, with everything that is known before it starts."""
    found = [host_profile(), *gpus()]
    return Run(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        command=command,
        machine=machine(),
        devices=[profile.to_dict() for profile in found],
        versions=versions(TOOLS),
        load_before=load(),
    )


def load() -> float:
    """Threads that wanted a core during the last minute."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0


def devices(asked: list[str] | None) -> list[str]:
    """The kinds of device to measure on: those asked for, or the GPU where there is one, and else the CPU."""
    there = bool(gpus())
    for device in asked or ():
        if device not in KINDS:
            raise OptionError(f"bench: --device {device} is none of cpu and cuda. Give one of them, or both.")
        if device == "cuda" and not there:
            raise OptionError(
                "bench: --device cuda, and there is no GPU of NVIDIA here, or no driver for one (`seqpar info`). Leave it out."
            )
    return list(dict.fromkeys(asked or ["cuda" if there else "cpu"]))


def memory_left() -> int:
    """Bytes of the host that nobody uses; a guess of 4 GB where the system does not say."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 << 30
