// Activations as the products take them, and the activation function of a gated product whose halves have different
// weight types. What is prepared has rows of whole blocks of 32 columns; missing columns are zeros.

#include "linear.cuh"

// Mirrored in src/linear.rs.
struct PrepareArgs {
    const uint32_t* rows;
    // [rows, columns]
    const float* x;
    // [rows, 32 * blocks] of bytes, bf16 or f32.
    uint8_t* out;
    // [blocks, side_stride], of integers.
    uint2* side;
    uint32_t columns;
    uint32_t blocks;
    uint32_t side_stride;
    // Whether the sums of a block's halves are kept, as integers, and not that of the block.
    uint32_t halves;
};

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

DEVICE float element(const PrepareArgs& a, unsigned row, unsigned column) {
    return column < a.columns ? a.x[size_t(row) * a.columns + column] : 0.0f;
}

// Signed bytes: a block's scale is its greatest magnitude / 127, its integers are rounded to nearest, ties to even. Not
// finite: the scale is not a number, and so are all outputs of the row. Below 1e-36 everywhere: zeros.
//
// Eight threads quantize a block, a quad each; quads are stored in the order 0 4 1 5 2 6 3 7, two that a tensor core's
// thread takes together. Beside a block lie its scale and the sum of its integers, the latter as a float (or in halves,
// as two integers of 16 bits).
KERNEL(prepare_bytes, PrepareArgs, PREPARE_THREADS) {
    const unsigned row = block_y(), quad = thread_x() % 8;
    const unsigned block = block_x() * (PREPARE_THREADS / 8) + thread_x() / 8;
    if (row >= *a.rows) return;
    float x[4];
    uint32_t greatest = 0;
    for (unsigned k = 0; k < 4; ++k) {
        x[k] = element(a, row, 32 * block + 4 * quad + k);
        // Without their sign, the bits of floats are ordered as the floats are, with what is not finite on top.
        greatest = max(greatest, as_u32(x[k]) & 0x7fffffff);
    }
    for (unsigned lanes = 1; lanes < 8; lanes *= 2) greatest = max(greatest, shfl_xor(greatest, lanes));
    const float size = as_f32(greatest);
    const bool finite = greatest < 0x7f800000, zero = !finite || size < 1e-36f;
    const float inverse = zero ? 0.0f : 127.0f / size;
    const float scale = !finite ? as_f32(0x7fc00000) : zero ? 0.0f : size / 127.0f;
    uint32_t word = 0;
    int sum = 0;
    for (unsigned k = 0; k < 4; ++k) {
        // Adding 1.5 * 2^23 leaves the rounded value in the low bits.
        const int q = zero ? 0 : int(int8_t(as_u32(x[k] * inverse + 12582912.0f)));
        sum += q;
        word |= uint32_t(q & 0xff) << 8 * k;
    }
    // Quads 0 to 3, and quads 4 to 7.
    sum += shfl_xor(sum, 1);
    sum += shfl_xor(sum, 2);
    const int other = shfl_xor(sum, 4);
    if (block >= a.blocks) return;
    const size_t at = size_t(row) * a.blocks + block;
    reinterpret_cast<uint32_t*>(a.out)[at * 8 + quad % 4 * 2 + quad / 4] = word;
    if (quad == 0) {
        const uint32_t sums = a.halves ? (uint32_t(sum) & 0xffff) | uint32_t(other) << 16 : as_u32(float(sum + other));
        a.side[size_t(block) * a.side_stride + row] = make_uint2(as_u32(scale), sums);
    }
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
