// What a row of logits is chosen from: the largest of its values with their places, and what all of them weigh
// (tensor/src/candidates.rs, to the bit).
//
// A value and its place are one number, a key: the larger value has the larger one, and of equal values the first. 0 is no
// key. `candidates` leaves of each CHUNK of values, or of the keys that it left before, the KEPT largest in order, so that a
// few launches leave those of a row.

#include "args.cuh"

namespace {

constexpr unsigned THREADS = 256;
constexpr unsigned CHUNK = 4096;
constexpr unsigned KEPT = 64;

DEVICE uint64_t key_of(float value, uint32_t at) {
    // A zero has no sign.
    const uint32_t bits = as_u32(value + 0.0f);
    const uint32_t ordered = bits & 0x80000000 ? ~bits : bits | 0x80000000;
    return uint64_t(ordered) << 32 | uint32_t(~at);
}

DEVICE float value_of(uint64_t key) {
    const uint32_t ordered = uint32_t(key >> 32);
    return as_f32(ordered & 0x80000000 ? ordered ^ 0x80000000 : ~ordered);
}

DEVICE void order(uint64_t* keys, unsigned at, unsigned stride, bool falling) {
    const uint64_t a = keys[at], b = keys[at + stride];
    if (falling ? a < b : a > b) {
        keys[at] = b;
        keys[at + stride] = a;
    }
}

// One step of sorting: the pairs `stride` apart of runs of KEPT keys, the first of which lie `apart` runs from one another.
// Of blocks of `block` keys in turns one falls and one rises.
DEVICE void order_runs(uint64_t* keys, unsigned runs, unsigned apart, unsigned stride, unsigned block) {
    for (unsigned i = thread_x(); i < runs * (KEPT / 2); i += THREADS) {
        const unsigned run = i / (KEPT / 2), pair = i % (KEPT / 2);
        const unsigned at = pair / stride * 2 * stride + pair % stride;
        order(keys, run * apart * KEPT + at, stride, (run * KEPT + at) / block % 2 == 0);
    }
    sync();
}

// The KEPT largest of CHUNK keys come first, in falling order (Batcher's bitonic sort, of runs as long as what is kept; of
// two sorted runs, one falling and one rising, the larger of each pair are the largest of both).
DEVICE void keep_largest(uint64_t* keys) {
    constexpr unsigned RUNS = CHUNK / KEPT;
    for (unsigned block = 2; block <= KEPT; block *= 2)
        for (unsigned stride = block / 2; stride; stride /= 2) order_runs(keys, RUNS, 1, stride, block);
    for (unsigned apart = 2; apart <= RUNS; apart *= 2) {
        const unsigned runs = RUNS / apart;
        for (unsigned i = thread_x(); i < runs * KEPT; i += THREADS) {
            const unsigned at = i / KEPT * apart * KEPT + i % KEPT;
            const uint64_t other = keys[at + apart / 2 * KEPT];
            if (keys[at] < other) keys[at] = other;
        }
        sync();
        for (unsigned stride = KEPT / 2; stride; stride /= 2) order_runs(keys, runs, apart, stride, KEPT);
    }
}

// As `exp` there, of which the compilers must not make other sums.
DEVICE float exp_of(float x) {
    const bool low = x < -87.0f;
    x = low ? 0.0f : x;
    const float shifted = x * 1.44269504088896340736f + 12582912.0f;
    const float n = shifted - 12582912.0f;
    const float r = x - n * 0.6933594f + n * 2.1219444e-4f;
    float p = 1.9875691e-4f;
    p = p * r + 1.3982e-3f;
    p = p * r + 8.333452e-3f;
    p = p * r + 4.1665796e-2f;
    p = p * r + 1.6666665e-1f;
    p = p * r + 0.5f;
    const float y = (p * r * r + r + 1.0f) * as_f32((as_u32(shifted) - 0x4b400000u + 127) << 23);
    return low ? 0.0f : y > 1.0f ? 1.0f : y;
}

}  // namespace

// A block per row and chunk.
KERNEL(candidates, CandidatesArgs, 256) {
    if (block_x() >= *a.rows) return;
    SHARED(uint64_t, keys, CHUNK);
    const unsigned from = block_y() * CHUNK;
    for (unsigned i = thread_x(); i < CHUNK; i += THREADS) {
        const unsigned at = from + i;
        uint64_t key = 0;
        if (at < a.count)
            key = a.x ? key_of(a.x[uint64_t(block_x()) * a.count + at], at) : a.keys[uint64_t(block_x()) * a.count + at];
        keys[i] = key;
    }
    sync();
    keep_largest(keys);
    uint64_t* out = a.out + uint64_t(block_x()) * a.stride + block_y() * KEPT;
    for (unsigned i = thread_x(); i < KEPT; i += THREADS) out[i] = keys[i];
}

// The weights of a chunk of a row, summed in as many lanes as there are threads.
KERNEL(weigh, WeighArgs, 256) {
    if (block_x() >= *a.rows) return;
    SHARED(double, lanes, THREADS);
    double* row = a.row + uint64_t(block_x()) * a.stride;
    uint64_t first;
    memcpy(&first, row, 8);
    const float largest = value_of(first), temperature = a.temperatures[block_x()];
    const float* x = a.x + uint64_t(block_x()) * a.width;
    double sum = 0;
    for (unsigned i = block_y() * CHUNK + thread_x(); i < min(a.width, (block_y() + 1) * CHUNK); i += THREADS)
        sum += double(exp_of((x[i] - largest) / temperature));
    lanes[thread_x()] = sum;
    for (unsigned half = THREADS / 2; half; half /= 2) {
        sync();
        if (thread_x() < half) lanes[thread_x()] += lanes[thread_x() + half];
    }
    if (thread_x() == 0) row[KEPT + block_y()] = lanes[0];
}
