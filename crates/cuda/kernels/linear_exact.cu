// Products in f32 with weights decoded to the numbers that glimmer_tensor::quant defines: the truth, not the fast way.
//
// Columns are cut into chunks of 32. Within a chunk the products of an output are added up one after the other from
// zero; the sums of the chunks are added up in order. That is the order of the processor's f32 mode, and its bits.
//
// A block of threads computes a tile of 16 outputs for 8 rows: sixteen chunks at a time, each by 16 threads that have
// an output each.

#include "linear.cuh"

constexpr unsigned EXACT_ROWS = 8;
constexpr unsigned EXACT_CHUNKS = 16;
constexpr unsigned EXACT_THREADS = EXACT_CHUNKS * TILE;

template <WeightType TYPE>
DEVICE void linear_exact(const LinearArgs& a) {
    SHARED(float, sums, EXACT_CHUNKS * EXACT_ROWS * TILE);
    SHARED(float, totals, EXACT_ROWS * TILE);
    const unsigned first = block_y() * EXACT_ROWS, all = *a.rows;
    if (first >= all) return;
    const unsigned rows = min(all - first, EXACT_ROWS);
    const unsigned r = thread_x() % TILE, slot = thread_x() / TILE;
    const uint8_t* tile = a.weights + block_x() * a.tile_bytes;
    const float* x = reinterpret_cast<const float*>(a.x) + size_t(first) * a.columns;
    float total = 0.0f;
    for (unsigned from = 0; from < a.blocks; from += EXACT_CHUNKS) {
        const unsigned b = from + slot;
        if (b < a.blocks) {
            float w[32];
            exact<TYPE>(tile, b, r, w);
            const unsigned columns = min(a.columns - 32 * b, 32u);
            for (unsigned n = 0; n < rows; ++n) {
                const float* at = x + size_t(n) * a.columns + 32 * b;
                float sum = 0.0f;
                if (columns == 32 && a.columns % 4 == 0) {
#pragma unroll
                    for (unsigned k = 0; k < 32; k += 4) {
                        const float4 four = *reinterpret_cast<const float4*>(at + k);
                        sum = fma_(w[k], four.x, sum);
                        sum = fma_(w[k + 1], four.y, sum);
                        sum = fma_(w[k + 2], four.z, sum);
                        sum = fma_(w[k + 3], four.w, sum);
                    }
                } else {
#pragma unroll
                    for (unsigned k = 0; k < 32; ++k) {
                        if (k < columns) sum = fma_(w[k], at[k], sum);
                    }
                }
                sums[(slot * EXACT_ROWS + n) * TILE + r] = sum;
            }
        }
        sync();
        // The thread of output `r` and row `slot`, of which there are fewer than threads.
        if (slot < rows) {
            for (unsigned c = 0; c < min(a.blocks - from, EXACT_CHUNKS); ++c) {
                const float sum = sums[(c * EXACT_ROWS + slot) * TILE + r];
                // The first sum itself, not zero plus it: zeros have signs.
                total = from + c == 0 ? sum : total + sum;
            }
        }
        sync();
    }
    if (slot < rows) totals[slot * TILE + r] = total;
    sync();
    store_tile(a, block_x(), first, rows, [&](unsigned n, unsigned r) { return totals[n * TILE + r]; });
}

#define EXACT(TYPE, name)                                                                                             \
    KERNEL(linear_exact_##name, LinearArgs, EXACT_THREADS) { linear_exact<TYPE>(a); }
INTEGER_TYPES(EXACT)
FLOAT_TYPES(EXACT)
