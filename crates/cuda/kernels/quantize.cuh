// Activations as signed bytes: what products with quantized weights take.

#pragma once

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

DEVICE float element(const PrepareArgs& a, unsigned row, unsigned column) {
    return column < a.columns ? a.x[size_t(row) * a.columns + column] : 0.0f;
}

// Signed bytes: a block's scale is its greatest magnitude / 127, its integers are rounded to nearest, ties to even. Not
// finite: the scale is not a number, and so are all outputs of the row. Below 1e-36 everywhere: zeros.
//
// Eight threads quantize a block, a quad each; quads are stored in the order 0 4 1 5 2 6 3 7, two that a tensor core's
// thread takes together. Beside a block lie its scale and the sum of its integers, the latter as a float (or in halves,
// as two integers of 16 bits).
DEVICE void quantize_block(const PrepareArgs& a, unsigned row, unsigned block) {
    const unsigned quad = thread_x() % 8;
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
