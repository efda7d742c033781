"""Tall-skinny QR over threads of our own: parts of rows as tasks, and the merge of their R factors in order.

    conduct     the worker that launch.py calls for such a plan: starts threads, twice where Q is wanted of several parts
    crew        takes parts until none is left; who finishes a matrix's last part merges them all

Which thread does what changes no bit: parts are cut by the shapes, and merged in their order.
"""

from seqpar_host import tall_words as w
from seqpar_host.job import number
from seqpar_host.launch import MOST_THREADS, call, fence, join_thread, peek, stack, start_thread, take
from seqpar_host.memory import (
    LINE,
    clear_bytes,
    free,
    get,
    keep_denormals,
    line_of,
    malloc,
    put,
    quotient,
    treat_denormals,
)
from seqpar_host.routines import routine
from seqpar_host.tall_down import finish, forward, merge
from seqpar_host.tall_job import TALL_WORDS
from seqpar_host.tall_places import area_of, prepare, start_of
from seqpar_host.tall_up import backward, fold_back


def conduct(address: int) -> int:
    """A whole call; not 0 if there was no memory for it."""
    before = keep_denormals()
    status = conduct_all(number(address))
    treat_denormals(before)
    return status


def crew(address: int) -> int:
    """Take tasks until none is left."""
    before = keep_denormals()
    take_parts(number(address))
    treat_denormals(before)
    return 0


@routine
def conduct_all(words: int) -> int:
    plan, orders = get(words, 0), stack(w.ORDER_WORDS)
    # Strips of columns of a product are matrices of their own here.
    matrices, parts = get(plan, w.MATRICES) * get(plan, w.STRIPS), get(plan, w.PARTS)
    threads = max(1, min(min(get(words, 1), MOST_THREADS), matrices * parts))
    # Parts of a matrix wait for each other, so each has an area of its own; else one for each thread.
    areas = matrices * parts if parts > 1 else threads
    counters = line_of(8 * matrices) if parts > 1 else 0
    size = LINE + counters + areas * get(plan, w.AREA_BYTES) + threads * get(plan, w.REGION_BYTES)
    memory = malloc(size)
    if memory == 0:
        return w.OUT_OF_MEMORY
    begin = line_of(memory)
    clear_bytes(begin, counters)
    put(orders, w.PLAN, plan)
    put(orders, w.CALL, words)
    put(orders, w.COUNTERS, begin)
    put(orders, w.AREAS, begin + counters)
    put(orders, w.REGIONS, begin + counters + areas * get(plan, w.AREA_BYTES))
    put(orders, w.PHASE, w.FORWARD_PHASE)
    run(orders, threads)
    if parts > 1 and get(plan, w.PHASES) > 1:
        put(orders, w.PHASE, w.BACKWARD_PHASE)
        run(orders, threads)
    free(memory)
    return 0


@routine
def run(orders: int, threads: int) -> None:
    """Do all tasks of a phase."""
    handles, started, plan = stack(MOST_THREADS), 0, get(orders, w.PLAN)
    put(orders, w.NEXT_TASK, 0)
    put(orders, w.NEXT_REGION, 0)
    for index in range(threads - 1):
        if start_thread(handles + 8 * index, get(plan, w.CREW), orders) != 0:
            break
        started += 1
    call(get(plan, w.CREW), orders)
    for index in range(started):
        join_thread(peek(handles + 8 * index))


@routine
def take_parts(orders: int) -> None:
    plan, job, thread = get(orders, w.PLAN), stack(TALL_WORDS), stack(w.THREAD_WORDS)
    region = take(orders + 8 * w.NEXT_REGION, 1)
    prepare(orders, thread, job, get(orders, w.REGIONS) + region * get(plan, w.REGION_BYTES))
    parts = get(plan, w.PARTS)
    while True:
        task = take(orders + 8 * w.NEXT_TASK, 1)
        if task >= get(plan, w.MATRICES) * parts:
            return
        matrix = quotient(task, parts)
        part = task - matrix * parts
        put(thread, w.MATRIX, matrix)
        put(thread, w.INDEX, part)
        put(thread, w.START, start_of(plan, part))
        put(thread, w.COUNT, start_of(plan, part + 1) - start_of(plan, part))
        if parts == 1:
            put(thread, w.AREA, get(orders, w.AREAS) + region * get(plan, w.AREA_BYTES))
            forward(thread)
            finish(thread)
            if get(plan, w.EXPLICIT) != 0:
                backward(thread)
            continue
        put(thread, w.AREA, area_of(orders, matrix, part))
        if get(orders, w.PHASE) == w.BACKWARD_PHASE:
            backward(thread)
            continue
        forward(thread)
        # What this thread wrote is seen by whoever counts after it.
        fence()
        done = take(get(orders, w.COUNTERS) + 8 * matrix, 1)
        fence()
        if done == parts - 1:
            merge(thread)
            put(thread, w.AREA, area_of(orders, matrix, 0))
            finish(thread)
            if get(plan, w.EXPLICIT) != 0:
                fold_back(thread)
