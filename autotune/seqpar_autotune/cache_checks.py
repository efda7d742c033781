"""What is wrong in a store: `seqpar cache verify`, and the test that holds shipped tables against the kernels."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seqpar.dispatch import registry, store
from seqpar.dispatch.operation import all_operations
from seqpar.dispatch.problem import Kernel
from seqpar.dispatch.row import facts_of, problem_of, row_of, sizes_of
from seqpar.dispatch.store import Line
from seqpar.solving.tuned import BACKEND

from .cache_contents import Place, damage_in, environments_of, operations_in
from .candidates import Candidate
from .rows import code_of
from .solving_candidates import refused


@dataclass(frozen=True)
class Finding:
    """What is wrong with a line, or with a file or directory."""

    where: str
    what: str
    harmless: bool = False
    """Nothing has to be done: it is passed over when it is read, or cannot be told on this machine, or it is used all the same,
    since a kernel whose code has changed is as right as before, and at worst no longer the fastest."""


def verify(place: Place = None) -> list[Finding]:
    """Everything that keeps lines from being used, what cannot be told here, and what may be measured anew."""
    all_operations()
    found = []
    for environment in environments_of(place):
        name = environment.path.name
        if environment.profile is None:
            found.append(
                Finding(
                    name, f"{store.PROFILE} is missing or damaged: used where the name fits, and nowhere else"
                )
            )
        elif environment.source == "tuned" and environment.profile.digest != name:
            found.append(Finding(name, f"holds results of {environment.profile.digest}, as its profile says"))
        for operation in operations_in(environment):
            for path in environment.files(operation):
                found += _wrong_in(operation, path)
    return found


def _wrong_in(operation: str, path: Path) -> list[Finding]:
    try:
        lines = store.lines_of(path, path.read_bytes())
    except OSError as error:
        return [Finding(f"{path.parent.name}/{path.name}", f"cannot be read: {error.strerror}")]
    return [Finding(line.origin, *one) for line in lines for one in _wrong(operation, line)]


def _wrong(operation: str, line: Line) -> Iterator[tuple[str, bool]]:
    if line.damage:
        yield f"is no line of a store: {line.damage}", False
        return
    if line.newer:
        yield f"is in schema {line.newer}, of a later version", True
        return
    record = line.record
    if (error := damage_in(record)) is not None:
        yield f"is no line of a store: {error!r}", False
        return
    if record.get("operation", operation) != operation:
        yield f"is of {record['operation']}, in a file of {operation}", False
    problem, row = problem_of(operation, record["problem"]), row_of(record, "tuned")
    if record["backend"] == BACKEND:
        if (why := refused(Candidate.from_dict(record), problem)) is not None and record["verdict"] == "ok":
            yield f"{record['method']} cannot solve it: {why}", False
        return
    config = dict(record["config"])
    label = f"{record['backend']}.{record['method']}"
    kernels, absent = _kernels(operation, problem.framework)
    kernel = next((one for one in kernels if one.label == label), None)
    if kernel is None:
        yield f"{label} is not there{f' ({absent})' if absent else ''}", bool(absent)
        return
    unknown = sorted(set(config) - {field.name for field in dataclasses.fields(kernel.config)})
    if unknown:
        yield f"{label} has no {', '.join(unknown)}", False
        return
    if record["verdict"] == "ok":
        try:
            # `missing`, the other half of eligibility, depends on the machine.
            why = kernel.refuses(problem, kernel.config(**config))
        except Exception as error:
            why = repr(error)
        if why is not None:
            yield f"{label} cannot run it: {why}", False
    if row is not None and (row.facts, row.sizes) != (facts_of(problem), sizes_of(problem)):
        yield "its sizes are not those of its shape, so that no call finds it", False
    if row is not None and record.get("kernel") and record["kernel"] != code_of(type(kernel)):
        yield f"the code of {label} has changed since it was measured, which is used all the same", True


def _kernels(operation: str, framework: str) -> tuple[list[Kernel], str]:
    """The kernels that can be asked, and why others cannot."""
    found = list(registry.kernels(operation, ""))
    absent = []
    for backend in registry.backends().values():
        if backend.kernels is not None and framework in backend.frameworks:
            try:
                found += [kernel for kernel in backend.kernels() if kernel.operation == operation]
            except Exception as error:
                absent.append(f"{backend.name} does not load: {error}")
    return found, "; ".join(absent)
