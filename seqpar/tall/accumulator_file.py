"""The file that a `LstsqAccumulator` is saved in: one .npz of plain arrays, with nothing in it that runs when it is read."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import OptionError
from seqpar.tall.accumulation import Accumulation
from seqpar.tall.accumulator_arguments import Place, anchor_of
from seqpar.tall.factors import Factor
from seqpar.tall.stream import Part

FORMAT = "seqpar.LstsqAccumulator"
VERSION = 1


def write(path: str | os.PathLike[str], facts: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Replace the file as a whole, or leave it as it was."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"LstsqAccumulator.save: {os.fspath(path)!r} is in no folder that is there. Make the folder first."
        )
    head = json.dumps({"format": FORMAT, "version": VERSION, **facts})
    # Beside the file, since only within one file system does a rename replace at once.
    new = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        with open(new, "xb") as file:
            np.savez(file, head=np.asarray(head), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def read(name: str, path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `write` was given."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            facts = json.loads(str(file["head"]))
            arrays = {key: file[key] for key in file.files if key != "head"}
        if facts.pop("format") != FORMAT:
            raise KeyError("format")
        version = facts.pop("version")
    except (KeyError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise OptionError(
            f"{name}: {os.fspath(path)!r} is not a whole file of LstsqAccumulator.save. Give one that is."
        ) from error
    if version != VERSION:
        raise OptionError(
            f"{name}: {os.fspath(path)!r} is of version {version}, and this seqpar reads version {VERSION}. Install the "
            "seqpar that wrote it, or accumulate again."
        )
    return facts, arrays


def contents(state: Accumulation) -> tuple[dict[str, Any], dict[str, Any]]:
    """What there is to write of an accumulation with no rows waiting."""
    assert state.place is not None
    method, backend, _ = state.wish
    facts = {
        "made_with": {
            **state.settings._asdict(),
            "block_rows": state.block_rows,
            "method": method,
            "backend": backend,
        },
        "dtype": state.place.dtype,
        "vector": state.place.vector,
        "turn": state.turn,
        "factors": [[(factor.rows, factor.blocks) for factor in part.factors] for part in state.parts],
    }
    arrays = {f"ran{i}": _in_host_memory(part.ran) for i, part in enumerate(state.parts)}
    for i, part in enumerate(state.parts):
        for j, factor in enumerate(part.factors):
            arrays[f"r{i}_{j}"] = _in_host_memory(factor.r)
    return facts, arrays


def restored(
    name: str, state: Accumulation, facts: dict[str, Any], arrays: dict[str, Any], like: Array | None
) -> Accumulation:
    """An accumulation without rows with those of a file, where `like` is."""
    like = np.empty(0) if like is None else like
    binding = binding_for(type(like))
    anchor, dtype = anchor_of(name, binding, facts["dtype"], like), facts["dtype"]
    made = {key: binding.from_numpy(x, like) for key, x in arrays.items()}
    parts = []
    for i, told in enumerate(facts["factors"]):
        factors = tuple([Factor(made[f"r{i}_{j}"], *counts) for j, counts in enumerate(told)])
        parts.append(Part(factors, (), sum(factor.rows for factor in factors), made[f"ran{i}"]))
    place = Place(binding, anchor, binding.device_of(like), dtype, facts["vector"])
    return state._replace(place=place, parts=tuple(parts), turn=facts["turn"])


def _in_host_memory(x: Array) -> Any:
    """The numbers of an array of any framework as a NumPy array."""
    try:
        return np.asarray(x)
    except TypeError:  # how PyTorch and CuPy refuse to copy from a device unasked
        from array_api_compat import to_device

        return np.asarray(to_device(x, "cpu"))
