// Numbers of every format: conversion, arithmetic that real and complex numbers share, gates.

typedef long long int64;

struct Half {
    unsigned short bits;
};
struct BFloat {
    unsigned short bits;
};
template <class R>
struct alignas(2 * sizeof(R)) Complex {
    R re, im;
};

// The state that goes with numbers of a format, the real numbers that a state is made of, and a state in double precision.
template <class T>
struct Kind {
    typedef float State;
};
template <>
struct Kind<float> {
    typedef float State;
    typedef float Real;
    typedef double Wide;
};
template <>
struct Kind<double> {
    typedef double State;
    typedef double Real;
    typedef double Wide;
};
template <>
struct Kind<Complex<float>> {
    typedef Complex<float> State;
    typedef float Real;
    typedef Complex<double> Wide;
};
template <>
struct Kind<Complex<double>> {
    typedef Complex<double> State;
    typedef double Real;
    typedef Complex<double> Wide;
};
template <class S>
constexpr bool is_double = sizeof(typename Kind<S>::Real) == 8;
template <class S>
constexpr bool is_complex = sizeof(S) != sizeof(typename Kind<S>::Real);

// --- conversion -------------------------------------------------------------------------------------------------------

DEVICE double plain(double x) { return x; }
DEVICE float plain(float x) { return x; }
DEVICE float plain(Half x) { return float_of_half(x.bits); }
DEVICE float plain(BFloat x) { return float_of_bits(static_cast<unsigned>(x.bits) << 16); }

template <class T>
struct To {
    template <class X>
    static DEVICE T from(X x) {
        return static_cast<T>(plain(x));
    }
};
template <>
struct To<Half> {
    template <class X>
    static DEVICE Half from(X x) {
        return Half{half_of_float(static_cast<float>(plain(x)))};
    }
};
template <>
struct To<BFloat> {
    template <class X>
    static DEVICE BFloat from(X x) {
        return BFloat{bfloat_of_float(static_cast<float>(plain(x)))};
    }
};
template <class R>
struct To<Complex<R>> {
    template <class X>
    static DEVICE Complex<R> from(Complex<X> x) {
        return Complex<R>{static_cast<R>(x.re), static_cast<R>(x.im)};
    }
    static DEVICE Complex<R> from(double x) { return Complex<R>{static_cast<R>(x), R(0)}; }
};

// x rounded to another format.
template <class T, class X>
DEVICE T to(X x) {
    return To<T>::from(x);
}

// --- arithmetic -------------------------------------------------------------------------------------------------------

template <class R>
DEVICE Complex<R> operator+(Complex<R> x, Complex<R> y) {
    return Complex<R>{x.re + y.re, x.im + y.im};
}
template <class R>
DEVICE Complex<R> operator-(Complex<R> x, Complex<R> y) {
    return Complex<R>{x.re - y.re, x.im - y.im};
}
template <class R>
DEVICE Complex<R> operator*(Complex<R> x, Complex<R> y) {
    return Complex<R>{x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}
template <class R>
DEVICE Complex<R> operator-(Complex<R> x) {
    return Complex<R>{-x.re, -x.im};
}

DEVICE float scaled(float x, float y) { return x * y; }
DEVICE double scaled(double x, double y) { return x * y; }
template <class R>
DEVICE Complex<R> scaled(Complex<R> x, R y) {
    return Complex<R>{x.re * y, x.im * y};
}

// The larger part, without its sign. NaN in either part is never larger than anything.
DEVICE float size_of(float x) { return fabsf(x); }
DEVICE double size_of(double x) { return fabs(x); }
template <class R>
DEVICE R size_of(Complex<R> x) {
    R re = size_of(x.re), im = size_of(x.im);
    return re > im ? re : im;
}

// --- gates ------------------------------------------------------------------------------------------------------------

constexpr int VALUE = 0, LOG = 1, LOGIT = 2;

// 2**n for exponents of normal numbers; beyond them 0 or infinity.
template <class R>
DEVICE R power_of_two(int n) {
    if constexpr (sizeof(R) == 8) {
        int64 bits = (n < -1023 ? -1023 : n > 1024 ? 1024 : n) + 1023;
        return double_of_bits(bits << 52);
    } else {
        unsigned bits = static_cast<unsigned>((n < -127 ? -127 : n > 128 ? 128 : n) + 127);
        return float_of_bits(bits << 23);
    }
}

// exp(x) and expm1(x), both right to a few ulp. exp is 2**n (1 + e) with e = expm1(r) by its series on |r| <= ln(2) / 2, so
// that one minus it never comes from a subtraction.
template <class R>
DEVICE void exponentials(R x, R& whole, R& less_one) {
    constexpr bool DOUBLE = sizeof(R) == 8;
    R low_end = DOUBLE ? R(-750) : R(-110), high_end = DOUBLE ? R(720) : R(90);
    R y = x < low_end ? low_end : x > high_end ? high_end : x;
    R n = floor(y * R(1.4426950408889634) + R(0.5));
    // The first part of ln 2 has few bits, so that n times it is exact.
    R r = (y - n * R(0.693359375)) - n * R(-2.1219444005469057e-4);
    R s;
    if constexpr (DOUBLE) {
        s = 1.0 / 87178291200.0;
        s = s * r + 1.0 / 6227020800.0;
        s = s * r + 1.0 / 479001600.0;
        s = s * r + 1.0 / 39916800.0;
        s = s * r + 1.0 / 3628800.0;
        s = s * r + 1.0 / 362880.0;
        s = s * r + 1.0 / 40320.0;
        s = s * r + 1.0 / 5040.0;
    } else {
        s = R(1.0 / 40320.0);
        s = s * r + R(1.0 / 5040.0);
    }
    s = s * r + R(1.0 / 720.0);
    s = s * r + R(1.0 / 120.0);
    s = s * r + R(1.0 / 24.0);
    s = s * r + R(1.0 / 6.0);
    s = s * r + R(0.5);
    R e = r + r * r * s;
    // The power in two halves: it underflows gradually, and 2**128 is no float where exp(88.5) is.
    int power = x == x ? static_cast<int>(n) : 0;
    int half = power >> 1;
    R low = power_of_two<R>(half), high = power_of_two<R>(power - half);
    R big = (low + low * e) * high;
    R small = (low * e) * high + (low * high - R(1));
    whole = x == x ? big : x;
    less_one = x != x ? x : power == 0 ? e : power > 60 ? big : small;
}

// c and 1 - c from the gate, as carries of type K.
template <int GATE, class K, class S>
struct Gate {
    K c, rest;

    DEVICE explicit Gate(S a) {
        if constexpr (GATE == VALUE) {
            c = to<K>(a);
            rest = to<K>(1.0) - c;
        } else if constexpr (GATE == LOGIT) {
            S whole, unused;
            exponentials<S>(-fabs(a), whole, unused);
            K small = static_cast<K>(whole / (S(1) + whole)), large = K(1) - small;
            // Both are NaN where a is.
            c = a < S(0) ? small : large;
            rest = a < S(0) ? large : small;
        } else if constexpr (!is_complex<S>) {
            S whole, less;
            exponentials<S>(a, whole, less);
            c = fabs(a) < S(0.5) ? K(1) + static_cast<K>(less) : static_cast<K>(whole);
            rest = -static_cast<K>(less);
        } else {
            // exp(x + iy) - 1 = expm1(x) cos y - 2 sin(y/2)**2 + i exp(x) sin y
            typedef typename Kind<S>::Real R;
            typedef typename Kind<K>::Real Wide;
            R whole, less;
            exponentials<R>(a.re, whole, less);
            R sine, half;
            if constexpr (sizeof(R) == 8) {
                sine = sin(a.im), half = sin(R(0.5) * a.im);
            } else {
                sine = sinf(a.im), half = sinf(R(0.5) * a.im);
            }
            R dip = R(2) * half * half;
            R rest_re = dip - less * (R(1) - dip);
            bool near = size_of(a) < R(0.5);
            // exp(-inf + iy) is 0 for every y, and exp(x + 0i) has no imaginary part: no 0 * NaN, no inf * 0.
            R im = whole == R(0) ? whole : a.im == R(0) ? a.im : whole * sine;
            R re = whole == R(0) ? whole : whole * (R(1) - dip);
            if (whole == R(0)) rest_re = R(1);
            c.re = near ? Wide(1) - static_cast<Wide>(rest_re) : static_cast<Wide>(re);
            c.im = static_cast<Wide>(im);
            rest = K{static_cast<Wide>(rest_re), -c.im};
        }
    }

    // dx of a from that of c.
    DEVICE K pulled_back(K dc) const {
        if constexpr (GATE == VALUE) return dc;
        if constexpr (GATE == LOG) return dc * c;
        if constexpr (GATE == LOGIT) return dc * (c * rest);
    }
};
