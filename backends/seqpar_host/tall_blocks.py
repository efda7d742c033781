"""The kernel of tall-skinny QR: steps on a block of rows (tall_job.py), in one function for all shapes."""

from typing import Any

from numba import types
from numba.core.registry import cpu_target

from seqpar_host import tall_job as w
from seqpar_host.job import Job
from seqpar_host.simd import I64, Int
from seqpar_host.tall_code import TallCode
from seqpar_host.tall_job import TallSpecialisation
from seqpar_host.tall_pack import Pack, Unpack
from seqpar_host.tall_panel import Panel
from seqpar_host.tall_reflect import Reflect
from seqpar_host.tall_scale import Check, Finish, Rescale, Scale, Sign
from seqpar_host.untyped import intrinsic

STEPS: dict[int, type[Any]] = {
    w.PACK: Pack,
    w.SCALE: Scale,
    w.CHECK: Check,
    w.RESCALE: Rescale,
    w.FACTOR: Panel,
    w.REFLECT: Reflect,
    w.UNPACK: Unpack,
    w.FINISH: Finish,
    w.SIGN: Sign,
}


def blocks_of(dtype: str) -> TallSpecialisation:
    """The steps for numbers of this type on this processor."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return TallSpecialisation(dtype, "+avx512f" in features)


def kernel(job: int) -> int:
    """Compiled once per type of `job`."""
    return _emit(job)


@intrinsic
def _emit(typing: Any, job: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.function.attributes.add("optsize")
        of, words = signature.args[0].specialisation, Int(builder, args[0])
        op = TallCode(builder, of, words).word(w.OP)
        for number, step in STEPS.items():
            with builder.if_then(op.equals(number)):
                step(builder, of, words).write()
        if of.complex:
            with builder.if_then(op.equals(w.PACK_WEIGHTS)):
                Pack(builder, TallSpecialisation(of.state, of.wide), words).write()
        return I64(0)

    if not isinstance(job, Job):
        return None
    return types.int64(job), generate
