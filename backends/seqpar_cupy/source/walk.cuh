// The linear recurrence with lanes over sequences: the state in registers, walking over time.
//
//     plain      h[t] = u[t] if reset[t] else c[t] k + u[t];    k = h[t]
//     adjoint    h[t] = b[t] + k;                               k = 0 if reset[t] else c[t] h[t]
//
// A thread has V sequences that are neighbours in memory. Time may be cut into segments, one per block in y: `walk` with REDUCE
// leaves what each of them does to the state that enters it; `walk` then finds the state that enters its own segment.
//
// Options O: A, B formats; S state, K carry; GATE, CONVEX, ADJOINT, RESETS; V; A_WIDE, B_WIDE, RESETS_WIDE: has the operand
// V neighbours, or one number for all of them; BLOCK, BLOCKS of the rings; THREADS.

struct WalkWords {
    int64 steps, sequences, middle, inner, segments, length, padding;
    Slot a, b, h0, resets, h, final;
    void* products;  // [segment][sequence], as are the next two
    void* exponents;
    void* states;
};

template <class O>
struct Crossings {
    typedef Crossing<typename O::K, is_double<typename O::S>> One;
    const typename One::Product* products;
    const int* exponents;
    const typename O::K* states;
    int64 sequences;

    template <class Words>
    DEVICE explicit Crossings(const Words& w)
        : products(static_cast<const typename One::Product*>(w.products)),
          exponents(static_cast<const int*>(w.exponents)),
          states(static_cast<const typename O::K*>(w.states)),
          sequences(w.sequences) {}

    DEVICE One at(int64 segment, int64 sequence) const {
        int64 i = segment * sequences + sequence;
        return One{products[i], exponents[i], states[i]};
    }

    DEVICE void put(int64 segment, int64 sequence, const One& x) const {
        int64 i = segment * sequences + sequence;
        const_cast<typename One::Product*>(products)[i] = x.p;
        const_cast<int*>(exponents)[i] = x.e;
        const_cast<typename O::K*>(states)[i] = x.r;
    }

    // The state that enters a segment, of the one that enters the first.
    DEVICE typename O::K entering(int64 segment, int64 sequence, typename O::K k) const {
#pragma unroll 8
        for (int64 s = 0; s < segment; ++s) k = at(s, sequence).of(k);
        return k;
    }
};

// The rings of the operands that both directions read.
template <class O, bool WITH_B>
struct Inputs {
    static constexpr int A_N = O::A_WIDE ? O::V : 1, B_N = O::B_WIDE ? O::V : 1, R_N = O::RESETS_WIDE ? O::V : 1;
    Ring<typename O::A, A_N, O::BLOCK, O::BLOCKS, O::THREADS> a;
    typename If<WITH_B, Ring<typename O::B, B_N, O::BLOCK, O::BLOCKS, O::THREADS>>::Type b;
    typename If<O::RESETS, Ring<unsigned char, R_N, O::BLOCK, O::BLOCKS, O::THREADS>>::Type resets;
    static constexpr int BYTES = decltype(a)::BYTES + decltype(b)::BYTES + decltype(resets)::BYTES;

    template <class Words>
    DEVICE unsigned char* start(const Words& w, int64 first, int64 from, int64 steps, unsigned char* memory) {
        a.start(start_of<typename O::A>(w.a, first, w.middle, w.inner) + from * w.a.step, w.a.step, steps, memory);
        memory += decltype(a)::BYTES;
        if constexpr (WITH_B) {
            b.start(start_of<typename O::B>(w.b, first, w.middle, w.inner) + from * w.b.step, w.b.step, steps, memory);
            memory += decltype(b)::BYTES;
        }
        if constexpr (O::RESETS) {
            const unsigned char* start = start_of<unsigned char>(w.resets, first, w.middle, w.inner);
            resets.start(start + from * w.resets.step, w.resets.step, steps, memory);
            memory += decltype(resets)::BYTES;
        }
        return memory;
    }

    DEVICE void fetch() { a.fetch(), b.fetch(), resets.fetch(); }
    DEVICE void look_ahead() { a.look_ahead(), b.look_ahead(), resets.look_ahead(); }
};

// One walk over a segment. REDUCE: nothing is written but what the segment does to a state.
template <class O, bool REDUCE>
DEVICE void walk(const WalkWords& w) {
    typedef typename O::B B;
    typedef typename O::S S;
    typedef typename O::K K;
    constexpr int V = O::V, BLOCK = O::BLOCK, BLOCKS = O::BLOCKS;
    int64 first = (static_cast<int64>(blockIdx.x) * O::THREADS + threadIdx.x) * V;
    if (first >= w.sequences) return;
    int64 segment = blockIdx.y, t = segment * w.length;
    int64 end = t + w.length < w.steps ? t + w.length : w.steps;

    Inputs<O, true> in;
    in.start(w, first, t, end - t, shared_memory());
#pragma unroll
    for (int n = 0; n < BLOCKS - 1; ++n) {
        in.fetch();
        close_batch();
    }
    in.look_ahead();

    Crossings<O> crossings(w);
    K k[V];
    typename Crossings<O>::One segment_does[REDUCE ? V : 1];
#pragma unroll
    for (int v = 0; v < V; ++v) {
        k[v] = to<K>(0.0);
        if constexpr (REDUCE) {
            segment_does[v] = Crossings<O>::One::nothing();
        } else {
            if (w.h0) k[v] = to<K>(*start_of<S>(w.h0, first + v, w.middle, w.inner));
            k[v] = crossings.entering(segment, first + v, k[v]);
        }
    }
    B* h = REDUCE ? nullptr : start_of<B>(w.h, first, w.middle, w.inner) + t * w.h.step;

    for (; t < end; t += BLOCK) {
        in.fetch();
        close_batch();
        wait_for_batch<BLOCKS - 1>();
        typename decltype(in.a)::Neighbours a[BLOCK];
        typename decltype(in.b)::Neighbours b[BLOCK];
        typename decltype(in.resets)::Neighbours resets[BLOCK];
        in.a.take(a), in.b.take(b), in.resets.take(resets);
        in.look_ahead();
        int here = end - t < BLOCK ? static_cast<int>(end - t) : BLOCK;
#pragma unroll
        for (int i = 0; i < BLOCK; ++i) {
            if (i >= here) break;
            Packed<B, V> written;
#pragma unroll
            for (int v = 0; v < V; ++v) {
                Gate<O::GATE, K, S> gate(to<S>(a[i][v]));
                K u = to<K>(b[i][v]);
                bool reset = false;
                if constexpr (O::RESETS) reset = resets[i][v];
                if constexpr (O::CONVEX) u = gate.rest * u;
                K next;
                if constexpr (O::ADJOINT) {
                    K sum = u + k[v];
                    next = reset ? to<K>(0.0) : gate.c * sum;
                    written.set(v, to<B>(sum));
                } else {
                    next = reset ? u : gate.c * k[v] + u;
                    written.set(v, to<B>(next));
                }
                k[v] = next;
                if constexpr (REDUCE) {
                    segment_does[v].grow(gate.c);
                    segment_does[v].settle(i);
                    if (reset) segment_does[v].drop();
                }
            }
            if constexpr (!REDUCE) {
                written.store(h);
                h += w.h.step;
            }
        }
    }

#pragma unroll
    for (int v = 0; v < V; ++v) {
        if constexpr (REDUCE) {
            segment_does[v].r = k[v];
            crossings.put(segment, first + v, segment_does[v]);
        } else if (segment == w.segments - 1) {
            *start_of<S>(w.final, first + v, w.middle, w.inner) = to<S>(k[v]);
        }
    }
}
