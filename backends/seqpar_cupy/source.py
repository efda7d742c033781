"""The CUDA C++ that ships with the package, put together for one kernel: no includes, so nothing has to be found."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

COMMON = ("numbers", "products", "memory")

TYPES = {
    "bool": "unsigned char",
    "float16": "Half",
    "bfloat16": "BFloat",
    "float32": "float",
    "float64": "double",
    "complex64": "Complex<float>",
    "complex128": "Complex<double>",
}
GATES = {"value": "VALUE", "log": "LOG", "logit": "LOGIT"}


@cache
def part(name: str) -> str:
    """One of the files."""
    return (files("seqpar_cupy") / "source" / f"{name}.cuh").read_text(encoding="utf-8")


def kernel_source(
    parts: Sequence[str],
    body: str,
    words: str,
    bounds: tuple[int, int],
    types: Mapping[str, str],
    constants: Mapping[str, int | bool | str],
) -> str:
    """All of one kernel but the file "device": `body` in terms of `Options`, of the struct `words` passed by value.

    `bounds` are the threads of a block and how many blocks are to fit on a multiprocessor; `types` are dtypes by their names
    in `Options`, `constants` whole numbers, flags and words.
    """
    lines = [f"    typedef {TYPES[dtype]} {name};" for name, dtype in types.items()]
    lines += [f"    static constexpr int {name} = {_literal(value)};" for name, value in constants.items()]
    return "\n".join(
        [
            *(part(name) for name in (*COMMON, *parts)),
            "struct Options {",
            *lines,
            "};",
            f'extern "C" __global__ void __launch_bounds__({bounds[0]}, {bounds[1]}) kernel(const {words} words) {{',
            f"    {body};",
            "}",
            "",
        ]
    )


def _literal(value: int | bool | str) -> str:
    return value if isinstance(value, str) else str(int(value))
