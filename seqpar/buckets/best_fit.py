"""Best-fit decreasing: which sequence goes into which row of a packed batch.

The longest first, each into the fullest row that still holds it; at most 11/9 of the fewest rows, plus 6/9 (Dosa 2007), and close
to the fewest for many sequences shorter than half a row. `best_fit` serves `pack_batch`; `rows_needed` counts rows from a
histogram, for `BucketPlan.bucket_or_pack`.
"""

from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> tuple[list[int], list[int], int]:
    """Row and first step of each sequence, and how many rows there are; none is longer than the capacity.

    O(n log n) for n sequences, and for equal lengths in their order: the same lengths are always packed the same way.
    """
    rows, starts = [0] * len(lengths), [0] * len(lengths)
    free = _Free(capacity)
    with_room: dict[int, list[int]] = {}
    count = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        steps = lengths[i]
        if steps == 0:
            break  # it takes no place: at the start of the first row, where nothing moves for it
        room = free.least(steps)
        if room is None:
            row, room, count = count, capacity, count + 1
        else:
            row = with_room[room].pop()
            if not with_room[room]:
                free.discard(room)
        rows[i], starts[i] = row, capacity - room
        left = room - steps
        if left:
            with_room.setdefault(left, []).append(row)
            free.add(left)
    return rows, starts, max(count, 1)


def rows_needed(lengths: Sequence[int], counts: Sequence[int], capacity: int) -> int:
    """How many rows `best_fit` makes of so many sequences of each length: exact, and quick for millions of them."""
    free = _Free(capacity)
    with_room: dict[int, int] = {}
    rows = 0

    def leave(room: int, many: int) -> None:
        if room and many:
            with_room[room] = with_room.get(room, 0) + many
            free.add(room)

    for steps, many in sorted(zip(lengths, counts, strict=True), reverse=True):
        # A row that takes one becomes the fullest that holds another: it takes as many as go in.
        while steps and many:
            room = free.least(steps)
            if room is None:
                room, available = capacity, -(-many // (capacity // steps))
                rows += available
            else:
                available = with_room.pop(room)
                free.discard(room)
            each = room // steps
            whole = min(available, many // each)
            leave(room - each * steps, whole)
            many -= whole * each
            if whole < available and many:
                leave(room - many * steps, 1)
                whole, many = whole + 1, 0
            leave(room, available - whole)
    return rows


class _Free:
    """A set of numbers up to a capacity that finds its least member of at least n: a binary tree of "somewhere below here"."""

    def __init__(self, capacity: int) -> None:
        self.half = 1 << capacity.bit_length()
        self.there = bytearray(2 * self.half)

    def add(self, n: int) -> None:
        n += self.half
        while n and not self.there[n]:
            self.there[n] = 1
            n >>= 1

    def discard(self, n: int) -> None:
        n += self.half
        self.there[n] = 0
        while n > 1 and not self.there[n ^ 1]:
            n >>= 1
            self.there[n] = 0

    def least(self, n: int) -> int | None:
        n += self.half
        while not self.there[n]:
            # Up until there is something to the right, then down to the leftmost of it.
            while n & 1 or not self.there[n + 1]:
                n >>= 1
                if n <= 1:
                    return None
            n += 1
            while n < self.half:
                n = 2 * n if self.there[2 * n] else 2 * n + 1
        return n - self.half
