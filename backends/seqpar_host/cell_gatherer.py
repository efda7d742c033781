"""Gradients of a cell's input and parameters, gathered over all steps by threads of our own.

    gather      the worker that launch.py calls for such a plan: starts gatherers, then adds up what each task found
    gatherer    takes tasks until none is left; one is so many steps of a sequence, or some short sequences, whatever the threads

Each task adds up gradients of all parameters in a row of its own, and writes those of its inputs. It goes SUB steps at a time,
so that what all products read of them stays close to the core. The framework's products leave threads behind that spin for
milliseconds on the cores which the next walk needs (LSTM of 32 units, 17,984 steps, 2 cores: a training step took 15 ms, and
takes 9 with these).
"""

from seqpar_host import product_job as p
from seqpar_host.job import number
from seqpar_host.launch import MOST_THREADS, call, join_thread, peek, stack, start_thread, take
from seqpar_host.memory import (
    LINE,
    clear_bytes,
    copy_numbers,
    free,
    get,
    keep_denormals,
    line_of,
    malloc,
    peek_byte,
    put,
    quotient,
    treat_denormals,
)
from seqpar_host.routines import routine

SUB = 64

# Words of a plan; the first three are those that launch.py reads.
KERNEL, WORKER, TASKS, CREW, ITEMSIZE, TIME, SEQUENCES, BLOCK, GROUP, BLOCKS, COUNT = range(11)
WEIGHTS, INPUTS, STATE, STORED, RESETS, ONE, TURNED = range(11, 18)
DIMS, SIZE_TABLE, SLOT_TABLE, PRODUCTS, PRODUCT_TABLE, TURNS, TURN_TABLE = range(18, 25)
PLAN_WORDS = 25
# Operands and results, in the order of the call; of each bytes per step and per unit, and per index of each dim.
X, H0, RESET_MASK, WEIGHT_ROW, STATES, WRITTEN, DX, DWEIGHTS = range(8)
# A product: whether it makes gradients of the input, what is multiplied and from which number on, how many numbers; the column
# of what was stored (of the input: where the turned weights begin), how many; the number in the row of weights, numbers from
# one row there to the next (of the input: whether it is the first).
OF_INPUT, SOURCE, FIRST, HIGH, COLUMN, WIDE, TARGET, APART = range(8)
ENTRY_WORDS = 8
FROM_INPUT, FROM_STATE, FROM_STORED, FROM_ONE = range(4)
# A matrix that is turned: its first number in the row of weights, numbers from row to row, columns, and where they go.
TURN_WORDS = 4
# Words of a call's own: plan, pointers, partial sums, turned weights, regions, and counters of tasks and of regions.
PLAN, CALL, PARTIALS, MATRICES, REGIONS, NEXT_TASK, NEXT_REGION = range(7)
ORDER_WORDS = 7
OUT_OF_MEMORY = 1


def gather(address: int) -> int:
    """All gradients of a call; not 0 if there was no memory for it."""
    before = keep_denormals()
    status = gather_all(number(address))
    treat_denormals(before)
    return status


def gatherer(address: int) -> int:
    """Take tasks until none is left."""
    before = keep_denormals()
    take_tasks(number(address))
    treat_denormals(before)
    return 0


@routine
def gather_all(words: int) -> int:
    plan, threads = get(words, 0), min(get(words, 1), MOST_THREADS)
    orders, handles, started = stack(ORDER_WORDS), stack(MOST_THREADS), 0
    itemsize, count = get(plan, ITEMSIZE), get(plan, COUNT)
    threads = max(1, min(threads, count))
    row = line_of(itemsize * get(plan, WEIGHTS))
    turned = line_of(itemsize * get(plan, TURNED))
    memory = malloc(LINE + count * row + turned + threads * region_bytes(plan))
    if memory == 0:
        return OUT_OF_MEMORY
    put(orders, PLAN, plan)
    put(orders, CALL, words)
    put(orders, PARTIALS, line_of(memory))
    put(orders, MATRICES, line_of(memory) + count * row)
    put(orders, REGIONS, line_of(memory) + count * row + turned)
    put(orders, NEXT_TASK, 0)
    put(orders, NEXT_REGION, 0)
    turn(orders)
    for index in range(threads - 1):
        if start_thread(handles + 8 * index, get(plan, CREW), orders) != 0:
            break
        started += 1
    call(get(plan, CREW), orders)
    for index in range(started):
        join_thread(peek(handles + 8 * index))
    job = stack(p.PRODUCT_WORDS)
    put(job, p.A, plan + 8 * ONE)
    put(job, p.A_ROW, 0)
    put(job, p.A_STEP, 0)
    put(job, p.B, get(orders, PARTIALS))
    put(job, p.B_STEP, row)
    put(job, p.C, get(words, 2 + DWEIGHTS))
    put(job, p.C_ROW, 0)
    put(job, p.ROWS, 1)
    put(job, p.COLUMNS, get(plan, WEIGHTS))
    put(job, p.STEPS, count)
    put(job, p.FRESH, 1)
    call(get(plan, KERNEL), job)
    free(memory)
    return 0


@routine
def region_bytes(plan: int) -> int:
    """What one thread needs: states before some steps and what they stored, in rows without gaps."""
    itemsize = get(plan, ITEMSIZE)
    return line_of(itemsize * SUB * get(plan, STATE)) + line_of(itemsize * SUB * get(plan, STORED))


@routine
def slot_word(plan: int, slot: int, word: int) -> int:
    return get(plan, get(plan, SLOT_TABLE) + slot * (2 + get(plan, DIMS)) + word)


@routine
def address_of(orders: int, slot: int, sequence: int) -> int:
    """Where an operand begins that belongs to a sequence."""
    plan, rest = get(orders, PLAN), sequence
    base, dim = get(get(orders, CALL), 2 + slot), get(plan, DIMS) - 1
    while dim >= 0:
        size = get(plan, get(plan, SIZE_TABLE) + dim)
        above = quotient(rest, size)
        base += (rest - above * size) * slot_word(plan, slot, 2 + dim)
        rest = above
        dim -= 1
    return base


@routine
def turn(orders: int) -> None:
    """Matrices that multiply the input, with a row of numbers for each column."""
    plan = get(orders, PLAN)
    itemsize, inputs, unit = get(plan, ITEMSIZE), get(plan, INPUTS), slot_word(plan, WEIGHT_ROW, 1)
    source = get(get(orders, CALL), 2 + WEIGHT_ROW)
    for index in range(get(plan, TURNS)):
        entry = plan + 8 * (get(plan, TURN_TABLE) + TURN_WORDS * index)
        first, apart, count = get(entry, 0), get(entry, 1), get(entry, 2)
        target = get(orders, MATRICES) + itemsize * get(entry, 3)
        for column in range(count):
            copy_numbers(
                source + (first + column) * unit,
                apart * unit,
                target + itemsize * column * inputs,
                itemsize,
                inputs,
                itemsize,
            )


@routine
def take_tasks(orders: int) -> None:
    plan, job = get(orders, PLAN), stack(p.PRODUCT_WORDS)
    region = get(orders, REGIONS) + take(orders + 8 * NEXT_REGION, 1) * region_bytes(plan)
    size = get(plan, ITEMSIZE) * get(plan, WEIGHTS)
    while True:
        task = take(orders + 8 * NEXT_TASK, 1)
        if task >= get(plan, COUNT):
            break
        row = get(orders, PARTIALS) + task * line_of(size)
        clear_bytes(row, size)
        group = quotient(task, get(plan, BLOCKS))
        first = (task - group * get(plan, BLOCKS)) * get(plan, BLOCK)
        end = min(first + get(plan, BLOCK), get(plan, TIME))
        sequence = group * get(plan, GROUP)
        last = min(sequence + get(plan, GROUP), get(plan, SEQUENCES))
        while sequence < last:
            for at in range(first, end, SUB):
                add_steps(orders, job, region, row, sequence, at, min(SUB, end - at))
            sequence += 1


@routine
def add_steps(orders: int, job: int, region: int, row: int, sequence: int, at: int, steps: int) -> None:
    """Add to the row of a task what some steps of a sequence have for it, and write the gradients of their inputs."""
    plan = get(orders, PLAN)
    itemsize, inputs = get(plan, ITEMSIZE), get(plan, INPUTS)
    x = address_of(orders, X, sequence) + at * slot_word(plan, X, 0)
    dx = address_of(orders, DX, sequence) + at * slot_word(plan, DX, 0)
    written = address_of(orders, WRITTEN, sequence) + at * slot_word(plan, WRITTEN, 0)
    apart, unit = slot_word(plan, WRITTEN, 0), slot_word(plan, WRITTEN, 1)
    if unit != itemsize:
        copied, width = region + line_of(itemsize * SUB * get(plan, STATE)), get(plan, STORED)
        for step in range(steps):
            target = copied + step * width * itemsize
            copy_numbers(written + step * apart, unit, target, itemsize, width, itemsize)
        written, apart = copied, width * itemsize
    before, before_step, before_unit = region, itemsize * get(plan, STATE), itemsize
    if at == 0 or get(plan, RESETS) != 0:
        enter(orders, region, sequence, at, steps)
    else:
        before_step, before_unit = slot_word(plan, STATES, 0), slot_word(plan, STATES, 1)
        before = address_of(orders, STATES, sequence) + (at - 1) * before_step
    if get(plan, TURNS) == 0:
        clear_bytes(dx, itemsize * steps * inputs)
    for index in range(get(plan, PRODUCTS)):
        entry = plan + 8 * (get(plan, PRODUCT_TABLE) + ENTRY_WORDS * index)
        first, column = get(entry, FIRST), get(entry, COLUMN)
        if get(entry, OF_INPUT) != 0:
            put(job, p.A, written + first * itemsize)
            put(job, p.A_ROW, apart)
            put(job, p.A_STEP, itemsize)
            put(job, p.B, get(orders, MATRICES) + column * itemsize)
            put(job, p.B_STEP, inputs * itemsize)
            put(job, p.C, dx)
            put(job, p.C_ROW, inputs * itemsize)
            put(job, p.ROWS, steps)
            put(job, p.COLUMNS, inputs)
            put(job, p.STEPS, get(entry, HIGH))
            put(job, p.FRESH, get(entry, APART))
        else:
            source, place, along, across = get(entry, SOURCE), plan + 8 * ONE, 0, 0
            if source == FROM_INPUT:
                place, along, across = x, slot_word(plan, X, 0), slot_word(plan, X, 1)
            if source == FROM_STATE:
                place, along, across = before, before_step, before_unit
            if source == FROM_STORED:
                place, along, across = written, apart, itemsize
            put(job, p.A, place + first * across)
            put(job, p.A_ROW, across)
            put(job, p.A_STEP, along)
            put(job, p.B, written + column * itemsize)
            put(job, p.B_STEP, apart)
            put(job, p.C, row + get(entry, TARGET) * itemsize)
            put(job, p.C_ROW, get(entry, APART) * itemsize)
            put(job, p.ROWS, get(entry, HIGH))
            put(job, p.COLUMNS, get(entry, WIDE))
            put(job, p.STEPS, steps)
            put(job, p.FRESH, 0)
        call(get(plan, KERNEL), job)


@routine
def enter(orders: int, region: int, sequence: int, at: int, steps: int) -> None:
    """The states that enter some steps, one after the other: h0 before the first, and where it comes again."""
    plan = get(orders, PLAN)
    itemsize, state = get(plan, ITEMSIZE), get(plan, STATE)
    apart, unit = slot_word(plan, STATES, 0), slot_word(plan, STATES, 1)
    start, start_unit = address_of(orders, H0, sequence), slot_word(plan, H0, 1)
    states, masked = address_of(orders, STATES, sequence), get(plan, RESETS)
    mask, mask_step = address_of(orders, RESET_MASK, sequence), slot_word(plan, RESET_MASK, 0)
    for step in range(steps):
        now, target = at + step, region + step * state * itemsize
        again = now == 0
        if again or (masked != 0 and peek_byte(mask + now * mask_step) != 0):
            copy_numbers(start, start_unit, target, itemsize, state, itemsize)
        else:
            copy_numbers(states + (now - 1) * apart, unit, target, itemsize, state, itemsize)
