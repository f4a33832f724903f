// What a card does at most: bytes read and copied, products on the tensor cores, f32 fused. No model is computed with
// these; see src/rates.rs, which knows how much a turn is.

#include "machine.cuh"

// Mirrored in src/rates.rs.
struct MeasureArgs {
    const uint4* from;
    // As much memory as there is to read, and an entry for every thread of a block at least.
    uint4* to;
    // A multiple of what all threads take at a time.
    uint64_t words;
    uint64_t turns;
};

constexpr unsigned MEASURE_THREADS = 256;
// Products and sums of a thread that do not wait for each other.
constexpr unsigned CHAINS = 8;

// Words that a thread takes at a time, before it waits for any.
constexpr unsigned WORDS = 4;

// The next words of the thread, neighbours reading neighbours.
DEVICE void read_words(uint4 (&words)[WORDS], const uint4* from, uint64_t apart) {
#pragma unroll
    for (unsigned k = 0; k < WORDS; ++k) words[k] = load_once(from + k * apart);
}

// Stores what compilers must believe to be wanted.
DEVICE void want(const MeasureArgs& a, uint32_t result) {
    if (result == 0x7fedcba9) a.to[thread_x()] = make_uint4(result, 0, 0, 0);
}

// Numbers that differ: with equal ones a card needs less power and may run faster.
DEVICE uint32_t mixed(unsigned i) {
    uint32_t x = (block_x() * MEASURE_THREADS + thread_x()) * 8 + i + 1;
    x *= 0x9e3779b1;
    x ^= x >> 15;
    x *= 0x85ebca77;
    return x ^ x >> 13;
}

KERNEL(measure_read, MeasureArgs, MEASURE_THREADS) {
    const uint64_t all_threads = uint64_t(grid_x()) * MEASURE_THREADS;
    uint32_t all = 0;
    for (uint64_t turn = 0; turn < a.turns; ++turn) {
        for (uint64_t i = block_x() * MEASURE_THREADS + thread_x(); i < a.words; i += WORDS * all_threads) {
            uint4 words[WORDS];
            read_words(words, a.from + i, all_threads);
#pragma unroll
            for (unsigned k = 0; k < WORDS; ++k) all ^= words[k].x ^ words[k].y ^ words[k].z ^ words[k].w;
        }
        all = all * 3 + 1;
    }
    want(a, all);
}

KERNEL(measure_copy, MeasureArgs, MEASURE_THREADS) {
    const uint64_t all_threads = uint64_t(grid_x()) * MEASURE_THREADS;
    for (uint64_t turn = 0; turn < a.turns; ++turn) {
        for (uint64_t i = block_x() * MEASURE_THREADS + thread_x(); i < a.words; i += WORDS * all_threads) {
            uint4 words[WORDS];
            read_words(words, a.from + i, all_threads);
#pragma unroll
            for (unsigned k = 0; k < WORDS; ++k) a.to[i + k * all_threads] = words[k];
        }
    }
}

KERNEL(measure_int8, MeasureArgs, MEASURE_THREADS) {
    const uint32_t x[4] = {mixed(0), mixed(1), mixed(2), mixed(3)}, y[2] = {mixed(4), mixed(5)};
    int sums[CHAINS][4] = {};
    for (uint64_t turn = 0; turn < a.turns; ++turn) {
#pragma unroll
        for (unsigned k = 0; k < CHAINS; ++k) mma_s8_16832(sums[k], x, y);
    }
    uint32_t all = 0;
    for (unsigned k = 0; k < CHAINS; ++k) all ^= uint32_t(sums[k][0] ^ sums[k][1] ^ sums[k][2] ^ sums[k][3]);
    want(a, all);
}

KERNEL(measure_bf16, MeasureArgs, MEASURE_THREADS) {
    // Two numbers of either sign between 1 and 2 in each word.
    uint32_t x[4], y[2];
    for (unsigned i = 0; i < 4; ++i) x[i] = (mixed(i) & 0x807f807f) | 0x3f803f80;
    for (unsigned i = 0; i < 2; ++i) y[i] = (mixed(4 + i) & 0x807f807f) | 0x3f803f80;
    float sums[CHAINS][4] = {};
    for (uint64_t turn = 0; turn < a.turns; ++turn) {
#pragma unroll
        for (unsigned k = 0; k < CHAINS; ++k) mma_bf16_16816(sums[k], x, y);
    }
    float all = 0.0f;
    for (unsigned k = 0; k < CHAINS; ++k) all = all + (sums[k][0] + sums[k][1]) + (sums[k][2] + sums[k][3]);
    want(a, as_u32(all));
}

KERNEL(measure_f32, MeasureArgs, MEASURE_THREADS) {
    // Between 1 and 2, towards 1 from there.
    float sums[CHAINS];
    for (unsigned k = 0; k < CHAINS; ++k) sums[k] = as_f32(mixed(k) >> 9 | 0x3f800000);
    for (uint64_t turn = 0; turn < a.turns; ++turn) {
#pragma unroll
        for (unsigned k = 0; k < CHAINS; ++k) sums[k] = fma_(sums[k], 0.99f, 0.01f);
    }
    float all = 0.0f;
    for (unsigned k = 0; k < CHAINS; ++k) all = all + sums[k];
    want(a, as_u32(all));
}
