"""`seqpar info`: the hardware that results are filed under, every backend with what it lacks, and where tuned results are.

`info()` returns it as plain data. No framework is imported for it: what is installed is told from its metadata.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

from seqpar.dispatch import registry, store
from seqpar.dispatch.gpu_profile import gpus
from seqpar.dispatch.profile import HardwareProfile, host_profile, version
from seqpar.errors import OptionError

from .cache_commands import table
from .cache_contents import Held, ls

TOOLS = ("autotune", "report")
"""Extras of seqpar that no backend asks for."""


class Info:
    """The command, as `seqpar.commands` wants it."""

    name = "info"
    help = "the hardware, the backends with what they lack, and where tuned results are"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        declare(parser)

    def run(self, args: argparse.Namespace) -> int:
        return run(args)


command = Info()


def add_to(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command among others; `args.run(args)` does it and returns the exit status."""
    parser = subparsers.add_parser(command.name, help=command.help, description=command.help)
    declare(parser)
    parser.set_defaults(run=run)


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="plain data instead of text")


def run(args: argparse.Namespace) -> int:
    found = info()
    print(json.dumps(found, indent=1) if args.json else told(found))
    return 0


def info() -> dict[str, Any]:
    """Versions, devices, backends, tools and the store, as plain data."""
    return {
        "seqpar": version("seqpar"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [_device(one) for one in (host_profile(), *gpus())],
        "backends": [_backend(one) for _, one in sorted(registry.backends().items())],
        "tools": [_tool(extra) for extra in TOOLS],
        "store": _store(),
    }


def told(found: dict[str, Any]) -> str:
    """What `info` returns, as text to read."""
    lines = [f"seqpar {found['seqpar']}, Python {found['python']}, {found['platform']}", ""]
    for device in found["devices"]:
        lines.append(f"{device['device']}: {device['name']}")
        lines.append(_indented("  ", [f"{name} {value}" for name, value in device["facts"].items()]))
        lines.append(_indented("  with ", [f"{n} {v or '(none)'}" for n, v in device["tools"].items()]))
    if not any(device["device"] != "cpu" for device in found["devices"]):
        lines.append("cuda: no GPU of NVIDIA, or no driver for one")
    rows = [("backend", "state", "arrays of", "to mend it")]
    rows += [(b["name"], _state(b), ", ".join(b["frameworks"]), b["install"]) for b in found["backends"]]
    rows += [(t["name"], _state(t), "", t["install"]) for t in found["tools"]]
    lines += ["", table(rows), ""]
    stored = found["store"]
    lines.append(
        f"tuned results: {stored['directory'] or 'nowhere'}{'' if stored['writable'] else ' (cannot be written to)'}"
    )
    for name, held in (("yours", stored["own"]), ("shipped", stored["shipped"])):
        lines.append(
            f"  {name}: {held['problems']} problems decided, {held['here']} of them on hardware and tools like these; "
            f"{held['candidates']} candidates measured"
        )
    return "\n".join(lines)


def _device(profile: HardwareProfile) -> dict[str, Any]:
    return {**profile.to_dict(), "digest": profile.digest}


def _backend(backend: registry.Backend) -> dict[str, Any]:
    missing: list[str] = []
    if backend.binding is not None:
        # Several distributions may bring one module (cupy-cuda12x, cupy-cuda13x): ask for the module.
        if not _importable(backend.frameworks[0]):
            missing = [backend.frameworks[0]]
        else:
            missing = [what for what in _lacking(backend.extra) if "(" in what]
    else:
        missing = _lacking(backend.extra)
    given = f"'seqpar[{backend.extra}]'" if backend.extra else " ".join(missing)
    return {
        "name": backend.name,
        "version": backend.version,
        "frameworks": list(backend.frameworks) or ["every framework with arrays in host memory"],
        "kernels": [] if backend.kernels is None else list(backend.provides or (backend.name,)),
        "missing": missing,
        "install": f"pip install {_upgrade(missing)}{given}" if missing else "",
    }


def _tool(extra: str) -> dict[str, Any]:
    missing = _lacking(extra)
    return {
        "name": extra,
        "missing": missing,
        "install": f"pip install {_upgrade(missing)}'seqpar[{extra}]'" if missing else "",
    }


def _state(told: dict[str, Any]) -> str:
    return f"lacks {', '.join(told['missing'])}" if told["missing"] else "ready"


def _upgrade(missing: list[str]) -> str:
    return "-U " if any("(" in what for what in missing) else ""


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _lacking(extra: str | None) -> list[str]:
    """What an extra of seqpar asks for and is not there: "torch", or "torch>=2.11 (2.5 is installed)"."""
    if extra is None:
        return []
    try:
        wanted = importlib.metadata.requires("seqpar") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = []
    for text in wanted:
        requirement, _, marker = text.partition(";")
        if not re.search(rf"""extra\s*==\s*["']{re.escape(extra)}["']""", marker):
            continue
        name = re.split(r"[\s<>=!~\[(]", requirement.strip(), maxsplit=1)[0]
        there = version(name)
        least = re.search(r">=\s*([\d.]+)", requirement)
        if not there:
            found.append(name)
        elif least and _numbers(there) < _numbers(least[1]):
            found.append(f"{requirement.strip()} ({there} is installed)")
    return found


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def _store() -> dict[str, Any]:
    try:
        directory = store.user_directory()
        own, writable = ls(), _writable(directory)
    except (OptionError, OSError):
        return {"directory": None, "writable": False, "own": _sum([]), "shipped": _sum(ls("shipped"))}
    return {
        "directory": str(directory),
        "writable": writable,
        "own": _sum(own),
        "shipped": _sum(ls("shipped")),
    }


def _sum(held: list[Held]) -> dict[str, int]:
    return {
        "problems": sum(one.tuned + one.kept for one in held),
        "here": sum(one.tuned + one.kept for one in held if one.standing in ("here", "kin")),
        "candidates": sum(one.candidates for one in held),
    }


def _writable(directory: Path) -> bool:
    there = next((one for one in (directory, *directory.parents) if one.exists()), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _indented(start: str, words: list[str]) -> str:
    lines = [start]
    for word in words:
        if len(lines[-1]) + len(word) > 100:
            lines.append(" " * len(start))
        lines[-1] += f"{word}, " if word != words[-1] else word
    return "\n".join(line.rstrip() for line in lines)
