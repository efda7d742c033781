"""Start a kernel on its tasks, on one thread or several.

`launch` is compiled once. It gets the address of a plan (plan.py) and the pointers of the operands, and runs the plan's
kernel here or on threads made for this one call: starting and joining one takes 50 microseconds, a pool would break under
fork or with several Python threads. Threads pull tasks from a counter, so which thread does what changes no bit.

Words of a plan: kernel, worker, tasks (CONDUCTED: the worker starts threads itself, and what follows is its own), grain,
steps, extent, block, cached, rows, columns, slots, dims, sizes of the dims, then per slot (offset, bytes per step, per position
of the extent, per row, per column, per index of each dim).
Words of a call: plan, counter (the number of threads, where a conductor takes the plan), pointers of the slots (0 where absent).
"""

import os
import sys
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types

from seqpar_host.job import HEADER, PER_SLOT, number
from seqpar_host.routines import routine
from seqpar_host.untyped import cgutils, intrinsic

KERNEL, WORKER, TASKS, GRAIN, STEPS, EXTENT, BLOCK, CACHED, ROWS, COLUMNS, N_SLOTS, N_DIMS, SIZES = range(13)
CONDUCTED = -1
MOST_SLOTS = 10
MOST_THREADS = 256
JOB_WORDS = HEADER + PER_SLOT * MOST_SLOTS
CALL_WORDS = 2 + MOST_SLOTS
I32, I64 = ir.IntType(32), ir.IntType(64)
# Windows has no pthreads: one thread there.
THREADS = os.name == "posix"


@intrinsic
def peek(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], I64.as_pointer()))

    return types.int64(types.int64), generate


@intrinsic
def poke(typing: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], I64.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def take(typing: Any, address: Any, count: Any) -> Any:
    """Add to a counter that other threads add to as well; the value before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(args[0], I64.as_pointer()), args[1], "monotonic")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def fence(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@partial(intrinsic, literal=True)
def stack(typing: Any, words: Any) -> Any:
    """The address of so many words that live as long as the call."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        room = ir.ArrayType(I64, words.literal_value)
        return builder.ptrtoint(cgutils.alloca_once(builder, room), I64)

    return (types.int64(words), generate) if isinstance(words, types.IntegerLiteral) else None


@intrinsic
def call(typing: Any, function: Any, argument: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(I64, [I64])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return types.int64(types.int64, types.int64), generate


@intrinsic
def start_thread(typing: Any, handle: Any, function: Any, argument: Any) -> Any:
    """pthread_create: 0 if the thread runs."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not THREADS:
            return I64(1)
        create = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(I32, [I64] * 4), "pthread_create"
        )
        return builder.sext(builder.call(create, [args[0], I64(0), args[1], args[2]]), I64)

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def join_thread(typing: Any, thread: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not THREADS:
            return I64(0)
        join = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, [I64] * 2), "pthread_join")
        return builder.sext(builder.call(join, [args[0], I64(0)]), I64)

    return types.int64(types.int64), generate


@intrinsic
def ask_for_huge_pages(typing: Any, address: Any, size: Any) -> Any:
    """Linux's madvise(MADV_HUGEPAGE), as NumPy asks for its own arrays; a refusal changes nothing."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not sys.platform.startswith("linux"):
            return I64(0)
        kind = ir.FunctionType(I32, [I64, I64, I32])
        advise = cgutils.get_or_insert_function(builder.module, kind, "madvise")
        return builder.sext(builder.call(advise, [*args, I32(14)]), I64)

    return types.int64(types.int64, types.int64), generate


def worker(address: int) -> int:
    """Do tasks of a call until none is left."""
    words = number(address)
    plan = peek(words)
    tasks, grain, block = peek(plan + 8 * TASKS), peek(plan + 8 * GRAIN), peek(plan + 8 * BLOCK)
    extent, slots, dims = peek(plan + 8 * EXTENT), peek(plan + 8 * N_SLOTS), peek(plan + 8 * N_DIMS)
    # An extent of nothing is one task all the same, for a kernel that has something to write then.
    blocks = max(1, (extent + block - 1) // block)
    job = stack(JOB_WORDS)
    poke(job, peek(plan + 8 * STEPS))
    poke(job + 16, peek(plan + 8 * CACHED))
    poke(job + 24, peek(plan + 8 * ROWS))
    poke(job + 32, peek(plan + 8 * COLUMNS))
    table = plan + 8 * (SIZES + dims)
    for slot in range(slots):
        entry, target = table + 8 * slot * (PER_SLOT + dims), job + 8 * (HEADER + PER_SLOT * slot)
        for word in range(1, PER_SLOT):
            poke(target + 8 * word, peek(entry + 8 * word))
    while True:
        begin = take(words + 8, grain)
        if begin >= tasks:
            # Stores that went past the caches are ordered by nothing else.
            fence()
            return 0
        for task in range(begin, min(begin + grain, tasks)):
            first = (task % blocks) * block
            poke(job + 8, min(block, extent - first))
            for slot in range(slots):
                entry, target = table + 8 * slot * (PER_SLOT + dims), job + 8 * (HEADER + PER_SLOT * slot)
                base = peek(words + 8 * (2 + slot)) + peek(entry) + first * peek(entry + 16)
                rest = task // blocks
                for dim in range(dims - 1, -1, -1):
                    size = peek(plan + 8 * (SIZES + dim))
                    base += (rest % size) * peek(entry + 8 * (PER_SLOT + dim))
                    rest = rest // size
                poke(target, base)
            call(peek(plan + 8 * KERNEL), job)


def launch(
    plan: int,
    threads: int,
    p0: int,
    p1: int,
    p2: int,
    p3: int,
    p4: int,
    p5: int,
    p6: int,
    p7: int,
    p8: int,
    p9: int,
) -> int:
    """Run a plan on pointers given one by one: ten integers reach C faster than an array of ten."""
    words = stack(CALL_WORDS)
    poke(words, number(plan))
    poke(words + 16, p0)
    poke(words + 24, p1)
    poke(words + 32, p2)
    poke(words + 40, p3)
    poke(words + 48, p4)
    poke(words + 56, p5)
    poke(words + 64, p6)
    poke(words + 72, p7)
    poke(words + 80, p8)
    poke(words + 88, p9)
    return start(words, threads)


@routine
def start(words: int, threads: int) -> int:
    """Run the call whose plan and pointers are in `words`; not 0 if there was no memory for it."""
    handles = stack(MOST_THREADS)
    work = peek(peek(words) + 8 * WORKER)
    if peek(peek(words) + 8 * TASKS) == CONDUCTED:
        poke(words + 8, threads)
        return call(work, words)
    poke(words + 8, 0)
    started = 0
    for index in range(min(threads, MOST_THREADS) - 1):
        if start_thread(handles + 8 * index, work, words) != 0:
            break
        started += 1
    call(work, words)
    for index in range(started):
        join_thread(peek(handles + 8 * index))
    return 0
