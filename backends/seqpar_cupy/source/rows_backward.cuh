// The vjp of a plain walk with time contiguous; see rows.cuh for the layout and walk_backward.cuh for the formulas.

template <class O>
DEVICE void rows_backward(const BackwardWords& w) {
    typedef typename O::B B;
    typedef typename O::S S;
    typedef typename O::K K;
    typedef typename Kind<K>::Wide Sum;
    constexpr int N = O::ITEMS, TILE = 32 * N;
    int64 row = static_cast<int64>(blockIdx.x) * (O::THREADS / 32) + threadIdx.x / 32;
    if (row >= w.sequences) return;
    int lane = lane_number();
    int64 segment = blockIdx.y, q = segment * w.length, last = w.steps + w.padding;
    int64 end = q + w.length < last ? q + w.length : last;

    Items<O, typename O::A, O::A_WIDE> a;
    Items<O, B, O::B_WIDE> b;
    Items<O, B, O::H_WIDE> h;
    Items<O, B, O::G_WIDE> g;
    Items<O, unsigned char, O::RESETS_WIDE> resets;
    a.start(w.a, row, w.middle, w.inner), g.start(w.g, row, w.middle, w.inner);
    h.start(w.before, row, w.middle, w.inner);
    h.at -= h.step;  // at its own steps, where vectors start; moved by a lane below
    if constexpr (O::CONVEX) b.start(w.b, row, w.middle, w.inner);
    if constexpr (O::RESETS) resets.start(w.resets, row, w.middle, w.inner);
    B beyond;  // the h after this lane's last, for the last lane
    int64 p = q + lane * N - w.padding;
    auto look_ahead = [&](int64 p) {
        a.look_ahead(p, w.steps), g.look_ahead(p, w.steps), h.look_ahead(p, w.steps);
        if constexpr (O::CONVEX) b.look_ahead(p, w.steps);
        if constexpr (O::RESETS) resets.look_ahead(p, w.steps);
        if (lane == 31 && p + N >= 0 && p + N < w.steps) beyond = h.at[(p + N) * h.step];
    };
    look_ahead(p);

    Crossings<O> crossings(w);
    K k = to<K>(0.0), first = to<K>(0.0);
    Sum sum = to<Sum>(0.0);
    if (w.g_final) k = to<K>(*start_of<S>(w.g_final, row, w.middle, w.inner));
    if (w.h0) first = to<K>(*start_of<S>(w.h0, row, w.middle, w.inner));
    k = crossings.entering(segment, row, k);
    typename O::DA* da = O::SUMMED ? nullptr : start_of<typename O::DA>(w.da, row, w.middle, w.inner);
    typename O::DB* db = start_of<typename O::DB>(w.db, row, w.middle, w.inner);

    for (; q < end; q += TILE, p += TILE) {
        LaneSteps<O> steps(a.ahead, g.ahead, resets.ahead, p, w.steps);
        auto gates = a.ahead;
        auto inputs = b.ahead;
        auto own = h.ahead;
        K next = shuffled(to<K>(own[0]), lane + 1 & 31);
        if (lane == 31) next = to<K>(beyond);
        if (q + TILE < end) look_ahead(p + TILE);

        K state = steps.entering(steps.up_to_here(), k);
        Tile<O, O::WIDE, typename O::DA> written_da = {};
        Tile<O, O::WIDE, typename O::DB> written_db = {};
#pragma unroll
        for (int i = 0; i < N; ++i) {
            if (!steps.has(i)) continue;
            K lam;
            state = steps.after(i, state, lam);
            K h_before = p + i == w.steps - 1 ? first : i + 1 < N ? to<K>(own[i + 1 < N ? i + 1 : 0]) : next;
            K dc = steps.reset(i) ? to<K>(0.0) : lam * h_before, into_b = lam;
            Gate<O::GATE, K, S> gate(to<S>(gates[i]));
            if constexpr (O::CONVEX) {
                dc = dc - lam * to<K>(inputs[i]);
                into_b = gate.rest * lam;
            }
            dc = gate.pulled_back(dc);
            if constexpr (O::SUMMED) {
                sum = sum + to<Sum>(dc);
            } else {
                written_da.set(i, to<typename O::DA>(dc));
            }
            written_db.set(i, to<typename O::DB>(into_b));
        }
        if constexpr (!O::SUMMED) written_da.store(da, w.da.step, p, w.steps);
        written_db.store(db, w.db.step, p, w.steps);
        k = shuffled(state, 31);
    }

    if constexpr (O::SUMMED) {
#pragma unroll
        for (int d = 16; d > 0; d /= 2) sum = sum + shuffled(sum, lane ^ d);
    }
    if (lane != 31) return;
    if constexpr (O::SUMMED) {
        if (w.segments == 1) {
            *start_of<Sum>(w.da, row, w.middle, w.inner) = sum;
        } else {
            static_cast<Sum*>(w.sums)[segment * w.sequences + row] = sum;
        }
    }
    if (segment == w.segments - 1) *start_of<S>(w.dh0, row, w.middle, w.inner) = to<S>(k);
}
