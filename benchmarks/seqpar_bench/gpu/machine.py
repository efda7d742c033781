"""The GPU at hand: what it is, how fast it copies, and whether the tests pass on it."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from seqpar_bench.gpu.frameworks import Frame

PACKAGES = re.compile(
    r"seqpar|numpy|torch|triton|jax.*|cupy.*|numba|array-api-compat|accelerated-scan|fla-core|nvidia-cuda-nvrtc.*"
)
COPIED = 2 << 30
"""Bytes, many times any cache."""


def hardware() -> dict[str, Any]:
    """What the driver says of the first GPU, and PyTorch or CuPy of its processors; nothing that names the machine."""
    facts: dict[str, Any] = {}
    if program := shutil.which("nvidia-smi"):
        fields = "name,driver_version,memory.total"
        query = [program, "--id=0", f"--query-gpu={fields}", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30)
        if answer.returncode == 0:
            facts |= dict(zip(fields.split(","), map(str.strip, answer.stdout.split(",")), strict=False))
    for probe in (_by_torch, _by_cupy):
        try:
            return facts | probe()
        except Exception as error:  # the next one may know
            facts["not probed"] = repr(error)
    return facts


def _by_torch() -> dict[str, Any]:
    import torch

    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "compute capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "L2 bytes": getattr(found, "L2_cache_size", None),
        "memory bytes": found.total_memory,
        "CUDA": torch.version.cuda,
    }


def _by_cupy() -> dict[str, Any]:
    import cupy

    found = cupy.cuda.runtime.getDeviceProperties(0)
    return {
        "name": found["name"].decode(),
        "compute capability": f"{found['major']}.{found['minor']}",
        "multiprocessors": found["multiProcessorCount"],
        "L2 bytes": found["l2CacheSize"],
        "memory bytes": found["totalGlobalMem"],
        "CUDA": cupy.cuda.runtime.runtimeGetVersion(),
    }


def versions() -> dict[str, str]:
    """Of every package that has a part in the figures."""
    found = {
        d.metadata["Name"].lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()
    }
    return {name: version for name, version in sorted(found.items()) if PACKAGES.fullmatch(name)}


def copy_bandwidth(maker: Frame, size: int = COPIED, rounds: int = 15) -> float:
    """Bytes read and written per second by a copy of random numbers within the device: the median."""
    source = maker.random(0, (size // 4,), "float32")
    if maker.name == "torch":
        target = maker.module.empty_like(source)
        copy: Any = lambda: target.copy_(source)  # noqa: E731
    elif maker.name == "jax":
        copy = maker.forward(lambda x: -x, source)  # a plain copy is left out
    else:
        target = maker.module.empty_like(source)
        copy = lambda: maker.module.copyto(target, source)  # noqa: E731
    for _ in range(3):
        copy()
    maker.wait()
    return 2 * size / statistics.median(maker.seconds(copy, 5) for _ in range(rounds))


def build_peers() -> None:
    """Start to compile what compiles when it is imported, beside the tests. Who imports it meanwhile waits for that."""
    if (
        importlib.util.find_spec("accelerated_scan") is not None
        and importlib.util.find_spec("torch") is not None
    ):
        # Never stopped: it would leave a lock behind.
        command = [sys.executable, "-c", "import accelerated_scan.warp"]
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )


# Whatever a shell starts in the background ignores interrupts, and so does all that it starts in turn.
PYTEST = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def run_tests(seconds: float, out: Path) -> dict[str, Any]:
    """`pytest -m gpu` of the source tree, interrupted when its time is over: then it still says what it has found."""
    home = next(
        (p for p in (Path.cwd(), *Path(__file__).resolve().parents) if (p / "tests/gpu").is_dir()), None
    )
    if home is None or importlib.util.find_spec("pytest") is None:
        return {"problem": "not run: they need a source tree (as the working directory) and pytest"}
    command = [sys.executable, "-c", PYTEST, "-m", "gpu", "tests/gpu", "-q", "-p", "no:cacheprovider"]
    # It warns that it measures nothing beside pytest-xdist, and warnings are errors here.
    command += ["-p", "no:benchmark"]
    # Other versions than the pinned ones warn of other things. A kernel that fell back is a RuntimeWarning, and an error.
    command += [
        f"-Wdefault::{kind}Warning" for kind in ("Deprecation", "PendingDeprecation", "Future", "User")
    ]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(max(1, min(8, (os.cpu_count() or 1) // 2)))]
    environment = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    log = out / "tests.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=home,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        ended = _wait(process, seconds)
    lines = log.read_text().splitlines()
    counted = [line for line in lines if re.search(r"\d+ (passed|failed|skipped|error)", line)]
    return {
        "status": process.returncode,
        "ended by itself": ended,
        "summary": counted[-1].strip("= ") if counted else "no summary: see tests.log",
        "failures": [line for line in lines if line.startswith(("FAILED", "ERROR"))],
    }


def why_not_passed(tests: dict[str, Any], gpu: bool) -> str | None:
    """What is wrong with what `run_tests` found, or None."""
    if "problem" in tests:
        return str(tests["problem"])
    if tests["status"] != 0:
        return f"{tests['summary']} (pytest ended with {tests['status']})"
    if gpu and not re.search(r"\d+ passed", tests["summary"]):
        return f"none ran: {tests['summary']}"
    return None


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Did it end by itself? An interrupt first, so that pytest prints its summary; then the end of its session."""
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return False
