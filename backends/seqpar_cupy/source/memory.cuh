// Operands in memory: where the sequences start, vectors of neighbours, numbers on their way into registers.

// An operand over time and three axes beside it. Steps and strides count elements; an absent operand is at 0.
struct Slot {
    const void* at;
    int64 step, outer, middle, inner;

    DEVICE explicit operator bool() const { return at != nullptr; }
};

// Where a sequence, numbered over all axes beside time, has its first step.
template <class T>
DEVICE T* start_of(const Slot& slot, int64 sequence, int64 middle, int64 inner) {
    int64 rows = sequence / inner, offset = (sequence - rows * inner) * slot.inner;
    if (middle != 1 || slot.outer != 0) {
        int64 outer = rows / middle;
        offset += (rows - outer * middle) * slot.middle + outer * slot.outer;
    }
    return static_cast<T*>(const_cast<void*>(slot.at)) + offset;
}

template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
    T values[N];
};

// N neighbours at once, from an address that is a multiple of their size (of 16 bytes, if they are more).
template <int N, class T>
DEVICE void load(const T* from, T* to) {
    constexpr int M = N * sizeof(T) > 16 ? 16 / static_cast<int>(sizeof(T)) : N;
#pragma unroll
    for (int i = 0; i < N; i += M) {
        Vector<T, M> some = *reinterpret_cast<const Vector<T, M>*>(from + i);
#pragma unroll
        for (int j = 0; j < M; ++j) to[i + j] = some.values[j];
    }
}
template <int N, class T>
DEVICE void store(T* to, const T* from) {
    constexpr int M = N * sizeof(T) > 16 ? 16 / static_cast<int>(sizeof(T)) : N;
#pragma unroll
    for (int i = 0; i < N; i += M) {
        Vector<T, M> some;
#pragma unroll
        for (int j = 0; j < M; ++j) some.values[j] = from[i + j];
        *reinterpret_cast<Vector<T, M>*>(to + i) = some;
    }
}
