"""Walk a cell over all its steps: in order, or in chunks that are walked at once and then corrected, with the same bits.

Two walks of one recurrence whose carries are once equal stay equal, and most cells forget so well that walks from different
starts do meet, to the last bit, after some dozens of steps. So chunks are walked from guessed starts, all at once, and then each
again from where the one before it ended, until it meets its first walk. What is written is what one walk in order writes.

    conduct     the worker that launch.py calls for such a plan: models one after the other, or one on each thread
    modeller    takes models until none is left, and for each packs its weights and chooses the way

The automatic way: sequences that fill the tiles of all threads go in order. Else each begins beside a ghost (cell_crew.py);
where the two do not meet soon (chaos, long memory, a last bit that never settles), it goes on in order.
"""

from seqpar_host import cell_words as w
from seqpar_host.cell_crew import address_of, adopt, checkpoint_of, leave
from seqpar_host.cell_weights import pack
from seqpar_host.cell_words import ORDER_WORDS
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
    poke_short,
    put,
    quotient,
    treat_denormals,
)
from seqpar_host.routines import routine

# A ghost may take a sixteenth of all steps, but so many at least, and at most: a probe in vain costs 8 percent.
SHARE, LEAST_PROBE, MOST_PROBE = 16, 128, 4096
# Chunks shorter than a few times the steps that sequences take to meet would be walked twice for the most part.
MEETINGS = 4
# Where tiles are full without them, chunks pay only if a thread would have a sixth more to do than its share.
UNEVEN = 6
ROUNDS = 2  # of correcting all chunks at once
OUT_OF_MEMORY = 1
MODELLER_WORDS = 6  # plan, call, counter, threads of each, status


def conduct(address: int) -> int:
    """Walk all models of a call; not 0 if there was no memory for it."""
    before = keep_denormals()
    status = walk_models(number(address))
    treat_denormals(before)
    return status


def modeller(address: int) -> int:
    """Walk models of a call until none is left."""
    before = keep_denormals()
    status = take_models(number(address))
    treat_denormals(before)
    return status


@routine
def walk_models(words: int) -> int:
    plan, threads = get(words, 0), get(words, 1)
    models = get(plan, w.MODELS)
    shared, handles, started = stack(MODELLER_WORDS), stack(MOST_THREADS), 0
    beside = models > 1 and models >= threads
    put(shared, 0, plan)
    put(shared, 1, words)
    put(shared, 2, 0)
    put(shared, 3, 1 if beside else threads)
    put(shared, 4, 0)
    work = get(plan, w.MODELLER)
    if beside:
        for index in range(min(threads, models, MOST_THREADS) - 1):
            if start_thread(handles + 8 * index, work, shared) != 0:
                break
            started += 1
    call(work, shared)
    for index in range(started):
        join_thread(peek(handles + 8 * index))
    return get(shared, 4)


@routine
def take_models(shared: int) -> int:
    plan, threads = get(shared, 0), get(shared, 3)
    orders = stack(ORDER_WORDS)
    for word in range(ORDER_WORDS):
        put(orders, word, 0)
    itemsize, unit = get(plan, w.ITEMSIZE), get(plan, w.WEIGHTS_UNIT)
    row = line_of(0 if unit == itemsize else itemsize * get(plan, w.WEIGHTS))
    packed = line_of(get(plan, w.PACKED))
    memory = malloc(LINE + row + packed + threads * get(plan, w.REGION))
    if memory == 0:
        put(shared, 4, OUT_OF_MEMORY)
        return 0
    put(orders, w.PLAN, plan)
    put(orders, w.CALL, get(shared, 1))
    put(orders, w.READY_WEIGHTS, line_of(memory) + row)
    put(orders, w.REGIONS, line_of(memory) + row + packed)
    put(orders, w.THREADS, threads)
    while True:
        model = take(shared + 16, 1)
        if model >= get(plan, w.MODELS):
            break
        put(orders, w.MODEL, model)
        weights = address_of(orders, get(plan, w.SLOTS) + w.ENTRY_WEIGHTS, 0)
        if unit != itemsize:
            copy_numbers(weights, unit, line_of(memory), itemsize, get(plan, w.WEIGHTS), itemsize)
            weights = line_of(memory)
        pack(plan + 8 * get(plan, w.LAYOUT_TABLE), weights, line_of(memory) + row)
        if walk_model(orders) != 0:
            put(shared, 4, OUT_OF_MEMORY)
    free(memory)
    return 0


@routine
def walk_model(orders: int) -> int:
    """All sequences of a model."""
    plan = get(orders, w.PLAN)
    sequences, steps = get(plan, w.SEQUENCES), get(plan, w.TIME)
    put(orders, w.LEDGER, 0)
    put(orders, w.CHUNKS, 0)
    chunks, method = 1, get(plan, w.METHOD)
    if method == w.IN_CHUNKS:
        chunks = quotient(steps + get(plan, w.CHUNK) - 1, get(plan, w.CHUNK))
    if method == w.AUTO:
        chunks = chunks_for(orders, sequences, steps, w.MARK)
    if chunks <= 1:
        run(orders, w.WALK, sequences, 0, steps)
        told(orders)
        return 0
    ledger_bytes = 8 * w.LEDGER_WORDS * sequences
    memory = malloc(LINE + line_of(ledger_bytes) + sequences * get(plan, w.CARRY))
    if memory == 0:
        return OUT_OF_MEMORY
    ledger = line_of(memory)
    clear_bytes(ledger, ledger_bytes)
    put(orders, w.LEDGER, ledger)
    put(orders, w.FRONTS, ledger + line_of(ledger_bytes))
    if method == w.AUTO:
        put(orders, w.LIMIT, min(steps - 1, max(LEAST_PROBE, min(quotient(steps, SHARE), MOST_PROBE))))
        run(orders, w.PROBE, sequences, 0, LEAST_PROBE)
        met, first = 0, 0
        for sequence in range(sequences):
            entry = ledger + 8 * w.LEDGER_WORDS * sequence
            if get(entry, w.COUNT) != 0:
                met += 1
                first = max(first, get(entry, w.FIRST))
        chunks = 1
        if met > 0:
            chunks = chunks_for(orders, met, steps - first, first)
    else:
        for sequence in range(sequences):
            put(ledger + 8 * w.LEDGER_WORDS * sequence, w.COUNT, 1)
    longest = cut(orders, chunks)
    status = 0
    if chunks <= 1:
        run(orders, w.WALK, sequences, 0, steps)
    else:
        status = shoot(orders, chunks, longest)
    told(orders)
    free(memory)
    return status


@routine
def chunks_for(orders: int, sequences: int, steps: int, meeting: int) -> int:
    """Chunks of each sequence with which every thread has enough rows; 1 if sequences alone are enough."""
    threads = get(orders, w.THREADS)
    most = quotient(sequences + threads - 1, threads)
    if most >= get(get(orders, w.PLAN), w.FULL) and UNEVEN * most * threads <= (UNEVEN + 1) * sequences:
        return 1
    places, rest = get(get(orders, w.PLAN), w.EACH) * threads, sequences
    common = places
    while rest != 0:
        common, rest = rest, common - quotient(common, rest) * rest
    return min(quotient(places, common), quotient(steps, MEETINGS * max(w.MARK, meeting)))


@routine
def cut(orders: int, chunks: int) -> int:
    """Write the chunks of every sequence into the ledger; the steps of the longest one."""
    plan, longest = get(orders, w.PLAN), 0
    for sequence in range(get(plan, w.SEQUENCES)):
        entry = get(orders, w.LEDGER) + 8 * w.LEDGER_WORDS * sequence
        rest = get(plan, w.TIME) - get(entry, w.FIRST)
        length = get(plan, w.CHUNK)
        if get(plan, w.METHOD) == w.AUTO:
            length = (quotient(rest + chunks - 1, max(1, chunks)) + w.MARK - 1) & -w.MARK
        put(entry, w.LENGTH, length)
        put(entry, w.SWEEPS, 1)
        if chunks <= 1 or get(entry, w.COUNT) == 0:
            put(entry, w.COUNT, 0)
        else:
            put(entry, w.COUNT, quotient(rest + length - 1, length))
            longest = max(longest, length)
    return longest


@routine
def shoot(orders: int, chunks: int, longest: int) -> int:
    """Walk all chunks at once, and correct them until each starts where the one before it ends."""
    plan, ledger = get(orders, w.PLAN), get(orders, w.LEDGER)
    sequences, size = get(plan, w.SEQUENCES), get(plan, w.CARRY)
    marks = quotient(longest + w.MARK - 1, w.MARK)
    starts = sequences * chunks * size
    memory = malloc(LINE + starts + starts * marks + 8 * sequences * (chunks + 1))
    if memory == 0:
        return OUT_OF_MEMORY
    codes = line_of(memory) + starts + starts * marks
    put(orders, w.CHUNKS, chunks)
    put(orders, w.MARKS, marks)
    put(orders, w.STARTS, line_of(memory))
    put(orders, w.CHECKPOINTS, line_of(memory) + starts)
    items = 0
    # What goes in one takes longest, so it begins first.
    for sequence in range(sequences):
        if get(ledger + 8 * w.LEDGER_WORDS * sequence, w.COUNT) == 0:
            put(codes, items, sequence * (chunks + 1))
            items += 1
    for sequence in range(sequences):
        for chunk in range(get(ledger + 8 * w.LEDGER_WORDS * sequence, w.COUNT)):
            put(codes, items, sequence * (chunks + 1) + 1 + chunk)
            items += 1
    run(orders, w.SWEEP, items, codes, longest)
    for turn in range(ROUNDS + 1):
        items = 0
        for sequence in range(sequences):
            entry, wrong = ledger + 8 * w.LEDGER_WORDS * sequence, 0
            for chunk in range(1, get(entry, w.COUNT)):
                # In the end, only the first wrong one of each sequence: those after it depend on how it goes on.
                if (turn < ROUNDS or wrong == 0) and adopt(orders, sequence, chunk):
                    put(codes, items + wrong, sequence * (chunks + 1) + 1 + chunk)
                    wrong += 1
            items += wrong
            if wrong > 0 or (turn == 0 and get(entry, w.COUNT) > 1):
                put(entry, w.SWEEPS, turn + 2)
        if items == 0:
            break
        kind, expected = w.CORRECT, 8 * w.MARK
        if turn == ROUNDS:
            kind, expected = w.IN_TURN, longest
        run(orders, kind, items, codes, expected)
    for sequence in range(sequences):
        count = get(ledger + 8 * w.LEDGER_WORDS * sequence, w.COUNT)
        if count > 0:
            leave(orders, sequence, checkpoint_of(orders, sequence, count - 1, get(plan, w.TIME)))
    free(memory)
    return 0


@routine
def told(orders: int) -> None:
    """Write the number of sweeps of every sequence, where the call wants it."""
    plan, ledger = get(orders, w.PLAN), get(orders, w.LEDGER)
    if get(plan, w.BACKWARD) != 0:
        return
    for sequence in range(get(plan, w.SEQUENCES)):
        sweeps = 1
        if ledger != 0:
            sweeps = get(ledger + 8 * w.LEDGER_WORDS * sequence, w.SWEEPS)
        poke_short(address_of(orders, get(plan, w.SLOTS) + w.ENTRY_LAST, sequence), sweeps)


@routine
def run(orders: int, kind: int, items: int, codes: int, steps: int) -> None:
    """One phase, of items that take so many steps each, on as many threads as that is worth."""
    plan, handles, started = get(orders, w.PLAN), stack(MOST_THREADS), 0
    work, worth = items * max(1, steps) * get(plan, w.NANOSECONDS), get(plan, w.WORTH)
    threads = max(1, min(quotient(work, worth), items, get(orders, w.THREADS), MOST_THREADS))
    # They start one after the other, an eighth of their worth each: k of them take k / 8 + work / k.
    while threads > 1 and threads * threads * worth > 8 * work:
        threads -= 1
    put(orders, w.KIND, kind)
    put(orders, w.COUNTER, 0)
    put(orders, w.ITEMS, items)
    put(orders, w.LIST, codes)
    put(orders, w.ABREAST, max(1, min(get(plan, w.TALLEST), quotient(items + threads - 1, threads))))
    put(orders, w.CREWS, 0)
    for index in range(threads - 1):
        if start_thread(handles + 8 * index, get(plan, w.CREW), orders) != 0:
            break
        started += 1
    call(get(plan, w.CREW), orders)
    for index in range(started):
        join_thread(peek(handles + 8 * index))
