"""Compile the calls of a Triton program to cubins for a GPU that need not be there, and read what ptxas says of them.

Run as a script it takes the name of a module with `programs()`, a dictionary of programs by name, and prints one JSON line per
call and architecture. The tests run it in a process without TRITON_INTERPRET.
"""

import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ARCHITECTURES = (80, 90)


class Cubin(NamedTuple):
    """One kernel, compiled for one architecture."""

    program: str
    kernel: str
    architecture: int
    registers: int
    spilled_bytes: int
    shared_bytes: int
    wide_copies: int
    """Asynchronous copies of 16 bytes."""
    copies: int
    loads: int
    wide_loads: int
    """Loads of 16 bytes into registers."""
    stores: int
    wide_stores: int
    shuffles: int
    barriers: int


def cubins(name: str, program: Any, architectures: tuple[int, ...] = ARCHITECTURES) -> Iterator[Cubin]:
    """Every call of a program for every architecture."""
    for call in program.calls:
        for architecture in architectures:
            yield _compiled(name, call, program.formats, architecture)


def _compiled(name: str, call: Any, formats: Any, architecture: int) -> Cubin:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from seqpar_triton.program import element_of

    memory, names = (*call.reads, *call.writes), call.kernel.arg_names
    short = {
        "float32": "fp32",
        "float64": "fp64",
        "float16": "fp16",
        "bfloat16": "bf16",
        "uint8": "u8",
        "int32": "i32",
    }
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for i, slot in enumerate(memory):
        if slot in formats:
            signature[names[i]] = "*" + short[element_of(formats[slot])]
            attributes[i,] = [["tt.divisibility", 16]]
        else:
            signature[names[i]] = "constexpr"
            constants[i,] = None
    for i, value in enumerate(call.integers, len(memory)):
        signature[names[i]] = "i32" if -(2**31) <= value < 2**31 else "i64"
    for key, value in call.constants.items():
        signature[key] = "constexpr"
        constants[names.index(key),] = value
    compiled = triton.compile(
        ASTSource(call.kernel, signature, constants, attributes),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": call.warps, "enable_fp_fusion": True},
    )
    ptx = compiled.asm["ptx"]
    report = _assembled(ptx, architecture)

    def count(pattern: str) -> int:
        return len(re.findall(pattern, ptx))

    return Cubin(
        name,
        call.kernel.__name__,
        architecture,
        registers=int(re.findall(r"Used (\d+) registers", report)[0]),
        spilled_bytes=sum(map(int, re.findall(r"(\d+) bytes spill", report))),
        shared_bytes=compiled.metadata.shared,
        wide_copies=count(r"cp\.async\.cg\.shared\.global"),
        copies=count(r"cp\.async\.c[ag]\.shared\.global"),
        loads=count(r"ld\.global"),
        wide_loads=count(r"ld\.global[^;]*\.(?:v4\.b32|v2\.b64)"),
        stores=count(r"st\.global"),
        wide_stores=count(r"st\.global[^;]*\.(?:v4\.b32|v2\.b64)"),
        shuffles=count(r"shfl\.sync"),
        barriers=count(r"bar\.sync"),
    )


def _assembled(ptx: str, architecture: int) -> str:
    """What ptxas, which comes with Triton, says of a kernel."""
    import triton.backends.nvidia

    folder = Path(triton.backends.nvidia.__file__).parent / "bin"
    ptxas = next(path for path in (folder / "ptxas", folder / "ptxas-blackwell") if path.exists())
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "kernel.ptx")
        source.write_text(ptx)
        suffix = "a" if architecture == 90 else ""
        done = subprocess.run(
            [ptxas, "-v", f"-arch=sm_{architecture}{suffix}", source, "-o", Path(scratch, "kernel.cubin")],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


if __name__ == "__main__":
    for title, each in importlib.import_module(sys.argv[1]).programs().items():
        for cubin in cubins(title, each):
            print(json.dumps(cubin._asdict()))
