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
FLAGS = ["-std=c++20", "-fPIC", "-shared", "-w", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE"]
# Hundreds of kernels are compiled and run for milliseconds: what counts is the time of the compiler and the linker.
QUICK = ["-Og", "-fno-exceptions", "-fno-asynchronous-unwind-tables", "-fno-rtti", "-nostdlib"]


@functools.cache
def compiler() -> str:
    """The host compiler, or the end of the test."""
    found = shutil.which("g++")
    if found is None:
        pytest.skip("no g++ to compile the CUDA kernels for the host with")
    return found


class Scheduler:
    """What runs the threads of kernels, loaded for their libraries to find, and a folder for those."""

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name)
        library = self.path / "scheduler.so"
        subprocess.run(
            [compiler(), *FLAGS, "-O2", str(HERE / "scheduler.cpp"), "-o", str(library)], check=True
        )
        self.library = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        self.library.emulated_failure.restype = ctypes.c_char_p


@functools.cache
def scheduler() -> Scheduler:
    return Scheduler()


@functools.cache
def library(source: str) -> Any:
    """A kernel as a shared library."""
    name = hashlib.sha256(source.encode()).hexdigest()[:24]
    code, result = scheduler().path / f"{name}.cpp", scheduler().path / f"{name}.so"
    words = source.rpartition("kernel(const ")[2].partition(" ")[0]
    code.write_text(
        f'#include "{HERE / "device.h"}"\n{source}\n'
        f"static void thread(const void* words) {{ kernel(*static_cast<const {words}*>(words)); }}\n"
        f'extern "C" long long words_size() {{ return sizeof({words}); }}\n'
        'extern "C" int run(const unsigned* grid, unsigned threads, size_type shared, const void* words) {\n'
        "    return emulated_launch(grid, threads, shared, thread, words);\n}\n"
    )
    subprocess.run([compiler(), *FLAGS, *QUICK, str(code), "-o", str(result)], check=True)
    found = ctypes.CDLL(str(result))
    found.run.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p]
    return found


class EmulatedRuntime:
    """A device with few multiprocessors, whose memory is NumPy's."""

    device = "cpu"

    def __init__(self) -> None:
        self.launched: list[str] = []

    def multiprocessors(self) -> int:
        return 2

    def function(self, source: str) -> Any:
        def function(grid: tuple[int, int, int], threads: int, shared: int, words: Any) -> None:
            found = library(source)
            assert found.words_size() == words.nbytes
            assert shared <= 48 << 10, "a block of any device has this much without asking for more"
            self.launched.append(source)
            sizes = np.array(grid, np.uint32)
            if found.run(sizes.ctypes.data, threads, shared, words.ctypes.data):
                raise AssertionError(scheduler().library.emulated_failure().decode())

        return function
