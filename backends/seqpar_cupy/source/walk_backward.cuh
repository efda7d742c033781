// The vjp of a plain walk with lanes over sequences, in one pass against its direction. See walk.cuh for the layout.
//
//     lam = g[t] + k;      k = 0 if reset[t] else c[t] lam;       db = lam, or (1 - c) lam under convex
//     dc = (0 if reset[t] else lam h[t-1]) - (lam b under convex);   da = dc dc/da;    dh0 = k at the end
//
// Where one `a` serves all steps, da is summed over time in double precision: per segment into `sums`, and those in order.

struct BackwardWords {
    int64 steps, sequences, middle, inner, segments, length, padding;
    // `before` is h one step further in the direction of this walk; h0 stands for it at the last step.
    Slot a, b, h0, resets, before, g, g_final, da, db, dh0;
    void* products;
    void* exponents;
    void* states;
    void* sums;
};

// O further has DA, DB: formats of da and db; SUMMED; H_WIDE, G_WIDE.
template <class O>
DEVICE void walk_backward(const BackwardWords& w) {
    typedef typename O::B B;
    typedef typename O::S S;
    typedef typename O::K K;
    typedef typename Kind<K>::Wide Sum;
    constexpr int V = O::V, BLOCK = O::BLOCK, BLOCKS = O::BLOCKS;
    constexpr int H_N = O::H_WIDE ? V : 1, G_N = O::G_WIDE ? V : 1;
    int64 first = (static_cast<int64>(blockIdx.x) * O::THREADS + threadIdx.x) * V;
    if (first >= w.sequences) return;
    int64 segment = blockIdx.y, t = segment * w.length;
    int64 end = t + w.length < w.steps ? t + w.length : w.steps;
    // The last step of all has no h before it.
    int64 last = w.steps - 1;

    Inputs<O, O::CONVEX> in;
    Ring<B, H_N, BLOCK, BLOCKS, O::THREADS> before;
    Ring<B, G_N, BLOCK, BLOCKS, O::THREADS> g;
    unsigned char* memory = in.start(w, first, t, end - t, shared_memory());
    const B* start = start_of<B>(w.before, first, w.middle, w.inner) + t * w.before.step;
    before.start(start, w.before.step, (end < last ? end : last) - t, memory);
    g.start(start_of<B>(w.g, first, w.middle, w.inner) + t * w.g.step, w.g.step, end - t, memory + before.BYTES);
#pragma unroll
    for (int n = 0; n < BLOCKS - 1; ++n) {
        in.fetch(), before.fetch(), g.fetch();
        close_batch();
    }
    in.look_ahead(), before.look_ahead(), g.look_ahead();

    Crossings<O> crossings(w);
    K k[V];
    Sum sum[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
        k[v] = to<K>(0.0);
        sum[v] = to<Sum>(0.0);
        if (w.g_final) k[v] = to<K>(*start_of<S>(w.g_final, first + v, w.middle, w.inner));
        k[v] = crossings.entering(segment, first + v, k[v]);
    }
    typename O::DA* da = O::SUMMED ? nullptr : start_of<typename O::DA>(w.da, first, w.middle, w.inner) + t * w.da.step;
    typename O::DB* db = start_of<typename O::DB>(w.db, first, w.middle, w.inner) + t * w.db.step;

    for (; t < end; t += BLOCK) {
        in.fetch(), before.fetch(), g.fetch();
        close_batch();
        wait_for_batch<BLOCKS - 1>();
        typename decltype(in.a)::Neighbours a_block[BLOCK];
        typename decltype(in.b)::Neighbours b_block[BLOCK];
        typename decltype(in.resets)::Neighbours resets[BLOCK];
        typename decltype(before)::Neighbours h_block[BLOCK];
        typename decltype(g)::Neighbours g_block[BLOCK];
        in.a.take(a_block), in.b.take(b_block), in.resets.take(resets);
        before.take(h_block), g.take(g_block);
        in.look_ahead(), before.look_ahead(), g.look_ahead();
        int here = end - t < BLOCK ? static_cast<int>(end - t) : BLOCK;
#pragma unroll
        for (int i = 0; i < BLOCK; ++i) {
            if (i >= here) break;
            Packed<typename O::DA, V> written_da;
            Packed<typename O::DB, V> written_db;
#pragma unroll
            for (int v = 0; v < V; ++v) {
                Gate<O::GATE, K, S> gate(to<S>(a_block[i][v]));
                bool reset = false;
                if constexpr (O::RESETS) reset = resets[i][v];
                K h = to<K>(h_block[i][v]);
                if (t + i == last) {
                    h = w.h0 ? to<K>(*start_of<S>(w.h0, first + v, w.middle, w.inner)) : to<K>(0.0);
                }
                K lam = to<K>(g_block[i][v]) + k[v];
                k[v] = reset ? to<K>(0.0) : gate.c * lam;
                K dc = reset ? to<K>(0.0) : lam * h, into_b = lam;
                if constexpr (O::CONVEX) {
                    dc = dc - lam * to<K>(b_block[i][v]);
                    into_b = gate.rest * lam;
                }
                dc = gate.pulled_back(dc);
                if constexpr (O::SUMMED) {
                    sum[v] = sum[v] + to<Sum>(dc);
                } else {
                    written_da.set(v, to<typename O::DA>(dc));
                }
                written_db.set(v, to<typename O::DB>(into_b));
            }
            if constexpr (!O::SUMMED) {
                written_da.store(da);
                da += w.da.step;
            }
            written_db.store(db);
            db += w.db.step;
        }
    }

#pragma unroll
    for (int v = 0; v < V; ++v) {
        if constexpr (O::SUMMED) {
            if (w.segments == 1) {
                *start_of<Sum>(w.da, first + v, w.middle, w.inner) = sum[v];
            } else {
                static_cast<Sum*>(w.sums)[segment * w.sequences + first + v] = sum[v];
            }
        }
        if (segment == w.segments - 1) *start_of<S>(w.dh0, first + v, w.middle, w.inner) = to<S>(k[v]);
    }
}

// The sums of the segments, added in order.
template <class O>
DEVICE void add_segments(const BackwardWords& w) {
    typedef typename Kind<typename O::K>::Wide Sum;
    int64 sequence = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (sequence >= w.sequences) return;
    Sum total = to<Sum>(0.0);
    for (int64 s = 0; s < w.segments; ++s) total = total + static_cast<const Sum*>(w.sums)[s * w.sequences + sequence];
    *start_of<Sum>(w.da, sequence, w.middle, w.inner) = total;
}
