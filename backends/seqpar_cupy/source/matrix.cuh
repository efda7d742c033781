// The matrix recurrence: a group of LANES lanes per column of a state, one lane per row, which reads the others' by shuffles.
//
//     plain      h[t] = b[t] if reset[t] else M[t] k + b[t];    k = h[t]
//     adjoint    h[t] = b[t] + k;                               k = 0 if reset[t] else M[t] h[t]
//
// Segments of time as in walk.cuh. What a segment does to a state has a product of matrices in place of a number, whose
// columns are walks of their own over unit vectors: N groups more, which read the same matrices at the same time. Each
// column of a product has an exponent, p * 2**(600 e), for one may grow while another vanishes.
//
// Options O: A, B formats; S state; N rows, LANES the power of two from N on; ADJOINT, RESETS; BLOCK steps that are on their
// way; A_WIDE: rows of M are vectors in memory; THREADS.

struct MatrixSlot {
    const void* at;
    int64 step, outer, middle, inner, row, column;

    DEVICE explicit operator bool() const { return at != nullptr; }
    DEVICE Slot slot() const { return Slot{at, step, outer, middle, inner}; }
};

// Where a sequence has a row, and a column, in its first step.
template <class T>
DEVICE T* row_of(const MatrixSlot& slot, int64 sequence, int64 middle, int64 inner, int64 row, int64 column) {
    return start_of<T>(slot.slot(), sequence, middle, inner) + row * slot.row + column * slot.column;
}

struct MatrixWords {
    int64 steps, sequences, middle, inner, segments, length, columns;
    MatrixSlot A, b, h0, resets, h, final;
    void* products;   // [segment][sequence][column][row]
    void* exponents;  // [segment][sequence][column]
    void* states;     // [segment][sequence][column][row]
};

// A row of the matrices of some steps.
template <class O>
struct MatrixRows {
    typedef typename O::A A;
    typedef Packed<A, O::N> Row;
    Row rows[O::BLOCK];

    DEVICE void load(const A* at, int64 step, int64 column, int64 steps) {
#pragma unroll
        for (int i = 0; i < O::BLOCK; ++i) {
            if (i < steps) {
                if constexpr (O::A_WIDE) {
                    rows[i].load(at + i * step);
                } else {
                    rows[i] = {};
#pragma unroll
                    for (int j = 0; j < O::N; ++j) rows[i].set(j, at[i * step + j * column]);
                }
            }
        }
    }

    // The row times a vector, of which every lane has its own row; the group starts at lane `base`.
    template <class K>
    DEVICE K times(int i, K mine, int base) const {
        K sum = to<K>(0.0);
#pragma unroll
        for (int j = 0; j < O::N; ++j) {
            K product = to<K>(to<typename O::S>(rows[i].get(j))) * shuffled(mine, base + j);
            sum = j ? sum + product : product;
        }
        return sum;
    }
};

// What segments do to the states of a sequence.
template <class O>
struct MatrixCrossings {
    typedef typename Kind<typename O::S>::Wide P;
    P* products;
    int* exponents;
    typename O::S* states;
    int64 sequences, columns;

    template <class Words>
    DEVICE explicit MatrixCrossings(const Words& w)
        : products(static_cast<P*>(w.products)),
          exponents(static_cast<int*>(w.exponents)),
          states(static_cast<typename O::S*>(w.states)),
          sequences(w.sequences),
          columns(w.columns) {}

    DEVICE P* product(int64 segment, int64 sequence, int64 column) const {
        return products + ((segment * sequences + sequence) * O::N + column) * O::N;
    }
    DEVICE int* exponent(int64 segment, int64 sequence) const {
        return exponents + (segment * sequences + sequence) * O::N;
    }
    DEVICE typename O::S* state(int64 segment, int64 sequence, int64 column) const {
        return states + ((segment * sequences + sequence) * columns + column) * O::N;
    }

    // This lane's row of the state that enters a segment, of the one that enters the first. All lanes of a warp come here.
    DEVICE typename O::S entering(int64 segment, int64 sequence, int64 column, int row, int base, typename O::S k) const {
        constexpr int AT_ONCE = O::N <= 2 ? 8 : O::N <= 4 ? 4 : O::N <= 8 ? 2 : 1;
#pragma unroll AT_ONCE
        for (int64 s = 0; s < segment; ++s) {
            const P* p = product(s, sequence, 0) + row;
            const int* e = exponent(s, sequence);
            P sum = to<P>(0.0);
#pragma unroll
            for (int j = 0; j < O::N; ++j) sum = sum + crossed(p[j * O::N], e[j], to<P>(shuffled(k, base + j)));
            P r = to<P>(state(s, sequence, column)[row]);
            k = to<typename O::S>(e[0] == DROPPED ? r : sum + r);
        }
        return k;
    }
};

template <bool FIRST, class X, class Y>
struct Either {
    typedef X Type;
};
template <class X, class Y>
struct Either<false, X, Y> {
    typedef Y Type;
};

// One walk over a segment. REDUCE: in double precision, and nothing is written but what the segment does to a state.
template <class O, bool REDUCE>
DEVICE void matrix_walk(const MatrixWords& w) {
    typedef typename O::A A;
    typedef typename O::B B;
    typedef typename O::S S;
    constexpr int N = O::N, LANES = O::LANES, BLOCK = O::BLOCK;
    MatrixCrossings<O> crossings(w);
    typedef typename MatrixCrossings<O>::P P;
    typedef typename Either<REDUCE, P, S>::Type K;
    K k = to<K>(0.0);

    int64 each = w.columns + (REDUCE ? N : 0);
    int64 group = (static_cast<int64>(blockIdx.x) * O::THREADS + threadIdx.x) / LANES;
    // Lanes without a row, or without a group, do what the last one does, and write nothing.
    bool writes = static_cast<int>(threadIdx.x % LANES) < N && group < w.sequences * each;
    if (group >= w.sequences * each) group = w.sequences * each - 1;
    int row = threadIdx.x % LANES, base = lane_number() - row;
    if (row >= N) row = N - 1;
    int64 sequence = group / each, column = group - sequence * each;
    bool of_product = REDUCE && column < N;
    if (REDUCE && !of_product) column -= N;
    int64 segment = blockIdx.y, t = segment * w.length;
    int64 end = t + w.length < w.steps ? t + w.length : w.steps;

    const A* next_A = row_of<A>(w.A, sequence, w.middle, w.inner, row, 0) + t * w.A.step;
    const B* next_b = row_of<B>(w.b, sequence, w.middle, w.inner, row, of_product ? 0 : column) + t * w.b.step;
    const unsigned char* next_resets = nullptr;
    if constexpr (O::RESETS) {
        next_resets = row_of<unsigned char>(w.resets, sequence, w.middle, w.inner, 0, 0) + t * w.resets.step;
    }
    MatrixRows<O> A_ahead;
    Packed<B, 1> b_ahead[BLOCK];
    unsigned char resets_ahead[BLOCK];
    auto look_ahead = [&](int64 steps) {
        A_ahead.load(next_A, w.A.step, w.A.column, steps);
#pragma unroll
        for (int i = 0; i < BLOCK; ++i) {
            if (i < steps) {
                b_ahead[i].set(0, next_b[i * w.b.step]);
                if constexpr (O::RESETS) resets_ahead[i] = next_resets[i * w.resets.step];
            }
        }
        next_A += BLOCK * w.A.step, next_b += BLOCK * w.b.step;
        if constexpr (O::RESETS) next_resets += BLOCK * w.resets.step;
    };
    look_ahead(end - t);

    int exponent = 0;
    bool dropped = false;
    B* h = nullptr;
    if constexpr (REDUCE) {
        if (of_product) k = to<K>(row == column ? 1.0 : 0.0);
    } else {
        if (w.h0) k = *row_of<S>(w.h0, sequence, w.middle, w.inner, row, column);
        k = crossings.entering(segment, sequence, column, row, base, k);
        h = row_of<B>(w.h, sequence, w.middle, w.inner, row, column) + t * w.h.step;
    }

    for (; t < end; t += BLOCK) {
        MatrixRows<O> A = A_ahead;
        Packed<B, 1> b[BLOCK];
        unsigned char resets[BLOCK];
#pragma unroll
        for (int i = 0; i < BLOCK; ++i) b[i] = b_ahead[i], resets[i] = resets_ahead[i];
        if (t + BLOCK < end) look_ahead(end - t - BLOCK);
#pragma unroll
        for (int i = 0; i < BLOCK; ++i) {
            if (t + i >= end) break;
            K u = of_product ? to<K>(0.0) : to<K>(to<S>(b[i].get(0)));
            bool reset = O::RESETS && resets[i];
            K written;
            if constexpr (O::ADJOINT) {
                written = u + k;
                k = A.times(i, written, base);
                if (reset) k = to<K>(0.0);
            } else {
                k = A.times(i, k, base) + u;
                if (reset) k = u;
                written = k;
            }
            if constexpr (REDUCE) {
                dropped = dropped || reset;
                // From 2**300 four steps of single precision do not leave the range; of double precision one does not.
                if (is_double<S> || (t + i) % 4 == 3) {
                    unsigned group_lanes = (LANES == 32 ? ~0u : (1u << LANES % 32) - 1) << base;
                    double size = of_product ? size_of(k) : 1.0;
                    bool down = lanes_where(size > UNIT_ROOT) & group_lanes;
                    bool some = lanes_where(size > 0.0) & group_lanes;
                    bool large = lanes_where(!(size < UNIT_ROOT_INVERSE)) & group_lanes;
                    bool up = some && !large;
                    k = scaled(k, down ? UNIT_INVERSE : up ? UNIT : 1.0);
                    exponent += down ? 1 : up ? -1 : 0;
                }
            } else {
                if (writes) *h = to<B>(written);
                h += w.h.step;
            }
        }
    }

    if (!writes) return;
    if constexpr (REDUCE) {
        if (of_product) {
            crossings.product(segment, sequence, column)[row] = k;
            if (row == 0) crossings.exponent(segment, sequence)[column] = dropped ? DROPPED : exponent;
        } else {
            crossings.state(segment, sequence, column)[row] = to<S>(k);
        }
    } else if (segment == w.segments - 1) {
        *row_of<S>(w.final, sequence, w.middle, w.inner, row, column) = k;
    }
}
