// What some steps do to the state that enters them: k -> p k + r, with a product p that neither overflows nor underflows.
//
// Products are held in double precision. For states in single precision they are clamped below its range: what they are off
// then is beyond those states anyway. For states in double precision they have an exponent of their own: p * 2**(600 e).

constexpr double CLAMP = 0x1p480;  // so that two products multiply, and one and four coefficients of single precision
constexpr int UNCLAMPED = 4;
constexpr double UNIT_ROOT = 0x1p300, UNIT_ROOT_INVERSE = 0x1p-300, UNIT = 0x1p600, UNIT_INVERSE = 0x1p-600;
constexpr int DROPPED = -(1 << 30);  // the exponent over a reset: nothing crosses it, not even NaN

DEVICE double clamped(double x) {
    // An infinity is the user's own, and travels.
    double size = fabs(x);
    return size > CLAMP && size < 1.0 / 0.0 ? copysign(CLAMP, x) : x;
}
template <class R>
DEVICE Complex<R> clamped(Complex<R> x) {
    return Complex<R>{clamped(x.re), clamped(x.im)};
}

// x of another lane.
template <class T>
DEVICE T shuffled(const T& x, int lane) {
    T found;
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(T) / sizeof(unsigned)); ++i) {
        reinterpret_cast<unsigned*>(&found)[i] = from_lane(reinterpret_cast<const unsigned*>(&x)[i], lane);
    }
    return found;
}

// p 2**(600 e) k: infinite or zero only where that is.
template <class P>
DEVICE P crossed(P p, int e, P k) {
    if (e == 0) return p * k;
    double root = e > 0 ? UNIT_ROOT : UNIT_ROOT_INVERSE;
    P x = scaled(p * scaled(k, root), root);
    // Beyond four units nothing finite is left.
    for (int unit = 2; unit <= 4; ++unit) {
        if (e >= unit || -e >= unit) x = scaled(scaled(x, root), root);
    }
    return x;
}

// K: the carry. DOUBLE: the state is in double precision.
template <class K, bool DOUBLE>
struct Crossing {
    typedef typename Kind<K>::Wide Product;
    Product p;
    int e;
    K r;

    static DEVICE Crossing nothing() { return Crossing{to<Product>(1.0), 0, to<K>(0.0)}; }

    // One step more, of coefficient c; r is the caller's. To be settled after every UNCLAMPED steps.
    DEVICE void grow(K c) {
        Product factor = to<Product>(c);
        if (e == DROPPED) return;
        if constexpr (DOUBLE) {
            int size = 0;
            factor = within_a_root(factor, size);
            p = within_a_root(p * factor, size);
            e = bounded(e + size);
        } else {
            p = p * factor;
        }
    }

    // Step i of a block of them is done: the last of every UNCLAMPED clamps.
    DEVICE void settle(int i) {
        if constexpr (!DOUBLE) {
            if (i % UNCLAMPED == UNCLAMPED - 1) p = clamped(p);
        }
    }

    DEVICE void drop() {
        p = to<Product>(0.0);
        e = DROPPED;
    }

    // The state behind these steps, of the one before them.
    DEVICE K of(K k) const {
        if (e == DROPPED) return r;
        return to<K>(crossed(p, DOUBLE ? e : 0, to<Product>(k)) + to<Product>(r));
    }

    // These steps after others.
    DEVICE Crossing after(const Crossing& first) const {
        if (e == DROPPED) return *this;
        Crossing both{p, e, of(first.r)};
        if (first.e == DROPPED) {
            both.drop();
        } else if constexpr (DOUBLE) {
            int size = 0;
            both.p = within_a_root(p * first.p, size);
            both.e = bounded(e + first.e + size);
        } else {
            both.p = clamped(p * first.p);
        }
        return both;
    }

    // What another lane has; exponents only where there can be any.
    template <bool EXPONENTS>
    DEVICE Crossing from(int lane) const {
        return Crossing{shuffled(p, lane), EXPONENTS ? shuffled(e, lane) : e, shuffled(r, lane)};
    }

  private:
    // x between 2**-300 and 2**300 after one product of such; zero, infinity and NaN stay.
    static DEVICE Product within_a_root(Product x, int& size) {
        double largest = size_of(x);
        bool down = largest > UNIT_ROOT, up = largest < UNIT_ROOT_INVERSE && largest > 0.0;
        size += down ? 1 : up ? -1 : 0;
        return scaled(x, down ? UNIT_INVERSE : up ? UNIT : 1.0);
    }

    // A sum of many exponents must not wrap around.
    static DEVICE int bounded(int e) { return e < -(1 << 20) ? -(1 << 20) : e > (1 << 20) ? 1 << 20 : e; }
};
