// A unit of 32 columns of plain floats on the tensor cores: bf16 weights with bf16 activations, f16 and f32 weights as
// tf32 with tf32 activations. Lane 4 g + t has columns 8 t to 8 t + 7 of rows g and g + 8 of the tile, and of row g of
// the activations.

#pragma once

#include "decode.cuh"

template <WeightType TYPE>
struct FloatProduct {
    static constexpr unsigned STEPS = Weights<TYPE>::STEPS;
    static constexpr unsigned UNIT = Weights<TYPE>::UNIT;
    // Bytes of a unit's activations.
    static constexpr unsigned X_UNIT = TYPE == BF16 ? 64 : 128;
    // Sixteen-byte words of them that a lane has.
    static constexpr unsigned X_WORDS = X_UNIT / 64;

    struct Row {
        uint4 step[STEPS];
    };
    struct Columns {
        uint4 words[X_WORDS];
    };

    // The lane's weights; `at` is its place in the unit's first step.
    DEVICE Row row(const uint8_t* at) {
        Row row;
#pragma unroll
        for (unsigned s = 0; s < STEPS; ++s) row.step[s] = load_once(reinterpret_cast<const uint4*>(at + 512 * s));
        return row;
    }

    // The lane's activations, in global or shared memory.
    DEVICE Columns columns(const uint8_t* at) {
        Columns columns;
#pragma unroll
        for (unsigned i = 0; i < X_WORDS; ++i) columns.words[i] = load<uint4>(at + 16 * i);
        return columns;
    }

    // Products in the order of the steps. All lanes of a warp together.
    DEVICE void multiply(float (&sum)[4], const Row& row, const Columns& x) {
        if constexpr (TYPE == BF16) {
            product_bf16(sum, row.step[0], x.words[0].x, x.words[0].y);
            product_bf16(sum, row.step[1], x.words[0].z, x.words[0].w);
        } else if constexpr (TYPE == F16) {
            product_tf32(sum, halves(row.step[0].x, row.step[0].y), x.words[0].x, x.words[0].y);
            product_tf32(sum, halves(row.step[0].z, row.step[0].w), x.words[0].z, x.words[0].w);
            product_tf32(sum, halves(row.step[1].x, row.step[1].y), x.words[1].x, x.words[1].y);
            product_tf32(sum, halves(row.step[1].z, row.step[1].w), x.words[1].z, x.words[1].w);
        } else {
            product_tf32(sum, rounded(row.step[0]), x.words[0].x, x.words[0].y);
            product_tf32(sum, rounded(row.step[1]), x.words[0].z, x.words[0].w);
            product_tf32(sum, rounded(row.step[2]), x.words[1].x, x.words[1].y);
            product_tf32(sum, rounded(row.step[3]), x.words[1].z, x.words[1].w);
        }
    }

    DEVICE void product_bf16(float (&sum)[4], const uint4& w, uint32_t x0, uint32_t x1) {
        const uint32_t a[4] = {w.x, w.y, w.z, w.w}, b[2] = {x0, x1};
        mma_bf16_16816(sum, a, b);
    }

    DEVICE void product_tf32(float (&sum)[4], const uint4& w, uint32_t x0, uint32_t x1) {
        const uint32_t a[4] = {w.x, w.y, w.z, w.w}, b[2] = {x0, x1};
        mma_tf32_1688(sum, a, b);
    }

    // Four halves, which tf32 holds exactly.
    DEVICE uint4 halves(uint32_t low, uint32_t high) {
        return make_uint4(as_u32(f16_to_f32(uint16_t(low))), as_u32(f16_to_f32(uint16_t(low >> 16))),
                          as_u32(f16_to_f32(uint16_t(high))), as_u32(f16_to_f32(uint16_t(high >> 16))));
    }

    DEVICE uint4 rounded(const uint4& w) {
        return make_uint4(f32_to_tf32(as_f32(w.x)), f32_to_tf32(as_f32(w.y)), f32_to_tf32(as_f32(w.z)),
                          f32_to_tf32(as_f32(w.w)));
    }
};
