"""Sequence computation parallel over time, in any array framework.

>>> import numpy as np, seqpar
>>> seqpar.linear_recurrence(np.full(4, 0.5), np.ones(4))
array([1.   , 1.5  , 1.75 , 1.875])
"""

from typing import TYPE_CHECKING, Any

from seqpar import cells as cells
from seqpar import errors as errors
from seqpar import monoids as monoids
from seqpar.associative_scan import associative_scan
from seqpar.dispatch.explain import Explanation, explain
from seqpar.dispatch.options import options
from seqpar.linear_recurrence import LinearRecurrence, linear_recurrence
from seqpar.lstsq import LstsqResult, lstsq
from seqpar.matrix_recurrence import MatrixRecurrence, matrix_recurrence
from seqpar.plan_buckets import plan_buckets
from seqpar.qr import QR, ImplicitWithInfo, QRWithInfo, RWithInfo, qr
from seqpar.recurrence_solution import RecurrenceSolution, Verification, verify
from seqpar.resets import resets_from_lengths
from seqpar.solve_recurrence import recurrence, solve_recurrence
from seqpar.solving.configs import NewtonConfig, ShootingConfig
from seqpar.tall.configs import CertifiedCholesky, RowBlocks
from seqpar.tall.ran import QRInfo
from seqpar.vjp import vjp

if TYPE_CHECKING:
    from seqpar.bucket_sampler import BucketSampler
    from seqpar.bucket_stream import BucketStream
    from seqpar.buckets.batch import Batch
    from seqpar.buckets.cost_measuring import measure_cost
    from seqpar.buckets.cost_model import CostModel
    from seqpar.buckets.cost_table import CostTable
    from seqpar.buckets.loss import normalised_loss
    from seqpar.buckets.memory_fitting import fit_memory
    from seqpar.buckets.memory_model import MemoryModel
    from seqpar.buckets.pack_choice import PackChoice
    from seqpar.buckets.packing import PackedBatch, pack_batch
    from seqpar.buckets.padding import PaddedBatch, pad_batch
    from seqpar.buckets.pair_plan import PairPlan
    from seqpar.buckets.plan import BucketPlan
    from seqpar.lstsq_accumulator import LstsqAccumulator
    from seqpar.tall.cross_validation import CrossValidation
    from seqpar.tall.implicit import ImplicitQ
    from seqpar.tall.ridge_path import RidgePath

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 (QR is a class, and sorted as one)
    "Batch",
    "BucketPlan",
    "BucketSampler",
    "BucketStream",
    "CertifiedCholesky",
    "CostModel",
    "CostTable",
    "CrossValidation",
    "Explanation",
    "ImplicitQ",
    "ImplicitWithInfo",
    "LinearRecurrence",
    "LstsqAccumulator",
    "LstsqResult",
    "MatrixRecurrence",
    "MemoryModel",
    "NewtonConfig",
    "PackChoice",
    "PackedBatch",
    "PaddedBatch",
    "PairPlan",
    "QR",
    "QRInfo",
    "QRWithInfo",
    "RWithInfo",
    "RecurrenceSolution",
    "RidgePath",
    "RowBlocks",
    "ShootingConfig",
    "Verification",
    "associative_scan",
    "cells",
    "errors",
    "explain",
    "fit_memory",
    "linear_recurrence",
    "lstsq",
    "matrix_recurrence",
    "measure_cost",
    "monoids",
    "normalised_loss",
    "options",
    "pack_batch",
    "pad_batch",
    "plan_buckets",
    "qr",
    "recurrence",
    "resets_from_lengths",
    "solve_recurrence",
    "verify",
    "vjp",
]

_LATER = {
    "Batch": "seqpar.buckets.batch",
    "BucketPlan": "seqpar.buckets.plan",
    "BucketSampler": "seqpar.bucket_sampler",
    "BucketStream": "seqpar.bucket_stream",
    "CostModel": "seqpar.buckets.cost_model",
    "CostTable": "seqpar.buckets.cost_table",
    "CrossValidation": "seqpar.tall.cross_validation",
    "ImplicitQ": "seqpar.tall.implicit",
    "LstsqAccumulator": "seqpar.lstsq_accumulator",
    "MemoryModel": "seqpar.buckets.memory_model",
    "PackChoice": "seqpar.buckets.pack_choice",
    "PackedBatch": "seqpar.buckets.packing",
    "PaddedBatch": "seqpar.buckets.padding",
    "PairPlan": "seqpar.buckets.pair_plan",
    "RidgePath": "seqpar.tall.ridge_path",
    "fit_memory": "seqpar.buckets.memory_fitting",
    "measure_cost": "seqpar.buckets.cost_measuring",
    "normalised_loss": "seqpar.buckets.loss",
    "pack_batch": "seqpar.buckets.packing",
    "pad_batch": "seqpar.buckets.padding",
}
"""Names whose modules are loaded when they are first asked for: `import seqpar` is to take a fifth of a second at most."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_LATER[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
