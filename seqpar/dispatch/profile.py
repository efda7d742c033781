"""What was probed of the hardware at hand, and the hash that tuned results are filed under.

A profile belongs to a device and to the framework whose arrays lie on it: PyTorch's version decides how fast its own
kernels are, and is nothing to NumPy's. Bindings give theirs (`Binding.profile`), built from `host_profile` for the CPU
and from `seqpar.dispatch.gpu_profile` for GPUs.
"""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

Facts = tuple[tuple[str, str | int], ...]
Tools = tuple[tuple[str, str], ...]

SOFT_FACTS = frozenset(("driver", "cuda", "memory"))
SOFT_TOOLS = frozenset(("seqpar",))
"""What shipped tables may differ in from the machine they are used on: it moves times, and seldom the best choice."""


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """A device and the tools that make code for it. Two machines with equal profiles share tuned results."""

    device: str
    name: str
    facts: Facts
    tools: Tools

    @property
    def digest(self) -> str:
        """A short stable hash: the name of the directory that holds this profile's results."""
        import hashlib
        import json

        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def kin(self, other: "HardwareProfile") -> bool:
        """Are results of the other worth shipping to this one: the same chip, compilers of the same minor version?"""
        return self._hard() == other._hard()

    def differences(self, other: "HardwareProfile") -> list[str]:
        """What the other has otherwise, in words: "numba 0.60.0 (here 0.61.2)"."""
        here, there = self._flat(), other._flat()
        names = [*here, *(name for name in there if name not in here)]
        return [
            f"{name} {there.get(name, 'absent')} (here {here.get(name, 'absent')})"
            for name in names
            if here.get(name) != there.get(name)
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "name": self.name,
            "facts": dict(self.facts),
            "tools": dict(self.tools),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "HardwareProfile":
        """The profile again; raises KeyError, TypeError or ValueError for what is none."""
        return cls(
            device=str(given["device"]),
            name=str(given["name"]),
            facts=tuple((str(k), v if isinstance(v, int) else str(v)) for k, v in given["facts"].items()),
            tools=tuple((str(k), str(v)) for k, v in given["tools"].items()),
        )

    def _hard(self) -> tuple[Any, ...]:
        facts = {name: value for name, value in self.facts if name not in SOFT_FACTS}
        tools = {name: minor(version) for name, version in self.tools if name not in SOFT_TOOLS}
        return self.device, self.name, facts, tools

    def _flat(self) -> dict[str, str | int]:
        return {"device": self.device, "name": self.name, **dict(self.facts), **dict(self.tools)}


@cache
def host_profile(tools: Tools = (), threads: int | None = None) -> HardwareProfile:
    """The CPU: model, usable cores, limit of threads, vector instructions, caches; with a framework's own tools and limit."""
    info = _read("/proc/cpuinfo")
    flags = set(_field(info, "flags|Features").split())
    simd = [f for f in ("avx2", "avx512f", "fma", "f16c", "asimd", "sve") if f in flags]
    facts: list[tuple[str, str | int]] = [
        ("machine", platform.machine()),
        ("cores", usable_cores()),
        ("threads", min(usable_cores(), threads or usable_cores(), _numba_threads() or usable_cores())),
        ("simd", " ".join(simd)),
    ]
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = _read(index / "type").strip()
        if kind != "Instruction":
            facts.append((f"L{_read(index / 'level').strip()}", _read(index / "size").strip()))
    compilers = tuple((tool, version(tool)) for tool in ("seqpar", "numba", "llvmlite"))
    return HardwareProfile(
        device="cpu",
        name=_field(info, "model name|Model") or platform.processor() or platform.machine(),
        facts=tuple(facts),
        tools=(*compilers, ("numpy", minor(version("numpy"))), *tools),
    )


def usable_cores() -> int:
    """Cores this process may run on, not those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def version(distribution: str) -> str:
    """Version of an installed distribution, "" if it is not there."""
    import importlib.metadata  # 10 ms, which `import seqpar` does not have

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def minor(text: str) -> str:
    """A version without what seldom moves times: "2.11" of "2.11.0+cu130"."""
    return ".".join(text.partition("+")[0].split(".")[:2])


def _numba_threads() -> int | None:
    setting = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(setting) if setting.isdigit() and int(setting) else None


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _field(text: str, names: str) -> str:
    found = re.search(rf"^(?:{names})\s*:\s*(.*)$", text, flags=re.MULTILINE)
    return found.group(1).strip() if found else ""
