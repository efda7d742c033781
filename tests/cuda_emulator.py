"""The CUDA kernels on the host: the same C++ source, the same plan, a host compiler and NumPy memory in place of a GPU."""

import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent / "cuda_emulation"
FLAGS = [
    "-std=c++20",
    "-O1",
    "-fPIC",
    "-w",
    "-fno-strict-aliasing",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=0",
]


@functools.cache
def compiler() -> str:
    """The host compiler, or the end of the test."""
    found = shutil.which("g++")
    if found is None:
        pytest.skip("no g++ to compile the CUDA kernels for the host with")
    return found


@functools.cache
def folder() -> Path:
    """Where libraries lie for as long as this process lives."""
    _keep.append(tempfile.TemporaryDirectory())
    path = Path(_keep[0].name)
    subprocess.run(
        [compiler(), *FLAGS, "-O2", "-c", str(HERE / "scheduler.cpp"), "-o", str(path / "scheduler.o")],
        check=True,
    )
    return path


_keep: list[Any] = []


@functools.cache
def library(source: str) -> Any:
    """A kernel as a shared library."""
    name = hashlib.sha256(source.encode()).hexdigest()[:24]
    code, result = folder() / f"{name}.cpp", folder() / f"{name}.so"
    words = source.rpartition("kernel(const ")[2].partition(" ")[0]
    code.write_text(
        f'#include "{HERE / "device.h"}"\n{source}\n'
        f"static void thread(const void* words) {{ kernel(*static_cast<const {words}*>(words)); }}\n"
        "static_assert(sizeof(long long) == 8);\n"
        f'extern "C" long long words_size() {{ return sizeof({words}); }}\n'
        'extern "C" int run(const unsigned* grid, unsigned threads, size_type shared, const void* words) {\n'
        "    return emulated_launch(grid, threads, shared, thread, words);\n}\n"
    )
    subprocess.run(
        [
            compiler(),
            *FLAGS,
            "-shared",
            "-Wl,-Bsymbolic",
            str(code),
            str(folder() / "scheduler.o"),
            "-o",
            str(result),
        ],
        check=True,
    )
    found = ctypes.CDLL(str(result))
    found.emulated_failure.restype = ctypes.c_char_p
    found.run.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p]
    return found


class EmulatedRuntime:
    """A device with few multiprocessors, whose memory is NumPy's."""

    device = "cpu"

    def __init__(self) -> None:
        self.launched: list[str] = []

    def multiprocessors(self) -> int:
        return 2

    def shared_memory(self) -> int:
        return 48 << 10

    def function(self, source: str) -> Any:
        def function(grid: tuple[int, int, int], threads: int, shared: int, words: Any) -> None:
            found = library(source)
            assert found.words_size() == words.nbytes, (found.words_size(), words.nbytes)
            assert shared <= self.shared_memory()
            self.launched.append(source)
            sizes = np.array(grid, np.uint32)
            if found.run(sizes.ctypes.data, threads, shared, words.ctypes.data):
                raise AssertionError(found.emulated_failure().decode())

        return function
