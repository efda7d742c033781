// The vjp of a plain matrix walk in one pass against its direction; M stands for the transposed matrices here.
//
//     lam = g[t] + k;      k = 0 if reset[t] else M[t] lam;      db = lam
//     dM[t] = 0 if reset[t] else lam h[t-1]^T, summed over columns;      dh0 = k at the end
//
// A group of lanes per sequence, with all columns. Where one matrix serves all steps, dM is summed over time in double
// precision, per segment into `sums`, and those in order.
//
// O further has DA, DB, SUMMED, COLUMNS, DA_WIDE.

struct MatrixBackwardWords {
    int64 steps, sequences, middle, inner, segments, length, columns;
    MatrixSlot A, h0, resets, before, g, g_final, dA, db, dh0;
    void* products;
    void* exponents;
    void* states;
    void* sums;  // [segment][sequence][row][column]
};

template <class O>
DEVICE void matrix_backward(const MatrixBackwardWords& w) {
    typedef typename O::A A;
    typedef typename O::B B;
    typedef typename O::S S;
    typedef typename Kind<S>::Wide Sum;
    constexpr int N = O::N, LANES = O::LANES, BLOCK = O::BLOCK, COLUMNS = O::COLUMNS;
    // Many columns lie in memory of the thread, and nothing of them is on its way.
    constexpr bool AHEAD = COLUMNS <= 2;
    constexpr int UNROLLED = COLUMNS <= 8 ? COLUMNS : 1;
    int64 group = (static_cast<int64>(blockIdx.x) * O::THREADS + threadIdx.x) / LANES;
    bool writes = static_cast<int>(threadIdx.x % LANES) < N && group < w.sequences;
    if (group >= w.sequences) group = w.sequences - 1;
    int row = threadIdx.x % LANES, base = lane_number() - row;
    if (row >= N) row = N - 1;
    int64 sequence = group, segment = blockIdx.y, t = segment * w.length, last = w.steps - 1;
    int64 end = t + w.length < w.steps ? t + w.length : w.steps;

    const A* next_A = row_of<A>(w.A, sequence, w.middle, w.inner, row, 0) + t * w.A.step;
    const B* g_at = row_of<B>(w.g, sequence, w.middle, w.inner, row, 0) + t * w.g.step;
    const B* h_at = row_of<B>(w.before, sequence, w.middle, w.inner, row, 0) + t * w.before.step;
    const S* h0 = w.h0 ? row_of<S>(w.h0, sequence, w.middle, w.inner, row, 0) : nullptr;
    const unsigned char* resets_at = nullptr;
    if constexpr (O::RESETS) {
        resets_at = row_of<unsigned char>(w.resets, sequence, w.middle, w.inner, 0, 0) + t * w.resets.step;
    }
    MatrixRows<O> A_ahead;
    constexpr int KEPT = AHEAD ? BLOCK * COLUMNS : 1;
    Packed<B, 1> g_ahead[KEPT], h_ahead[KEPT];
    unsigned char resets_ahead[BLOCK];
    auto look_ahead = [&](int64 from) {
        A_ahead.load(next_A, w.A.step, w.A.column, end - from);
        next_A += BLOCK * w.A.step;
#pragma unroll
        for (int i = 0; i < BLOCK; ++i) {
            if (from + i < end) {
                if constexpr (O::RESETS) resets_ahead[i] = resets_at[(from - t + i) * w.resets.step];
                if constexpr (AHEAD) {
#pragma unroll
                    for (int c = 0; c < COLUMNS; ++c) {
                        g_ahead[i * COLUMNS + c].set(0, g_at[(from - t + i) * w.g.step + c * w.g.column]);
                        if (from + i < last) {
                            h_ahead[i * COLUMNS + c].set(0, h_at[(from - t + i) * w.before.step + c * w.before.column]);
                        }
                    }
                }
            }
        }
    };
    look_ahead(t);

    MatrixCrossings<O> crossings(w);
    S k[COLUMNS];
#pragma unroll UNROLLED
    for (int c = 0; c < COLUMNS; ++c) {
        k[c] = w.g_final ? *row_of<S>(w.g_final, sequence, w.middle, w.inner, row, c) : to<S>(0.0);
        k[c] = crossings.entering(segment, sequence, c, row, base, k[c]);
    }
    Sum sum[N];
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] = to<Sum>(0.0);
    typename O::DA* dA = nullptr;
    if constexpr (!O::SUMMED) dA = row_of<typename O::DA>(w.dA, sequence, w.middle, w.inner, row, 0) + t * w.dA.step;
    typename O::DB* db = row_of<typename O::DB>(w.db, sequence, w.middle, w.inner, row, 0) + t * w.db.step;

    for (; t < end; t += BLOCK) {
        MatrixRows<O> A = A_ahead;
        Packed<B, 1> g[KEPT], h[KEPT];
        unsigned char resets[BLOCK];
#pragma unroll
        for (int i = 0; i < KEPT; ++i) g[i] = g_ahead[i], h[i] = h_ahead[i];
#pragma unroll
        for (int i = 0; i < BLOCK; ++i) resets[i] = resets_ahead[i];
        if (t + BLOCK < end) look_ahead(t + BLOCK);
#pragma unroll
        for (int i = 0; i < BLOCK; ++i) {
            if (t + i >= end) break;
            bool reset = O::RESETS && resets[i];
            S dM[N];
#pragma unroll
            for (int j = 0; j < N; ++j) dM[j] = to<S>(0.0);
#pragma unroll UNROLLED
            for (int c = 0; c < COLUMNS; ++c) {
                S lam, before;
                if constexpr (AHEAD) {
                    lam = to<S>(g[i * COLUMNS + c].get(0)), before = to<S>(h[i * COLUMNS + c].get(0));
                } else {
                    lam = to<S>(g_at[i * w.g.step + c * w.g.column]);
                    if (t + i < last) before = to<S>(h_at[i * w.before.step + c * w.before.column]);
                }
                if (t + i == last) before = h0 ? h0[c * w.h0.column] : to<S>(0.0);
                lam = lam + k[c];
                k[c] = A.times(i, lam, base);
                if (reset) k[c] = to<S>(0.0);
                if (writes) db[c * w.db.column] = to<typename O::DB>(lam);
#pragma unroll
                for (int j = 0; j < N; ++j) {
                    S product = lam * shuffled(before, base + j);
                    dM[j] = c ? dM[j] + product : product;
                }
            }
            db += w.db.step;
            if constexpr (O::SUMMED) {
#pragma unroll
                for (int j = 0; j < N; ++j) {
                    if (!reset) sum[j] = sum[j] + to<Sum>(dM[j]);
                }
            } else {
                Packed<typename O::DA, N> out = {};
#pragma unroll
                for (int j = 0; j < N; ++j) out.set(j, to<typename O::DA>(reset ? to<S>(0.0) : dM[j]));
                if (writes) {
                    if constexpr (O::DA_WIDE) {
                        out.store(dA);
                    } else {
#pragma unroll
                        for (int j = 0; j < N; ++j) dA[j * w.dA.column] = out.get(j);
                    }
                }
                dA += w.dA.step;
            }
        }
        g_at += BLOCK * w.g.step, h_at += BLOCK * w.before.step;
        if constexpr (O::RESETS) resets_at += BLOCK * w.resets.step;
    }

    if (!writes) return;
    if constexpr (O::SUMMED) {
        Sum* total = w.segments == 1 ? row_of<Sum>(w.dA, sequence, w.middle, w.inner, row, 0)
                                     : static_cast<Sum*>(w.sums) + ((segment * w.sequences + sequence) * N + row) * N;
        int64 step = w.segments == 1 ? w.dA.column : 1;
#pragma unroll
        for (int j = 0; j < N; ++j) total[j * step] = sum[j];
    }
    if (segment == w.segments - 1) {
#pragma unroll UNROLLED
        for (int c = 0; c < COLUMNS; ++c) *row_of<S>(w.dh0, sequence, w.middle, w.inner, row, c) = k[c];
    }
}

// The sums of the segments, added in order: a thread per number.
template <class O>
DEVICE void add_matrix_segments(const MatrixBackwardWords& w) {
    typedef typename Kind<typename O::S>::Wide Sum;
    constexpr int64 SIZE = O::N * O::N;
    int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= w.sequences * SIZE) return;
    Sum total = to<Sum>(0.0);
    for (int64 s = 0; s < w.segments; ++s) total = total + static_cast<const Sum*>(w.sums)[s * w.sequences * SIZE + i];
    int64 sequence = i / SIZE, row = i % SIZE / O::N, column = i % O::N;
    *row_of<Sum>(w.dA, sequence, w.middle, w.inner, row, column) = total;
}
