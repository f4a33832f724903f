// The words that kernels are written in. Only this file, and fragments.cuh for matrices of f16, know whether a kernel is
// compiled for a card (nvcc) or for the emulation (a C++ compiler with -DEMULATED; see emulation.h). Both compute the same bits, but for the sums
// inside mma_bf16_16816 and mma_tf32_1688, whose order and rounding on a card nobody publishes.
//
// Neither compiler may contract a product and a sum: nvcc -fmad=false, g++ -ffp-contract=off. Blocks are rows of whole
// warps; words that a warp says together are said by all of its 32 lanes.

#pragma once

#include <stdint.h>

#ifdef EMULATED

#include "emulation.h"

#define DEVICE static inline

// KERNEL(name, Args, THREADS) { ... a.field ... }: Args is copied to the card; THREADS is the most that a block has.
#define KERNEL(name, Args, THREADS)                                                                                   \
    static void name##_thread(const Args& a);                                                                         \
    extern "C" const char* emulate_##name(uint3 grid, uint3 block, unsigned shared_bytes, const void* args) {         \
        return emulation::launch(                                                                                     \
            #name, THREADS, grid, block, shared_bytes,                                                                \
            [](const void* args) { name##_thread(*static_cast<const Args*>(args)); }, args, sizeof(Args));            \
    }                                                                                                                 \
    static emulation::Kernel name##_kernel(#name, emulate_##name, sizeof(Args));                                      \
    static void name##_thread([[maybe_unused]] const Args& a)

// A shared array of the block; holds anything at first.
#define SHARED(type, name, count)                                                                                     \
    static char name##_tag;                                                                                           \
    type(&name)[count] = *static_cast<type(*)[count]>(emulation::static_shared(&name##_tag, sizeof(type) * (count)))

DEVICE unsigned block_x() { return emulation::place.block.x; }
DEVICE unsigned block_y() { return emulation::place.block.y; }
DEVICE unsigned block_z() { return emulation::place.block.z; }
DEVICE unsigned grid_x() { return emulation::place.grid.x; }
DEVICE unsigned grid_y() { return emulation::place.grid.y; }
DEVICE unsigned grid_z() { return emulation::place.grid.z; }
DEVICE unsigned thread_x() { return emulation::place.thread; }
DEVICE unsigned block_dim() { return emulation::place.threads; }

// The dynamic shared memory of the launch, 16-byte aligned.
template <class T>
DEVICE T* shared_bytes() {
    return static_cast<T*>(emulation::dynamic_shared());
}

DEVICE void sync() { emulation::sync_block(); }
DEVICE void sync_warp() { emulation::meet(emulation::Meeting::Sync, nullptr); }

#else  // on a card

#include <cuda_fp16.h>

#define DEVICE static __device__ __forceinline__
#define KERNEL(name, Args, THREADS)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS) name(const __grid_constant__ Args a)
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]

DEVICE unsigned block_x() { return blockIdx.x; }
DEVICE unsigned block_y() { return blockIdx.y; }
DEVICE unsigned block_z() { return blockIdx.z; }
DEVICE unsigned grid_x() { return gridDim.x; }
DEVICE unsigned grid_y() { return gridDim.y; }
DEVICE unsigned grid_z() { return gridDim.z; }
DEVICE unsigned thread_x() { return threadIdx.x; }
DEVICE unsigned block_dim() { return blockDim.x; }

template <class T>
DEVICE T* shared_bytes() {
    extern __shared__ __align__(16) unsigned char dynamic_memory[];
    return reinterpret_cast<T*>(dynamic_memory);
}

DEVICE void sync() { __syncthreads(); }
DEVICE void sync_warp() { __syncwarp(); }

#endif

// ---- bits ----

DEVICE uint32_t as_u32(float x) {
#ifdef EMULATED
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
#else
    return __float_as_uint(x);
#endif
}

DEVICE float as_f32(uint32_t bits) {
#ifdef EMULATED
    float x;
    memcpy(&x, &bits, 4);
    return x;
#else
    return __uint_as_float(bits);
#endif
}

// ---- warps ----

// `x` of the lane `lane`; each lane may ask for another one.
DEVICE uint32_t shfl(uint32_t x, unsigned lane) {
#ifdef EMULATED
    emulation::Shuffle shuffle = {x, lane, 0};
    emulation::meet(emulation::Meeting::Shuffle, &shuffle);
    return shuffle.result;
#else
    return __shfl_sync(0xffffffff, x, lane);
#endif
}
DEVICE int shfl(int x, unsigned lane) { return int(shfl(uint32_t(x), lane)); }
DEVICE float shfl(float x, unsigned lane) { return as_f32(shfl(as_u32(x), lane)); }

// `x` of the lane whose number differs from this one's by the bits of `lanes`.
DEVICE uint32_t shfl_xor(uint32_t x, unsigned lanes) {
#ifdef EMULATED
    return shfl(x, thread_x() % 32 ^ lanes);
#else
    return __shfl_xor_sync(0xffffffff, x, lanes);
#endif
}
DEVICE int shfl_xor(int x, unsigned lanes) { return int(shfl_xor(uint32_t(x), lanes)); }
DEVICE float shfl_xor(float x, unsigned lanes) { return as_f32(shfl_xor(as_u32(x), lanes)); }

// The sum over the warp, the same bits in every lane: a tree of one fixed shape.
DEVICE float warp_sum(float x) {
    for (unsigned lanes = 16; lanes; lanes /= 2) x = x + shfl_xor(x, lanes);
    return x;
}

// The greatest of the warp; a NaN is passed over, as fmaxf does.
DEVICE float warp_max(float x) {
    for (unsigned lanes = 16; lanes; lanes /= 2) x = fmaxf(x, shfl_xor(x, lanes));
    return x;
}

// ---- arithmetic ----

// a * b + c, rounded once.
DEVICE float fma_(float a, float b, float c) {
#ifdef EMULATED
    return __builtin_fmaf(a, b, c);
#else
    return __fmaf_rn(a, b, c);
#endif
}

// c + the four products of signed bytes.
DEVICE int dp4a(int a, int b, int c) {
#if !defined(EMULATED)
    return __dp4a(a, b, c);
#else
    for (int i = 0; i < 32; i += 8) c += int(int8_t(a >> i)) * int(int8_t(b >> i));
    return c;
#endif
}

// Byte k of the result is that of the eight bytes of `low` and then `high` which nibble k of `which` names; its upper
// half, and the upper bit of each nibble, do not count.
DEVICE uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t which) {
#if !defined(EMULATED)
    return __byte_perm(low, high, which);
#else
    const uint64_t bytes = uint64_t(high) << 32 | low;
    uint32_t picked = 0;
    for (int k = 0; k < 4; ++k) picked |= uint32_t(bytes >> 8 * (which >> 4 * k & 7) & 0xff) << 8 * k;
    return picked;
#endif
}

// Within two units in the last place; 0 below the subnormal numbers, infinity above the greatest, NaN of NaN.
// Cody and Waite's reduction by ln 2 in two parts, and the polynomial of Cephes' expf (Moshier).
DEVICE float exp_(float x) {
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the last bits.
    const float shifted = fma_(x, 1.44269504f, 12582912.0f);
    const float n = shifted - 12582912.0f;
    float r = fma_(n, -0.693359375f, x);
    r = fma_(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = fma_(p, r, 1.3981999507e-3f);
    p = fma_(p, r, 8.3334519073e-3f);
    p = fma_(p, r, 4.1665795894e-2f);
    p = fma_(p, r, 1.6666665459e-1f);
    p = fma_(p, r, 5.0000001201e-1f);
    const float e = fma_(r * r, p, r) + 1.0f;
    // 2^n in two factors, neither of which overflows.
    const int k = int(as_u32(shifted) - 0x4b400000u);
    const int half = k >> 1;
    return e * as_f32(uint32_t(half + 127) << 23) * as_f32(uint32_t(k - half + 127) << 23);
}

// ---- narrow floats: round to nearest, ties to even; what is too large becomes infinite, NaN stays NaN ----

DEVICE float f16_to_f32(uint16_t h) {
#ifdef EMULATED
    const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    if (exponent == 31) return as_f32(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) return as_f32(sign | as_u32(float(fraction) * 0x1p-24f));
    return as_f32(sign | (exponent + 112) << 23 | fraction << 13);
#else
    return __half2float(__ushort_as_half(h));
#endif
}

DEVICE uint16_t f32_to_f16(float x) {
#ifdef EMULATED
    const uint32_t bits = as_u32(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return uint16_t(0x7fff);
    if (size >= 0x477ff000) return uint16_t(sign | 0x7c00);
    // Below 2^-14 the last bit is 2^-24: adding 0.5 brings it to the last bit of a float, rounded.
    if (size < 0x38800000) return uint16_t(sign | (as_u32(as_f32(size) + 0.5f) - 0x3f000000));
    return uint16_t(sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
#else
    return __half_as_ushort(__float2half_rn(x));
#endif
}

DEVICE float bf16_to_f32(uint16_t b) { return as_f32(uint32_t(b) << 16); }

DEVICE uint16_t f32_to_bf16(float x) {
    const uint32_t bits = as_u32(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Two neighbours of a bf16 fragment: `low` is the one of the smaller index.
DEVICE uint32_t pack_bf16(float low, float high) {
    return uint32_t(f32_to_bf16(low)) | uint32_t(f32_to_bf16(high)) << 16;
}

// The ten bits of fraction that a tf32 product reads: round to nearest, ties away from zero.
DEVICE uint32_t f32_to_tf32(float x) {
    const uint32_t bits = as_u32(x);
    return (bits & 0x7f800000) == 0x7f800000 ? bits : (bits + 0x1000) & 0xffffe000;
}

// ---- tensor cores: D += A B, with the fragments that the PTX manual lays out for these shapes ----

// For cards without bf16 and tf32 (sm_75): fma chains in K order. Lane 4 g + t has rows g and g + 8 of A and D,
// column g of B and columns 2 t and 2 t + 1 of D.
DEVICE void mma_bf16_by_hand(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    const unsigned lane = thread_x() % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (unsigned pair = 0; pair < 8; ++pair) {
        const unsigned from = pair % 4;
        const uint32_t above = shfl(a[pair / 4 * 2], 4 * g + from), below = shfl(a[pair / 4 * 2 + 1], 4 * g + from);
        const uint32_t left = shfl(b[pair / 4], 8 * t + from), right = shfl(b[pair / 4], 8 * t + 4 + from);
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
            const unsigned shift = 16 - 16 * i;
            const float up = as_f32(above << shift & 0xffff0000), down = as_f32(below << shift & 0xffff0000);
            const float l = as_f32(left << shift & 0xffff0000), r = as_f32(right << shift & 0xffff0000);
            d[0] = fma_(up, l, d[0]);
            d[1] = fma_(up, r, d[1]);
            d[2] = fma_(down, l, d[2]);
            d[3] = fma_(down, r, d[3]);
        }
    }
}

DEVICE void mma_tf32_by_hand(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    const unsigned lane = thread_x() % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (unsigned k = 0; k < 8; ++k) {
        const unsigned from = k % 4;
        const float up = as_f32(shfl(a[k / 4 * 2], 4 * g + from) & 0xffffe000);
        const float down = as_f32(shfl(a[k / 4 * 2 + 1], 4 * g + from) & 0xffffe000);
        const float l = as_f32(shfl(b[k / 4], 8 * t + from) & 0xffffe000);
        const float r = as_f32(shfl(b[k / 4], 8 * t + 4 + from) & 0xffffe000);
        d[0] = fma_(up, l, d[0]);
        d[1] = fma_(up, r, d[1]);
        d[2] = fma_(down, l, d[2]);
        d[3] = fma_(down, r, d[3]);
    }
}

// [16, 16] x [16, 8], two bf16 per word.
DEVICE void mma_bf16_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef EMULATED
    emulation::Mma mma = {d, a, b};
    emulation::meet(emulation::Meeting::MmaBf16, &mma);
#elif __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_bf16_by_hand(d, a, b);
#endif
}

// [16, 8] x [8, 8]; operands by f32_to_tf32.
DEVICE void mma_tf32_1688(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef EMULATED
    emulation::Mma mma = {d, a, b};
    emulation::meet(emulation::Meeting::MmaTf32, &mma);
#elif __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_tf32_by_hand(d, a, b);
#endif
}

#ifndef EMULATED
// [8, 16] x [16, 8], what sm_75 has for bytes.
DEVICE void mma_s8_8816(int& d0, int& d1, uint32_t a, uint32_t b) {
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(d0), "+r"(d1)
                 : "r"(a), "r"(b));
}
#endif

// [16, 32] x [32, 8], four signed bytes per word.
DEVICE void mma_s8_16832(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef EMULATED
    emulation::Mma mma = {d, a, b};
    emulation::meet(emulation::Meeting::MmaS8x32, &mma);
#elif __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_s8_8816(d[0], d[1], a[0], b[0]);
    mma_s8_8816(d[2], d[3], a[1], b[0]);
    mma_s8_8816(d[0], d[1], a[2], b[1]);
    mma_s8_8816(d[2], d[3], a[3], b[1]);
#endif
}

// [16, 16] x [16, 8], four signed bytes per word.
DEVICE void mma_s8_16816(int (&d)[4], const uint32_t (&a)[2], uint32_t b) {
#ifdef EMULATED
    emulation::Mma mma = {d, a, &b};
    emulation::meet(emulation::Meeting::MmaS8x16, &mma);
#elif __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
#else
    mma_s8_8816(d[0], d[1], a[0], b);
    mma_s8_8816(d[2], d[3], a[1], b);
#endif
}

// ---- memory ----

// Starts a copy of 16 bytes (zeros when they are not wanted) to shared memory. It has arrived for this thread after
// cp_async_commit() and a cp_async_wait<N>() that leaves at most N later commits open; for others after sync().
DEVICE void cp_async_16(void* shared, const void* global, bool wanted) {
#ifdef EMULATED
    emulation::copy_async(shared, global, wanted);
#elif __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(unsigned(__cvta_generic_to_shared(shared))),
                 "l"(global), "r"(wanted ? 16 : 0)
                 : "memory");
#else
    *static_cast<uint4*>(shared) = wanted ? *static_cast<const uint4*>(global) : make_uint4(0, 0, 0, 0);
#endif
}

DEVICE void cp_async_commit() {
#ifdef EMULATED
    emulation::copy_commit();
#elif __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int N>
DEVICE void cp_async_wait() {
#ifdef EMULATED
    emulation::copy_wait(N);
#elif __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// Reads 16 bytes that nobody reads again: weights, which would drive everything else out of the cache.
DEVICE uint4 load_once(const uint4* from) {
#ifdef EMULATED
    return *from;
#else
    return __ldcs(from);
#endif
}

// Lowers a number in global memory to `value`, whoever else does.
DEVICE void atomic_min(uint64_t* at, uint64_t value) {
#ifdef EMULATED
    if (value < *at) *at = value;
#else
    atomicMin(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(value));
#endif
}
