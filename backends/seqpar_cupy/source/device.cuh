// What the kernels ask of a GPU and C++ has no words for: copies that run on their own, exchange between the lanes of a
// warp, half precision. Everything else is plain C++, so that another version of this file makes it run anywhere.
// No headers: users have no CUDA toolkit on the path of the run-time compiler.

#define DEVICE __device__ __forceinline__

// Shared memory of the block, as much as the launch asked for.
DEVICE unsigned char* shared_memory() {
    extern __shared__ __align__(16) unsigned char shared_buffer[];
    return shared_buffer;
}

// Start to copy SIZE bytes (4, 8 or 16, and both addresses multiples of it) into shared memory. 16 bytes bypass the first
// cache, which only copies of less than a sector need.
template <int SIZE>
DEVICE void copy_async(void* to, const void* from) {
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    if constexpr (SIZE == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(from), "n"(SIZE) : "memory");
    }
}

// Copies started since the last call are one batch, in the order of the calls.
DEVICE void close_batch() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait until at most YOUNGER of this thread's batches have not arrived.
template <int YOUNGER>
DEVICE void wait_for_batch() {
    asm volatile("cp.async.wait_group %0;" ::"n"(YOUNGER) : "memory");
}

// 8 or 16 bytes at once, from and to addresses that are multiples of that. Left to itself the compiler takes some of them apart.
// What is read here is written by no kernel at the same time.
template <int SIZE>
DEVICE void load_words(const void* from, unsigned* to) {
    if constexpr (SIZE == 16) {
        asm volatile("ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "l"(from));
    } else {
        asm volatile("ld.global.nc.v2.b32 {%0, %1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(from));
    }
}
template <int SIZE>
DEVICE void store_words(void* to, const unsigned* from) {
    if constexpr (SIZE == 16) {
        asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(from[0]), "r"(from[1]), "r"(from[2]),
                     "r"(from[3])
                     : "memory");
    } else {
        asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(from[0]), "r"(from[1]) : "memory");
    }
}

constexpr unsigned ALL_LANES = 0xffffffffu;

DEVICE int lane_number() { return threadIdx.x & 31; }
DEVICE unsigned from_lane(unsigned x, int lane) { return __shfl_sync(ALL_LANES, x, lane); }
DEVICE unsigned lanes_where(bool x) { return __ballot_sync(ALL_LANES, x); }

DEVICE float float_of_half(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
DEVICE unsigned short half_of_float(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
DEVICE unsigned short bfloat_of_float(float x) {
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
DEVICE unsigned bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of_bits(unsigned bits) { return __uint_as_float(bits); }
DEVICE double double_of_bits(long long bits) { return __longlong_as_double(bits); }
