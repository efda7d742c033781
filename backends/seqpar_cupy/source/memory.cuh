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

// N numbers as the words that memory has them in, such that nothing is done with a number before it is asked for: what takes
// a word apart right after its load waits for it.
template <class T, int N>
struct Packed {
    static constexpr int BYTES = N * sizeof(T), PER_WORD = sizeof(T) < 4 ? 4 / sizeof(T) : 1, WORDS = (BYTES + 3) / 4;
    unsigned words[WORDS];

    DEVICE T get(int i) const {
        if constexpr (sizeof(T) < 4) {
            unsigned bits = words[i / PER_WORD] >> (i % PER_WORD * 8 * sizeof(T));
            if constexpr (sizeof(T) == 1) {
                return static_cast<T>(bits);
            } else {
                return T{static_cast<unsigned short>(bits)};
            }
        } else {
            constexpr int M = sizeof(T) / 4;
            T x;
#pragma unroll
            for (int j = 0; j < M; ++j) reinterpret_cast<unsigned*>(&x)[j] = words[i * M + j];
            return x;
        }
    }

    DEVICE void set(int i, T x) {
        if constexpr (sizeof(T) < 4) {
            unsigned bits, shift = i % PER_WORD * 8 * sizeof(T);
            if constexpr (sizeof(T) == 1) {
                bits = x;
            } else {
                bits = x.bits;
            }
            unsigned mask = ((1u << 8 * sizeof(T)) - 1) << shift;
            words[i / PER_WORD] = words[i / PER_WORD] & ~mask | bits << shift;
        } else {
            constexpr int M = sizeof(T) / 4;
#pragma unroll
            for (int j = 0; j < M; ++j) words[i * M + j] = reinterpret_cast<const unsigned*>(&x)[j];
        }
    }

    // All N at once, at an address that is a multiple of their size, or of 16 bytes if they are more.
    DEVICE void load(const T* from) {
        constexpr int SIZE = BYTES > 16 ? 16 : BYTES;
        if constexpr (SIZE >= 8) {
#pragma unroll
            for (int i = 0; i < BYTES / SIZE; ++i) load_words<SIZE>(from + i * (SIZE / sizeof(T)), words + i * (SIZE / 4));
        } else if constexpr (SIZE == 4) {
            words[0] = *reinterpret_cast<const unsigned*>(from);
        } else if constexpr (SIZE == 2) {
            words[0] = *reinterpret_cast<const unsigned short*>(from);
        } else {
            words[0] = *reinterpret_cast<const unsigned char*>(from);
        }
    }

    DEVICE void store(T* to) const {
        constexpr int SIZE = BYTES > 16 ? 16 : BYTES;
        if constexpr (SIZE >= 8) {
#pragma unroll
            for (int i = 0; i < BYTES / SIZE; ++i) store_words<SIZE>(to + i * (SIZE / sizeof(T)), words + i * (SIZE / 4));
        } else if constexpr (SIZE == 4) {
            *reinterpret_cast<unsigned*>(to) = words[0];
        } else if constexpr (SIZE == 2) {
            *reinterpret_cast<unsigned short*>(to) = words[0];
        } else {
            *reinterpret_cast<unsigned char*>(to) = words[0];
        }
    }
};
