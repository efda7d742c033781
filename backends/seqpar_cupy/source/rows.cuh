// The linear recurrence with time contiguous: a warp per sequence, each lane with ITEMS steps after those of the lane before.
//
// Every lane finds what its steps do to a state, a scan over the lanes what all steps before them do, and then every lane
// walks its own steps as the definition says. The next tile is on its way while one is worked on. Segments as in walk.cuh.
//
// Options as in walk.cuh, with ITEMS in place of V and BLOCK; DESCENDING: the walk goes down in memory; WIDE: addresses and
// strides allow vectors of ITEMS; A_WIDE...: and the operand's steps are neighbours.

// Elements from the first step to step p. Known to be p, or -p, where vectors are loaded: then few registers hold addresses.
template <class O, bool WIDE>
DEVICE int64 offset_of(int64 p, int64 step) {
    return !WIDE ? p * step : O::DESCENDING ? -p : p;
}

// ITEMS numbers of steps from p on; those beyond the first or last step are anything, and are not written.
template <class O, bool WIDE, class T>
struct Tile {
    static constexpr int N = O::ITEMS;
    Packed<T, N> numbers;  // in the order of memory

    static DEVICE int place(int i) { return O::DESCENDING ? N - 1 - i : i; }
    DEVICE T operator[](int i) const { return numbers.get(place(i)); }
    DEVICE void set(int i, T x) { numbers.set(place(i), x); }

    DEVICE void load(const T* at, int64 step, int64 p, int64 steps) {
        if (WIDE && p >= 0 && p + N <= steps) return numbers.load(at + (O::DESCENDING ? -(p + N - 1) : p));
        numbers = {};
#pragma unroll
        for (int i = 0; i < N; ++i) {
            if (p + i >= 0 && p + i < steps) set(i, at[offset_of<O, WIDE>(p + i, step)]);
        }
    }

    DEVICE void store(T* at, int64 step, int64 p, int64 steps) const {
        if (WIDE && p >= 0 && p + N <= steps) return numbers.store(at + (O::DESCENDING ? -(p + N - 1) : p));
#pragma unroll
        for (int i = 0; i < N; ++i) {
            if (p + i >= 0 && p + i < steps) at[offset_of<O, WIDE>(p + i, step)] = (*this)[i];
        }
    }
};

// What one operand has for this lane: a tile that is on its way.
template <class O, class T, bool WIDE>
struct Items {
    const T* at;
    int64 step;
    Tile<O, WIDE, T> ahead;

    DEVICE void start(const Slot& slot, int64 row, int64 middle, int64 inner) {
        at = start_of<T>(slot, row, middle, inner);
        step = slot.step;
    }
    DEVICE void look_ahead(int64 p, int64 steps) { ahead.load(at, step, p, steps); }
};

// The steps of a lane in one tile.
template <class O>
struct LaneSteps {
    typedef typename O::K K;
    static constexpr int N = O::ITEMS;
    K c[N], u[N];
    unsigned inside, resets;  // bit by bit

    template <class A, class B, class R>
    DEVICE LaneSteps(const A& a, const B& b, const R& mask, int64 p, int64 steps) {
        inside = resets = 0;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            inside |= static_cast<unsigned>(p + i >= 0 && p + i < steps) << i;
            if constexpr (O::RESETS) resets |= static_cast<unsigned>(mask[i] != 0) << i;
            Gate<O::GATE, K, typename O::S> gate(to<typename O::S>(a[i]));
            c[i] = gate.c;
            u[i] = to<K>(b[i]);
            if constexpr (O::CONVEX && !O::ADJOINT) u[i] = gate.rest * u[i];
        }
        if constexpr (O::RESETS) resets &= inside;
    }

    DEVICE bool has(int i) const { return inside >> i & 1; }
    DEVICE bool reset(int i) const { return O::RESETS && (resets >> i & 1); }

    // One step of the definition: the state behind it; h is what is written.
    DEVICE K after(int i, K k, K& h) const {
        if constexpr (O::ADJOINT) {
            h = u[i] + k;
            return reset(i) ? to<K>(0.0) : c[i] * h;
        } else {
            h = reset(i) ? u[i] : c[i] * k + u[i];
            return h;
        }
    }

    typedef Crossing<K, is_double<typename O::S>> One;
    static constexpr bool EXPONENTS = O::RESETS || is_double<typename O::S>;

    // What all steps of the tile up to this lane's last do.
    DEVICE One up_to_here() const {
        One mine = One::nothing();
        K h;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            if (has(i)) {
                mine.r = after(i, mine.r, h);
                mine.grow(c[i]);
                if (reset(i)) mine.drop();
            }
            mine.settle(i);
        }
        static_assert(N % UNCLAMPED == 0 || N < UNCLAMPED, "the last step clamps, or there are few");
        int lane = lane_number();
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
            One other = mine.template from<EXPONENTS>(lane - d & 31);
            if (lane >= d) mine = mine.after(other);
        }
        return mine;
    }

    // The state that enters this lane's steps, of the one that enters the tile.
    static DEVICE K entering(const One& up_to_here, K k) {
        One before = up_to_here.template from<EXPONENTS>(lane_number() - 1 & 31);
        return lane_number() == 0 ? k : before.of(k);
    }
};

template <class O, bool REDUCE>
DEVICE void rows(const WalkWords& w) {
    typedef typename O::B B;
    typedef typename O::S S;
    typedef typename O::K K;
    constexpr int N = O::ITEMS, TILE = 32 * N;
    int64 row = static_cast<int64>(blockIdx.x) * (O::THREADS / 32) + threadIdx.x / 32;
    if (row >= w.sequences) return;
    int lane = lane_number();
    // Positions count from a multiple of ITEMS before the first step, such that vectors start at multiples in memory.
    int64 segment = blockIdx.y, q = segment * w.length, last = w.steps + w.padding;
    int64 end = q + w.length < last ? q + w.length : last;

    Items<O, typename O::A, O::A_WIDE> a;
    Items<O, B, O::B_WIDE> b;
    Items<O, unsigned char, O::RESETS_WIDE> resets;
    a.start(w.a, row, w.middle, w.inner), b.start(w.b, row, w.middle, w.inner);
    if constexpr (O::RESETS) resets.start(w.resets, row, w.middle, w.inner);
    int64 p = q + lane * N - w.padding;
    a.look_ahead(p, w.steps), b.look_ahead(p, w.steps);
    if constexpr (O::RESETS) resets.look_ahead(p, w.steps);

    Crossings<O> crossings(w);
    typename Crossings<O>::One so_far = Crossings<O>::One::nothing();
    K k = to<K>(0.0);
    B* h = nullptr;
    if constexpr (!REDUCE) {
        if (w.h0) k = to<K>(*start_of<S>(w.h0, row, w.middle, w.inner));
        k = crossings.entering(segment, row, k);
        h = start_of<B>(w.h, row, w.middle, w.inner);
    }

    for (; q < end; q += TILE, p += TILE) {
        LaneSteps<O> steps(a.ahead, b.ahead, resets.ahead, p, w.steps);
        if (q + TILE < end) {
            a.look_ahead(p + TILE, w.steps), b.look_ahead(p + TILE, w.steps);
            if constexpr (O::RESETS) resets.look_ahead(p + TILE, w.steps);
        }
        auto up_to_here = steps.up_to_here();
        if constexpr (REDUCE) {
            so_far = up_to_here.after(so_far);
        } else {
            K state = steps.entering(up_to_here, k), out;
            Tile<O, O::WIDE, B> written = {};
#pragma unroll
            for (int i = 0; i < N; ++i) {
                if (!steps.has(i)) continue;
                state = steps.after(i, state, out);
                written.set(i, to<B>(out));
            }
            written.store(h, w.h.step, p, w.steps);
            k = shuffled(state, 31);
        }
    }
    if (lane != 31) return;
    if constexpr (REDUCE) {
        crossings.put(segment, row, so_far);
    } else if (segment == w.segments - 1) {
        *start_of<S>(w.final, row, w.middle, w.inner) = to<S>(k);
    }
}
