"""CUDA C++ compiled for GPUs that are not there, by the run-time compiler that users have."""

import ctypes
import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from seqpar_cupy.source import part


@dataclass(frozen=True)
class Compiled:
    """What a kernel became."""

    registers: int
    stack: int
    spills: int
    """Bytes that are written to memory for want of registers."""
    ptx: str

    def count(self, pattern: str) -> int:
        """How often an instruction occurs."""
        return len(re.findall(pattern, self.ptx))


@functools.cache
def nvrtc() -> Any:
    """The library from its wheel, or the end of the test."""
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in spec.submodule_search_locations or ()] if spec else []
    found = [file for place in places for file in sorted(place.glob("*/lib/libnvrtc.so.*"))]
    if not found:
        pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc (or nvidia-cuda-nvrtc-cu12)")
    return ctypes.CDLL(str(found[-1]))


def _check(code: int, what: str) -> None:
    assert code == 0, f"{what} failed with {code}"


def _text(library: Any, kind: str, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _check(getattr(library, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)), kind)
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(library, f"nvrtcGet{kind}")(program, buffer), kind)
    return buffer.value.decode()


@functools.cache
def compiled(source: str, architecture: int) -> Compiled:
    """A kernel for an architecture: 80, 90. Raises with the compiler's words where it does not compile."""
    library = nvrtc()
    program = ctypes.c_void_p()
    text = f"{part('device')}\n{source}".encode()
    _check(
        library.nvrtcCreateProgram(ctypes.byref(program), text, b"kernel.cu", 0, None, None),
        "nvrtcCreateProgram",
    )
    options = [
        f"--gpu-architecture=sm_{architecture}".encode(),
        b"-std=c++17",
        b"--fmad=true",
        b"-ftz=true",  # which CuPy adds to whatever it is given
        b"--ptxas-options=-v",
        b"--ptxas-options=--warn-on-spills",
    ]
    try:
        code = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = _text(library, "ProgramLog", program)
        assert code == 0, log
        ptx = _text(library, "PTX", program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    numbers = {
        name: int(re.search(pattern, log).group(1))  # type: ignore[union-attr]
        for name, pattern in {
            "registers": r"Used (\d+) registers",
            "stack": r"(\d+) bytes stack frame",
            "spills": r"(\d+) bytes spill stores",
        }.items()
    }
    return Compiled(**numbers, ptx=ptx)
