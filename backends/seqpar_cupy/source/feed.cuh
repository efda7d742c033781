// Numbers on their way from memory to the threads that need them, some blocks of steps before they are needed.
//
// What a thread reads in one step is N neighbours of 4 bytes or more, or less than that. The former is copied into a ring in
// shared memory by copies that run on their own, so that how much is under way costs no registers: 64 steps of two float
// operands are 16 KB per warp. The latter waits in registers, one block ahead. No thread reads what another one copied, so
// there is nothing to synchronise.

// N neighbours of type T per step, BLOCK steps per block, BLOCKS blocks under way; THREADS threads in a block of threads.
template <class T, int N, int BLOCK, int BLOCKS, int THREADS>
struct Ring {
    static constexpr int SIZE = N * sizeof(T);
    struct alignas(SIZE > 16 ? 16 : SIZE < 4 ? 4 : SIZE) Neighbours {
        Packed<T, N> numbers;
        DEVICE T operator[](int i) const { return numbers.get(N == 1 ? 0 : i); }
    };
    static constexpr bool ASYNC = SIZE == 4 || SIZE == 8 || SIZE == 16;
    static constexpr int BYTES = ASYNC ? BLOCKS * BLOCK * THREADS * SIZE : 0;

    const T* next;  // of the block that is fetched next
    int64 step;
    int64 left;  // steps that are still to be fetched
    unsigned char* mine;
    int slot;  // of the block that is fetched next
    int slot_taken;
    Packed<T, N> ahead[ASYNC ? 1 : BLOCK];

    // Copies for this thread go to `memory`, which has BYTES for all threads.
    DEVICE void start(const T* first, int64 step_, int64 steps, unsigned char* memory) {
        next = first;
        step = step_;
        left = steps;
        mine = memory + threadIdx.x * SIZE;
        slot = slot_taken = 0;
    }

    DEVICE unsigned char* place(int block, int i) const { return mine + (block * BLOCK + i) * (THREADS * SIZE); }

    // Start to copy a block; registers are filled by `look_ahead`.
    DEVICE void fetch() {
        if constexpr (ASYNC) {
            if (left >= BLOCK) {
#pragma unroll
                for (int i = 0; i < BLOCK; ++i) copy_async<SIZE>(place(slot, i), next + i * step);
            } else {
                for (int i = 0; i < left; ++i) copy_async<SIZE>(place(slot, i), next + i * step);
            }
            slot = slot + 1 == BLOCKS ? 0 : slot + 1;
            next += BLOCK * step;
            left -= BLOCK;
        }
    }

    DEVICE void look_ahead() {
        if constexpr (!ASYNC) {
#pragma unroll
            for (int i = 0; i < BLOCK; ++i) {
                if (i < left) ahead[i].load(next + i * step);
            }
            next += BLOCK * step;
            left -= BLOCK;
        }
    }

    // The block that was fetched first: the neighbours of BLOCK steps. Of steps beyond the last one they are anything.
    DEVICE void take(Neighbours* block) {
        if constexpr (ASYNC) {
#pragma unroll
            for (int i = 0; i < BLOCK; ++i) block[i] = *reinterpret_cast<const Neighbours*>(place(slot_taken, i));
            slot_taken = slot_taken + 1 == BLOCKS ? 0 : slot_taken + 1;
        } else {
#pragma unroll
            for (int i = 0; i < BLOCK; ++i) block[i] = Neighbours{ahead[i]};
        }
    }
};

// No operand: nothing is read, nothing is kept.
struct NoRing {
    struct Neighbours {};
    static constexpr int BYTES = 0;
    template <class... X>
    DEVICE void start(X...) {}
    DEVICE void fetch() {}
    DEVICE void look_ahead() {}
    DEVICE void take(Neighbours*) {}
};

template <bool PRESENT, class R>
struct If {
    typedef R Type;
};
template <class R>
struct If<false, R> {
    typedef NoRing Type;
};
