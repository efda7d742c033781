"""A process group of `torch.distributed` as a group whose members share rows out.

Everything is exchanged by all_gather and put together in the order of ranks, so that all members have the same bits. The gradient
is that of the sum of all members' losses, as in `torch.distributed.nn`; every member takes part in the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.autograd.function import Function, once_differentiable

from seqpar.dispatch.group import Operands, Results, Rule
from seqpar.dispatch.problem import Array
from seqpar.errors import DtypeError, OptionError, ShapeError
from seqpar_torch.internals import dual_level, transformed
from seqpar_torch.memory import NAMES

Tensor = torch.Tensor

KINDS = tuple(sorted(NAMES.values()))
DESCRIBED = 4
"""Numbers of a description that come before the sizes: rank, dtype, whether a gradient is wanted, rows."""
MOST_AXES = 16


class ProcessGroup:
    """The members of a process group, as this process sees them."""

    def __init__(self, operation: str, group: Any) -> None:
        self.operation = operation
        if not dist.is_available() or not dist.is_initialized():
            raise OptionError(
                f"{operation}: group={group!r} was given, and there are no processes. Call "
                "torch.distributed.init_process_group first."
            )
        if group == "world":
            group = dist.group.WORLD
        if not isinstance(group, dist.ProcessGroup):
            raise OptionError(
                f"{operation}: group={group!r} is not a process group of which this process is a member. Give 'world', or what "
                "torch.distributed.new_group returned to its members."
            )
        if transformed() or dual_level():
            raise OptionError(
                f"{operation}: group={group!r} was given under torch.func or forward mode, which do not reach other processes. "
                "Call it outside, and use backward()."
            )
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.wanted = False
        self.rows: list[int] = []

    def stacked(self, rows: Tensor) -> Tensor:
        self.rows = self._agreed(rows)
        most = max(self.rows)
        padded = rows.new_zeros((*rows.shape[:-2], most, rows.shape[-1]))
        padded[..., : rows.shape[-2], :] = rows
        every = self._gathered(padded)
        return torch.cat([x[..., :count, :] for x, count in zip(every, self.rows, strict=True)], dim=-2)

    def own(self, stack: Tensor, rows: Tensor) -> Tensor:
        first = sum(self.rows[: self.rank])
        return stack[..., first : first + self.rows[self.rank], :]

    def total(self, x: Tensor) -> Tensor:
        first, *others = self._gathered(x)
        for other in others:
            first = first + other
        return first

    def numbers(self, mine: Sequence[int], like: Tensor) -> list[Sequence[int]]:
        return [x.tolist() for x in self._gathered(torch.tensor(mine, device=like.device))]

    def differentiable(self, rule: Rule, operands: Operands) -> Results:
        self.wanted = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in operands)
        if self.wanted:
            found: Results = _OfGroup.apply(self, rule, *operands)  # type: ignore[no-untyped-call]
            return found
        return rule.value(*operands)

    def _gathered(self, x: Tensor) -> list[Tensor]:
        """x of every member, in the order of ranks."""
        sent = (torch.view_as_real(x) if x.is_complex() else x).contiguous()
        every = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(every, sent, group=self.group)
        return [torch.view_as_complex(y) for y in every] if x.is_complex() else every

    def _agreed(self, x: Tensor) -> list[int]:
        """How many rows each member has, if all else is the same."""
        *lead, rows, columns = x.shape
        others = [*lead, columns]
        words = [len(others), KINDS.index(NAMES[x.dtype]), int(self.wanted), rows, *others]
        every = self.numbers([*words, *[0] * (DESCRIBED + MOST_AXES - len(words))], x)
        mine = every[self.rank]
        for rank, theirs in enumerate(every):
            here, there = (tuple(y[DESCRIBED : DESCRIBED + y[0]]) for y in (mine, theirs))
            if here != there:
                raise ShapeError(
                    f"{self.operation}: rank {self.rank} has {here[-1]} columns with those of b and batches of {here[:-1]}, rank "
                    f"{rank} has {there[-1]} and {there[:-1]}. Members may differ in rows alone."
                )
            if mine[1] != theirs[1]:
                raise DtypeError(
                    f"{self.operation}: rank {self.rank} has {KINDS[mine[1]]}, rank {rank} {KINDS[theirs[1]]}. Give one dtype."
                )
            if mine[2] != theirs[2]:
                raise OptionError(
                    f"{self.operation}: rank {self.rank if mine[2] else rank} wants a gradient and rank "
                    f"{rank if mine[2] else self.rank} does not, without which the others would wait for ever. "
                    "Let all members require one."
                )
        return [y[3] for y in every]


class _OfGroup(Function):
    """A rule in reverse mode, once."""

    @staticmethod
    def forward(ctx: Any, group: ProcessGroup, rule: Rule, *operands: Tensor | None) -> Results:
        results = tuple(rule.value(*operands))
        ctx.group, ctx.rule, ctx.count = group, rule, len(operands)
        ctx.save_for_backward(*operands, *results)
        ctx.mark_non_differentiable(*[x for x in results if not _continuous(x)])
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Array) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        operands, results = saved[: ctx.count], saved[ctx.count :]
        given = [g if _continuous(x) else None for g, x in zip(cotangents, results, strict=True)]
        given = _summed(ctx.group, given, ctx.rule.shared)
        return None, None, *ctx.rule.vjp(operands, results, given, ctx.needs_input_grad[2:])


def _summed(group: ProcessGroup, cotangents: Sequence[Any], shared: Sequence[bool]) -> list[Any]:
    """Cotangents of what all members have, summed over them: one exchange for all."""
    which = [i for i, g in enumerate(cotangents) if g is not None and shared[i]]
    parts = [torch.view_as_real(g) if g.is_complex() else g for g in (cotangents[i] for i in which)]
    sums = group.total(torch.cat([part.reshape(-1) for part in parts]))
    each = torch.split(sums, [part.numel() for part in parts])
    found = list(cotangents)
    for i, part, total in zip(which, parts, each, strict=True):
        total = total.reshape(part.shape)
        # A view as complex has to begin at an even place.
        found[i] = torch.view_as_complex(total.clone()) if cotangents[i].is_complex() else total
    return found


def _continuous(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()
