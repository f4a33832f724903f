// Activations as the products take them, and the activation function of a gated product whose halves have different
// weight types. What is prepared has rows of whole blocks of 32 columns; missing columns are zeros.

#include "quantize.cuh"

struct SwiGluArgs {
    const uint32_t* rows;
    // [rows, 2 * width]: gates, then values.
    const float* x;
    // [rows, width]
    float* out;
    uint32_t width;
    uint32_t unused;
};

constexpr unsigned PREPARE_THREADS = 128;

KERNEL(prepare_bytes, PrepareArgs, PREPARE_THREADS) {
    if (block_y() >= *a.rows) return;
    quantize_block(a, block_y(), block_x() * (PREPARE_THREADS / 8) + thread_x() / 8);
}

KERNEL(prepare_bf16, PrepareArgs, PREPARE_THREADS) {
    const unsigned row = block_y(), pair = block_x() * PREPARE_THREADS + thread_x();
    if (row >= *a.rows || pair >= 16 * a.blocks) return;
    reinterpret_cast<uint32_t*>(a.out)[size_t(row) * 16 * a.blocks + pair] =
        pack_bf16(element(a, row, 2 * pair), element(a, row, 2 * pair + 1));
}

KERNEL(prepare_tf32, PrepareArgs, PREPARE_THREADS) {
    const unsigned row = block_y(), column = block_x() * PREPARE_THREADS + thread_x();
    if (row >= *a.rows || column >= 32 * a.blocks) return;
    reinterpret_cast<uint32_t*>(a.out)[size_t(row) * 32 * a.blocks + column] = f32_to_tf32(element(a, row, column));
}

KERNEL(swiglu, SwiGluArgs, PREPARE_THREADS) {
    const unsigned row = block_y(), column = block_x() * PREPARE_THREADS + thread_x();
    if (row >= *a.rows || column >= a.width) return;
    const float* x = a.x + size_t(row) * 2 * a.width;
    a.out[size_t(row) * a.width + column] = silu(x[column]) * x[a.width + column];
}
