"""The cheapest way to cut sorted lengths into buckets, exactly, in time proportional to buckets times distinct lengths.

Group j of D holds `count[j]` sequences, and each of them costs `price[j]` in a bucket that ends there; prices rise strictly.
With C[j] the number of sequences before group j, F_q(j) the least cost of the groups up to j in q buckets is

    F_q(j) = min over i <= j of  F_{q-1}(i-1) + price[j] * (C[j+1] - C[i])

where i is the first group of the last bucket. For fixed i that is a line in price[j], of slope -C[i] and height
F_{q-1}(i-1): the slopes come in falling order and the questions in rising order, so the lower envelope of the lines is a
queue, of which lines leave at the front when they will never be lowest again.

Plain loops over NumPy arrays: Python runs them as they are, and compilers of such loops make a few nanoseconds of each turn.
"""

from typing import Any

Array = Any


def cheapest_cuts(price: Array, before: Array, curve: Array, first: Array, best: Array, queue: Array) -> None:
    """Fill `curve[q-1]` with the least cost of q buckets, and `first[q-1][j]` with the first group of the last bucket.

    price: (D,) rising. before: (D + 1,) sequences before each group. curve: (Q,), first: (Q, D), Q <= D.
    best: (2, D) and queue: (D,) are memory to work in.
    """
    groups, buckets = len(price), len(curve)
    old, new, start = best[0], best[1], first[0]
    for j in range(groups):
        new[j] = price[j] * before[j + 1]
        start[j] = 0
    curve[0] = new[groups - 1]
    for q in range(1, buckets):
        old, new, start = new, old, first[q]
        front, back = 0, 0
        for j in range(q, groups):
            height = old[j - 1]
            # The last line goes when the new one undercuts it no later than it undercuts the line before it.
            while back - front >= 2:
                low, middle = queue[back - 2], queue[back - 1]
                rise = old[middle - 1] - old[low - 1]
                if (height - old[low - 1]) * (before[middle] - before[low]) > rise * (
                    before[j] - before[low]
                ):
                    break
                back -= 1
            queue[back] = j
            back += 1
            p = price[j]
            while back - front >= 2:
                one, two = queue[front], queue[front + 1]
                if old[two - 1] - p * before[two] > old[one - 1] - p * before[one]:
                    break
                front += 1
            i = queue[front]
            new[j] = old[i - 1] + p * (before[j + 1] - before[i])
            start[j] = i
        curve[q] = new[groups - 1]


def cheapest_number(
    price: Array, before: Array, extra: float, best: Array, first: Array, queue: Array
) -> None:
    """The same for a free number of buckets, each of which costs `extra`: fill `first[j]`, the first group of the last one.

    best: (D + 1,) ends as the least cost of the groups before each; first: (D,), queue: (D,).
    """
    groups = len(price)
    best[0] = 0.0
    front, back = 0, 0
    for j in range(groups):
        height = best[j]
        while back - front >= 2:
            low, middle = queue[back - 2], queue[back - 1]
            rise = best[middle] - best[low]
            if (height - best[low]) * (before[middle] - before[low]) > rise * (before[j] - before[low]):
                break
            back -= 1
        queue[back] = j
        back += 1
        p = price[j]
        while back - front >= 2:
            one, two = queue[front], queue[front + 1]
            if best[two] - p * before[two] > best[one] - p * before[one]:
                break
            front += 1
        i = queue[front]
        best[j + 1] = best[i] + p * (before[j + 1] - before[i]) + extra
        first[j] = i


def bucket_ends(first: Array, buckets: int) -> list[int]:
    """The last group of each of so many buckets, from the table of `cheapest_cuts`."""
    ends, j = [], first.shape[1] - 1
    for q in range(buckets - 1, -1, -1):
        ends.append(j)
        j = int(first[q, j]) - 1
    return ends[::-1]


def free_bucket_ends(first: Array) -> list[int]:
    """The last group of each bucket, from what `cheapest_number` filled."""
    ends, j = [], len(first) - 1
    while j >= 0:
        ends.append(j)
        j = int(first[j]) - 1
    return ends[::-1]
