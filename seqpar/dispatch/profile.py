"""What was probed of the hardware at hand, and the hash that tuned results are filed under."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """A device and the tools that make code for it. Two machines with equal profiles share tuned results."""

    device: str
    name: str
    facts: tuple[tuple[str, str | int], ...]
    tools: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """A short stable hash: the name of the directory that holds this profile's results."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@cache
def host_profile() -> HardwareProfile:
    """The CPU: model, usable cores, vector instructions, caches."""
    info = _read("/proc/cpuinfo")
    flags = set(_field(info, "flags|Features").split())
    simd = [f for f in ("avx2", "avx512f", "fma", "f16c", "asimd", "sve") if f in flags]
    facts: list[tuple[str, str | int]] = [
        ("machine", platform.machine()),
        ("cores", usable_cores()),
        ("simd", " ".join(simd)),
    ]
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = _read(index / "type").strip()
        if kind != "Instruction":
            facts.append((f"L{_read(index / 'level').strip()}", _read(index / "size").strip()))
    return HardwareProfile(
        device="cpu",
        name=_field(info, "model name|Model") or platform.processor() or platform.machine(),
        facts=tuple(facts),
        tools=tuple((tool, _version(tool)) for tool in ("seqpar", "numba", "llvmlite")),
    )


def usable_cores() -> int:
    """Cores this process may run on, not those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _field(text: str, names: str) -> str:
    found = re.search(rf"^(?:{names})\s*:\s*(.*)$", text, flags=re.MULTILINE)
    return found.group(1).strip() if found else ""


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
