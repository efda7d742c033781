"""What is tuned when nobody names a problem: the representative calls that operations state, for what is installed here.

An operation hands them out by its hook `Operation.presets`; here they become workloads of frameworks and devices, and the
backward passes that follow from them are added.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator

from seqpar.dispatch.frameworks import binding_named
from seqpar.dispatch.operation import Operation, all_operations
from seqpar.dispatch.preset import GRADES, Grade, Preset
from seqpar.dispatch.registry import backends
from seqpar.errors import MissingExtraError, OptionError, unknown_name

from .candidates import can_run
from .workload import Operand, Workload

DEVICES = ("cpu", "cuda")
ELSEWHERE = {"solve_recurrence": "seqpar_autotune.tune_recurrence"}
"""What is tuned another way: its step is a function of the user's."""
QUICK = ("numpy", "torch", "cupy", "jax")
"""Frameworks of the quick grade: two of those that a device has, in this order."""


def workloads(
    grade: Grade = "default",
    operations: Iterable[str] | None = None,
    frameworks: Iterable[str] | None = None,
    devices: Iterable[str] | None = None,
) -> list[Workload]:
    """The presets of a grade and of those that take less time, for frameworks and devices that are here unless they are named.

    `operations`: their names; one with a fused backward pass brings that along. The quick grade of a device where nobody named
    frameworks is forward passes on one framework, and backward passes on another one if there are two. Left out is what no
    kernel runs: on some devices calls go another way.

    >>> [workload.name for workload in workloads("quick", ["plan_buckets"])]
    ['plan_buckets 32x2048 float64 numpy:cpu']
    """
    if grade not in GRADES:
        raise unknown_name("presets", "preset", str(grade), set(GRADES))
    known = all_operations()
    wanted = set(known if operations is None else operations)
    for name in wanted - set(known):
        if name in ELSEWHERE:
            raise OptionError(
                f"presets: operation={name!r} has no problems of its own. Tune it by {ELSEWHERE[name]}."
            )
        raise unknown_name("presets", "operation", name, set(known))
    found: dict[Workload, None] = {}
    for device in DEVICES if devices is None else tuple(devices):
        given = _frameworks(frameworks, device)
        if grade == "quick" and frameworks is None:
            given = [name for name in QUICK if name in given][:2]
            forwards, backwards = given[:1], given[-1:]
        else:
            forwards = backwards = given
        for framework in given:
            for rules, preset in _presets(known.values(), grade, device, framework):
                forward = _workload(rules, preset, framework, device)
                if framework in forwards and rules.name in wanted:
                    found[forward] = None
                if framework in backwards and preset.backward and wanted & {rules.name, rules.fused_backward}:
                    backward = forward.backward()
                    found |= {} if backward is None else {backward: None}
    return [workload for workload in found if can_run(workload.problem)]


def listed(operation: str, what: str, given: Iterable[str]) -> list[str]:
    """Names that a user gave: a single one that is no list would be read letter by letter."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise OptionError(f"{operation}: {what}={given!r} is no list. Give {what}=[{given!r}].")
    return list(given)


def check_here(operation: str, frameworks: Iterable[str] | None, devices: Iterable[str] | None) -> None:
    """Says what is wrong with frameworks and devices that a user named, where no array can be made of them."""
    bound = [backend for backend in backends().values() if backend.binding is not None]
    packages = {"numpy": "numpy"}
    for one in bound:
        packages[one.frameworks[0]] = f"'seqpar[{one.extra}]'" if one.extra else one.name
    for name in frameworks or ():
        if name not in packages:
            raise unknown_name(operation, "framework", name, packages)
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"{operation}: framework={name!r} is not installed. Run `pip install {packages[name]}`."
            )
    kinds = [device.partition(":")[0] for device in devices or ("cpu",)]
    if not any(_frameworks(frameworks, kind) for kind in kinds):
        asked = "none of " + ", ".join(frameworks) if frameworks else "no framework that is installed"
        raise OptionError(
            f"{operation}: {asked} makes arrays on {' or '.join(devices or ('cpu',))} here. "
            "`seqpar info` lists the frameworks and devices that do."
        )


def installed_frameworks(device: str) -> list[str]:
    """Frameworks that can make arrays on a kind of device here, NumPy first."""
    names = ["numpy"]
    for backend in backends().values():
        if backend.binding is not None:
            names += [name for name in backend.frameworks[:1] if name not in names]
    return [name for name in names if usable(name, device)]


def usable(framework: str, device: str) -> bool:
    """Can arrays of a framework be made on a kind of device here? It is imported to find out."""
    import numpy as np

    if framework != "numpy" and importlib.util.find_spec(framework) is None:
        return False
    try:
        binding_named(framework).placed(np.zeros(1, np.float32), "float32", (1,), (1,), device)
    except Exception:  # no such device, a driver that does not answer, a package that does not load
        return False
    return True


def _frameworks(given: Iterable[str] | None, device: str) -> list[str]:
    if given is None:
        return installed_frameworks(device)
    return [name for name in given if usable(name, device)]


def _presets(
    rules_of_all: Iterable[Operation], grade: Grade, device: str, framework: str
) -> Iterator[tuple[Operation, Preset]]:
    grades = GRADES[: GRADES.index(grade) + 1]
    for rules in rules_of_all:
        for preset in rules.presets():
            meant = not preset.frameworks or framework in preset.frameworks
            if preset.grade in grades and device in preset.devices and meant:
                yield rules, preset


def _workload(rules: Operation, preset: Preset, framework: str, device: str) -> Workload:
    operands = (None if x is None else Operand.row_major(x.shape, x.dtype) for x in preset.operands)
    return Workload(rules.name, rules.encode(preset.spec), tuple(operands), framework, device)
