"""Compile the calls of a Triton program to cubins for a GPU that need not be there, and read what ptxas says of them.

Run as a script it takes the name of a module with `programs()`, a dictionary of programs by name, and prints one JSON line per
call and architecture; of some architectures if their numbers follow, and with --as-jax-triton of the kernels that jax-triton is
given. The tests run it, and other scripts, by `printed_where_triton_compiles`.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ARCHITECTURES = (80, 90)
TESTS = Path(__file__).parent
SECONDS = 900
"""All programs of a module take one or two minutes on an idle core."""


def printed_where_triton_compiles(*command: str) -> list[dict[str, Any]]:
    """The JSON lines that a script of this folder prints, in a process of its own.

    Triton decides for the interpreter, which cannot compile, or for the compiler when kernels are defined.
    """
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=TESTS,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


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


def cubins(
    name: str, program: Any, architectures: tuple[int, ...] = ARCHITECTURES, as_jax_triton: bool = False
) -> Iterator[Cubin]:
    """Every call of a program for every architecture."""
    for call in program.calls:
        for architecture in architectures:
            yield _compiled(name, call, program.formats, architecture, as_jax_triton)


POINTERS = {
    "float32": "*fp32",
    "float64": "*fp64",
    "float16": "*fp16",
    "bfloat16": "*bf16",
    "uint8": "*u8",
    "int32": "*i32",
    "bool": "*i1",
}


def _compiled(name: str, call: Any, formats: Any, architecture: int, as_jax_triton: bool) -> Cubin:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = call.kernel
    reads, writes = [formats.get(x) for x in call.reads], [formats.get(x) for x in call.writes]
    arguments: list[Any] = [*map(_element, (*reads, *writes)), *call.integers]
    if as_jax_triton:
        # Its order, no absent input, and masks as they are.
        from seqpar_triton.jax_calls import adapted

        kernel = adapted(call, formats)
        there = [[x if x == "bool" else _element(x) for x in part if x] for part in (reads, writes)]
        arguments = [*there[0], *call.integers, *there[1]]
    names = kernel.arg_names
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for i, x in enumerate(arguments):
        if isinstance(x, str):
            signature[names[i]] = POINTERS[x]
            attributes[i,] = [["tt.divisibility", 16]]
        elif x is None or (x == 1 and as_jax_triton):
            signature[names[i]] = "constexpr"
            constants[i,] = x
        else:
            signature[names[i]] = "i32" if x < 2**31 else "u32" if as_jax_triton and x < 2**32 else "i64"
    for key, value in call.constants.items():
        signature[key] = "constexpr"
        constants[names.index(key),] = value
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, attributes),
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


def _element(dtype: str | None) -> str | None:
    from seqpar_triton.program import element_of

    return None if dtype is None else element_of(dtype)


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
    module, *options = sys.argv[1:]
    chosen = tuple(int(x) for x in options if x.isdigit()) or ARCHITECTURES
    for title, each in importlib.import_module(module).programs().items():
        for cubin in cubins(title, each, chosen, as_jax_triton="--as-jax-triton" in options):
            print(json.dumps(cubin._asdict()))
