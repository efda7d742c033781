// The words of device.cuh and of CUDA C++ for a host compiler: one thread of a warp after the other, each on its own stack.
// Copies that run on their own arrive when they are waited for and not before, so that reading too early shows.

#define DEVICE inline
#define __launch_bounds__(...)
#define __global__

typedef decltype(sizeof(0)) size_type;
struct Index {
    unsigned x, y, z;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;

extern "C" {
unsigned char* emulated_shared_memory();
void emulated_copy(void* to, const void* from, int size);
void emulated_check_address(const void* at, int size);
void emulated_close_batch();
void emulated_wait(int younger);
unsigned emulated_exchange(unsigned x, int lane);
unsigned emulated_ballot(bool x);
int emulated_launch(const unsigned* grid, unsigned threads, size_type shared, void (*thread)(const void*), const void* words);
}

DEVICE unsigned char* shared_memory() { return emulated_shared_memory(); }
template <int SIZE>
DEVICE void copy_async(void* to, const void* from) {
    static_assert(SIZE == 4 || SIZE == 8 || SIZE == 16, "no such copy");
    emulated_copy(to, from, SIZE);
}
DEVICE void close_batch() { emulated_close_batch(); }
template <int YOUNGER>
DEVICE void wait_for_batch() {
    emulated_wait(YOUNGER);
}

template <int SIZE>
DEVICE void load_words(const void* from, unsigned* to) {
    static_assert(SIZE == 8 || SIZE == 16, "no such load");
    emulated_check_address(from, SIZE);
    __builtin_memcpy(to, from, SIZE);
}
template <int SIZE>
DEVICE void store_words(void* to, const unsigned* from) {
    static_assert(SIZE == 8 || SIZE == 16, "no such store");
    emulated_check_address(to, SIZE);
    __builtin_memcpy(to, from, SIZE);
}

DEVICE int lane_number() { return threadIdx.x & 31; }
DEVICE unsigned from_lane(unsigned x, int lane) { return emulated_exchange(x, lane & 31); }
DEVICE unsigned lanes_where(bool x) { return emulated_ballot(x); }

DEVICE unsigned bits_of(float x) { return __builtin_bit_cast(unsigned, x); }
DEVICE float float_of_bits(unsigned bits) { return __builtin_bit_cast(float, bits); }
DEVICE double double_of_bits(long long bits) { return __builtin_bit_cast(double, bits); }
DEVICE float fabsf(float x) { return __builtin_fabsf(x); }
DEVICE double fabs(double x) { return __builtin_fabs(x); }
DEVICE float fabs(float x) { return __builtin_fabsf(x); }
DEVICE double copysign(double x, double y) { return __builtin_copysign(x, y); }
DEVICE double floor(double x) { return __builtin_floor(x); }
DEVICE float floor(float x) { return __builtin_floorf(x); }
DEVICE double sin(double x) { return __builtin_sin(x); }
DEVICE float sinf(float x) { return __builtin_sinf(x); }

DEVICE unsigned short bfloat_of_float(float x) {
    unsigned bits = __builtin_bit_cast(unsigned, x);
    if (x != x) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
DEVICE float float_of_half(unsigned short bits) {
    unsigned sign = static_cast<unsigned>(bits & 0x8000) << 16, rest = bits & 0x7fff;
    if (rest >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    // A half read as a float is 2**112 too small.
    return __builtin_copysignf(float_of_bits(rest << 13) * 0x1p112f, float_of_bits(sign));
}
DEVICE unsigned short half_of_float(float x) {
    unsigned bits = __builtin_bit_cast(unsigned, x), sign = bits >> 16 & 0x8000;
    float size = __builtin_fabsf(x);
    if (x != x) return 0x7fff;
    if (size >= 65520.0f) return sign | 0x7c00;
    // Below 2**-14 the last bit is 2**-24; adding 1/2 puts it at the end of a float's own.
    if (size < 0x1p-14f) return sign | ((__builtin_bit_cast(unsigned, size + 0.5f)) & 0x7ff);
    bits &= 0x7fffffff;
    return sign | ((bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13);
}
