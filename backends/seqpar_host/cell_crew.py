"""A crew of rows on one thread: takes sequences or chunks of them, walks up to four at once, and looks at each at its marks.

`crew` is what every thread of a phase runs (cell_conductor.py starts them). Rows that are done make room for others, so tiles
stay as full as the work allows; which rows walk together, and on which thread, changes no bit. Kinds of phases:

    WALK      whole sequences, or what is left of them
    PROBE     the beginning of a sequence beside a *ghost*, a copy that starts elsewhere, until their carries are equal
    SWEEP     chunks, from guessed starts; their carries are kept at every mark
    CORRECT   chunks, each from the end of the one before it, until the carry is what it was at the same mark
    IN_TURN   the same, chunk after chunk of one sequence, until every chunk starts where the one before it ends

Carries are equal if their bits are: from there on both walks are the same, so what the first one wrote is exact.
"""

from seqpar_host import cell_words as w
from seqpar_host.cell_job import PER_SLOT, SCRATCH, SLOT_WORDS, STEPS, WEIGHTS
from seqpar_host.job import number
from seqpar_host.launch import call, fence, take
from seqpar_host.memory import (
    clear_bytes,
    compare_bytes,
    copy_bytes,
    copy_numbers,
    get,
    keep_denormals,
    peek_number,
    poke_number,
    put,
    quotient,
    treat_denormals,
)
from seqpar_host.routines import routine


def crew(address: int) -> int:
    """Do items of a phase until none is left."""
    before = keep_denormals()
    status = take_items(number(address))
    treat_denormals(before)
    return status


@routine
def take_items(orders: int) -> int:
    plan = get(orders, w.PLAN)
    region = get(orders, w.REGIONS) + take(orders + 8 * w.CREWS, 1) * get(plan, w.REGION)
    rows = region + get(plan, w.AT_ROWS)
    image = plan + 8 * get(plan, w.JOB_TABLE)
    for word in range(get(plan, w.JOB_HEADER)):
        put(region, word, get(image, word))
    put(region, WEIGHTS, get(orders, w.READY_WEIGHTS))
    put(region, SCRATCH, region + get(plan, w.AT_SCRATCH))
    for index in range(w.HEIGHT):
        row = rows + 8 * w.ROW_WORDS * index
        put(row, w.ROW_CARRY, region + get(plan, w.AT_CARRIES) + index * get(plan, w.CARRY))
        put(row, w.ROW_PAST, region + get(plan, w.AT_PASTS) + index * get(plan, w.PAST))
    if get(orders, w.KIND) == w.PROBE:
        probe(orders, region, rows)
    else:
        work(orders, region, rows)
    # Stores that went past the caches are ordered by nothing else.
    fence()
    return 0


@routine
def work(orders: int, job: int, rows: int) -> None:
    """Keep the crew complete, and see to every row at its marks."""
    items, abreast = get(orders, w.ITEMS), get(orders, w.ABREAST)
    codes, count, more = get(orders, w.LIST), 0, True
    while True:
        while more and count < abreast:
            item = take(orders + 8 * w.COUNTER, 1)
            if item < items:
                begin(orders, rows + 8 * w.ROW_WORDS * count, get(codes, item) if codes != 0 else item)
                count += 1
            else:
                more = False
        if count == 0:
            return
        advance(orders, job, rows, count)
        index = 0
        while index < count:
            row = rows + 8 * w.ROW_WORDS * index
            if get(row, w.AT) == get(row, w.NEXT) and settle(orders, row):
                count -= 1
                swap(row, rows + 8 * w.ROW_WORDS * count)
            else:
                index += 1


@routine
def begin(orders: int, row: int, code: int) -> None:
    """Put a row to the beginning of a chunk (or of what is left of a sequence), with the carry that enters there."""
    plan, chunks, ledger = get(orders, w.PLAN), get(orders, w.CHUNKS), get(orders, w.LEDGER)
    sequence = quotient(code, chunks + 1)
    chunk = code - sequence * (chunks + 1) - 1
    first, end = 0, get(plan, w.TIME)
    if ledger != 0:
        entry = ledger + 8 * w.LEDGER_WORDS * sequence
        first = get(entry, w.FIRST)
        if chunk >= 0:
            first += chunk * get(entry, w.LENGTH)
            end = min(end, first + get(entry, w.LENGTH))
    put(row, w.SEQUENCE, sequence)
    put(row, w.NUMBER, chunk)
    put(row, w.AT, first)
    put(row, w.NEXT, end if chunk < 0 else min(end, first + w.MARK))
    put(row, w.END, end)
    for slot in range(get(plan, w.SLOTS)):
        put(row, w.ROW_SLOTS + slot, address_of(orders, slot, sequence))
    carry, size = get(row, w.ROW_CARRY), get(plan, w.CARRY)
    if chunk > 0:
        start = start_of(orders, sequence, chunk)
        if get(orders, w.KIND) == w.SWEEP:
            clear_bytes(start, size)
        copy_bytes(start, carry, size)
    elif first > 0:
        copy_bytes(get(orders, w.FRONTS) + sequence * size, carry, size)
    else:
        clear_bytes(carry, size)
        if get(plan, w.BACKWARD) == 0:
            source = address_of(orders, get(plan, w.SLOTS) + w.ENTRY_H0, sequence)
            spread(plan, source, get(plan, w.H0_UNIT), carry)


@routine
def advance(orders: int, job: int, rows: int, count: int) -> None:
    """Walk all rows, as far as the closest mark of one."""
    plan = get(orders, w.PLAN)
    slots, backward, last = get(plan, w.SLOTS), get(plan, w.BACKWARD), get(plan, w.TIME) - 1
    steps = get(rows, w.NEXT) - get(rows, w.AT)
    for index in range(count):
        row = rows + 8 * w.ROW_WORDS * index
        at = get(row, w.AT)
        steps = min(steps, get(row, w.NEXT) - at)
        if backward != 0 and at < last:
            # Before the first step lies h0, elsewhere in memory: that step is a walk of its own.
            steps = min(steps, last - at)
    if steps == 0:
        return
    put(job, STEPS, steps)
    done = 0
    while done < count:
        tile, height = w.TILE_1, 1
        if count - done >= 4:
            tile, height = w.TILE_4, 4
        elif count - done >= 2:
            tile, height = w.TILE_2, 2
        for index in range(height):
            row = rows + 8 * w.ROW_WORDS * (done + index)
            target = job + 8 * (get(plan, w.JOB_HEADER) + index * get(plan, w.JOB_ROW))
            at = get(row, w.AT)
            put(target, 0, get(row, w.ROW_CARRY))
            for slot in range(slots):
                step = get(job, SLOT_WORDS + PER_SLOT * slot)
                put(target, 1 + slot, get(row, w.ROW_SLOTS + slot) + at * step)
            if backward != 0 and at == last:
                put(target, 1 + get(plan, w.BEFORE), remember(orders, row))
            put(row, w.AT, at + steps)
        call(get(plan, tile), job)
        done += height


@routine
def remember(orders: int, row: int) -> int:
    """The address of the start of a row's sequence, copied so that it lies as the states do that enter the other steps."""
    plan = get(orders, w.PLAN)
    past, itemsize = get(row, w.ROW_PAST) + get(plan, w.PAST_SHIFT), get(plan, w.ITEMSIZE)
    source = address_of(orders, get(plan, w.SLOTS) + w.ENTRY_H0, get(row, w.SEQUENCE))
    unit = get(plan, w.BEFORE_UNIT)
    copy_numbers(source, get(plan, w.H0_UNIT), past, unit, get(plan, w.STATE), itemsize)
    return past


@routine
def settle(orders: int, row: int) -> bool:
    """See to a row at its mark; whether it is done."""
    plan, kind = get(orders, w.PLAN), get(orders, w.KIND)
    sequence, chunk, carry = get(row, w.SEQUENCE), get(row, w.NUMBER), get(row, w.ROW_CARRY)
    if chunk < 0:
        leave(orders, sequence, carry)
        return True
    size, at = get(plan, w.CARRY), get(row, w.AT)
    kept = checkpoint_of(orders, sequence, chunk, at)
    equal = kind != w.SWEEP and compare_bytes(carry, kept, size) == 0
    if not equal:
        copy_bytes(carry, kept, size)
        if at < get(row, w.END):
            put(row, w.NEXT, min(get(row, w.END), at + w.MARK))
            return False
    if kind == w.IN_TURN:
        entry = get(orders, w.LEDGER) + 8 * w.LEDGER_WORDS * sequence
        for later in range(chunk + 1, get(entry, w.COUNT)):
            if adopt(orders, sequence, later):
                begin(orders, row, sequence * (get(orders, w.CHUNKS) + 1) + 1 + later)
                return False
    return True


@routine
def adopt(orders: int, sequence: int, chunk: int) -> bool:
    """Let a chunk start where the one before it ended; whether it had started elsewhere."""
    size = get(get(orders, w.PLAN), w.CARRY)
    entry = get(orders, w.LEDGER) + 8 * w.LEDGER_WORDS * sequence
    before = get(entry, w.FIRST) + chunk * get(entry, w.LENGTH)
    end, start = checkpoint_of(orders, sequence, chunk - 1, before), start_of(orders, sequence, chunk)
    if compare_bytes(end, start, size) == 0:
        return False
    copy_bytes(end, start, size)
    return True


@routine
def probe(orders: int, job: int, rows: int) -> None:
    """Walk each sequence beside a ghost, and write down where they met, if they did before the limit."""
    plan, ghost = get(orders, w.PLAN), rows + 8 * w.ROW_WORDS
    size, limit, slots = get(plan, w.CARRY), get(orders, w.LIMIT), get(plan, w.SLOTS)
    while True:
        sequence = take(orders + 8 * w.COUNTER, 1)
        if sequence >= get(orders, w.ITEMS):
            return
        begin(orders, rows, sequence)
        begin(orders, ghost, sequence)
        haunt(orders, sequence, get(ghost, w.ROW_CARRY))
        at, met = 0, False
        while at < limit and not met:
            for slot in range(slots):
                place = get(entry_of(plan, slot), w.GHOST)
                if place >= 0:
                    step = get(job, SLOT_WORDS + PER_SLOT * slot)
                    put(ghost, w.ROW_SLOTS + slot, job + get(plan, w.AT_GHOST) + place - at * step)
            at = min(at + w.MARK, limit)
            put(rows, w.NEXT, at)
            put(ghost, w.NEXT, at)
            advance(orders, job, rows, 2)
            met = compare_bytes(get(rows, w.ROW_CARRY), get(ghost, w.ROW_CARRY), size) == 0
        entry = get(orders, w.LEDGER) + 8 * w.LEDGER_WORDS * sequence
        put(entry, w.FIRST, at)
        put(entry, w.COUNT, 1 if met else 0)
        copy_bytes(get(rows, w.ROW_CARRY), get(orders, w.FRONTS) + sequence * size, size)


@routine
def haunt(orders: int, sequence: int, carry: int) -> None:
    """The start of a ghost: the largest number of the seed, with the opposite sign of each; ones if it is 0 or not finite."""
    plan = get(orders, w.PLAN)
    itemsize, unit = get(plan, w.ITEMSIZE), get(plan, w.SEED_UNIT)
    source = address_of(orders, get(plan, w.SLOTS) + w.ENTRY_SEED, sequence)
    # Sizes of numbers are in the order of their bits.
    bits, endless, one = 31, 0x7F800000, 0x3F800000
    if itemsize == 8:
        bits, endless, one = 63, 0x7FF << 52, 0x3FF << 52
    sign = 1 << bits
    largest = 0
    for index in range(get(plan, w.STATE)):
        largest = max(largest, peek_number(source + index * unit, itemsize) & ~sign)
    if largest == 0 or largest >= endless:
        largest = one
    table = plan + 8 * get(plan, w.PART_TABLE)
    for part in range(get(plan, w.PARTS)):
        for index in range(get(table, 2 * part)):
            given = peek_number(source + index * unit, itemsize)
            poke_number(carry + index * itemsize, largest | (~given & sign), itemsize)
        source += get(table, 2 * part) * unit
        carry += get(table, 2 * part + 1) * itemsize


@routine
def leave(orders: int, sequence: int, carry: int) -> None:
    """Write what is left when a sequence is walked: backward the gradient of its start."""
    plan = get(orders, w.PLAN)
    target = address_of(orders, get(plan, w.SLOTS) + w.ENTRY_LAST, sequence)
    if get(plan, w.BACKWARD) == 0 or target == 0:
        return
    table, itemsize, unit = plan + 8 * get(plan, w.PART_TABLE), get(plan, w.ITEMSIZE), get(plan, w.LAST_UNIT)
    for part in range(get(plan, w.PARTS)):
        copy_numbers(carry, itemsize, target, unit, get(table, 2 * part), itemsize)
        target += get(table, 2 * part) * unit
        carry += get(table, 2 * part + 1) * itemsize


@routine
def spread(plan: int, source: int, unit: int, carry: int) -> None:
    """A state from memory into a carry, whose parts have zeros behind them."""
    table, itemsize = plan + 8 * get(plan, w.PART_TABLE), get(plan, w.ITEMSIZE)
    for part in range(get(plan, w.PARTS)):
        copy_numbers(source, unit, carry, itemsize, get(table, 2 * part), itemsize)
        source += get(table, 2 * part) * unit
        carry += get(table, 2 * part + 1) * itemsize


@routine
def swap(row: int, other: int) -> None:
    for word in range(w.ROW_WORDS):
        kept = get(row, word)
        put(row, word, get(other, word))
        put(other, word, kept)


@routine
def start_of(orders: int, sequence: int, chunk: int) -> int:
    """Where the carry is kept that a chunk was last walked from."""
    index = sequence * get(orders, w.CHUNKS) + chunk
    return get(orders, w.STARTS) + index * get(get(orders, w.PLAN), w.CARRY)


@routine
def checkpoint_of(orders: int, sequence: int, chunk: int, at: int) -> int:
    """Where the carry of a chunk at a position is kept: a mark, or its end."""
    entry = get(orders, w.LEDGER) + 8 * w.LEDGER_WORDS * sequence
    walked = at - get(entry, w.FIRST) - chunk * get(entry, w.LENGTH)
    index = (sequence * get(orders, w.CHUNKS) + chunk) * get(orders, w.MARKS)
    index += quotient(walked + w.MARK - 1, w.MARK) - 1
    return get(orders, w.CHECKPOINTS) + index * get(get(orders, w.PLAN), w.CARRY)


@routine
def entry_of(plan: int, which: int) -> int:
    words = w.STRIDES + get(plan, w.MODEL_DIMS) + get(plan, w.SEQUENCE_DIMS)
    return plan + 8 * (get(plan, w.ENTRY_TABLE) + which * words)


@routine
def address_of(orders: int, which: int, sequence: int) -> int:
    """The memory of an entry of the plan, at the first step of a sequence; 0 where it is absent."""
    plan = get(orders, w.PLAN)
    entry, sizes = entry_of(plan, which), plan + 8 * get(plan, w.SIZE_TABLE)
    if get(entry, w.POINTER) < 0:
        return 0
    address = get(get(orders, w.CALL), 2 + get(entry, w.POINTER)) + get(entry, w.OFFSET)
    dims, models = get(plan, w.MODEL_DIMS) + get(plan, w.SEQUENCE_DIMS), get(plan, w.MODEL_DIMS)
    rest = sequence
    for index in range(dims):
        dim = dims - 1 - index
        if dim == models - 1:
            rest = get(orders, w.MODEL)
        size = get(sizes, dim)
        whole = quotient(rest, size)
        address += (rest - whole * size) * get(entry, w.STRIDES + dim)
        rest = whole
    return address
