// What the products of all kernels have in common: their arguments, the order of their sums and what happens to a sum
// before it is stored.
//
// Columns are cut into SLICES of whole units, by their number alone. In a slice products are added up in the order of
// the columns; the slices of a SECTION are added up in their order, and then the sections. Kernels for few rows and for
// many rows do the same arithmetic, so that a row's bits do not depend on its company: the former have threads for
// every slice, the latter for all of them or, where there are not rows enough to fill a card, for a section. (In f32
// mode there are chunks of 32 columns instead, as on the processor: see linear_exact.cu.)

#pragma once

#include "decode.cuh"

// Mirrored in src/linear.rs.
struct LinearArgs {
    // How many rows.
    const uint32_t* rows;
    // The tiles of a segment: outputs whose weights have one type.
    const uint8_t* weights;
    // The activations: f32 [rows, columns] for exact products; otherwise as quantize.cu leaves them.
    const uint8_t* x;
    // Of integers: a scale and a sum for each block of 32 columns, [blocks, side_stride].
    const uint2* side;
    // [tiles, 16], or null.
    const float* bias;
    // The residual's other addend, of the output's shape; may be the output.
    const float* from;
    // [rows, out_width]
    float* out;
    // [SECTIONS, 64, 16 * tiles]: sums of sections, for linear_fold; or null.
    float* sections;
    uint64_t tile_bytes;
    uint32_t tiles;
    // Units of a tile, and its blocks of 32 columns.
    uint32_t units;
    uint32_t blocks;
    // Columns of the matrix; only exact products end within a block.
    uint32_t columns;
    // Bytes of a row of `x`, and entries of a row of `side`.
    uint32_t x_stride;
    uint32_t side_stride;
    // Outputs of the segment, the first of which is column `first_output` of the output.
    uint32_t outputs;
    uint32_t first_output;
    uint32_t out_width;
    // Whether the tiles have eight rows of the gate and then the eight of the value that belong to them.
    uint32_t gated;
    uint32_t epilogue;
    // The residual's factor.
    float scale;
};

// What happens to a sum. A gated segment's are multiplied whatever it says.
enum Epilogue { NOTHING, RESIDUAL, GELU };

constexpr unsigned SLICES = 16;
// Slices of a section, and how many sections there are.
constexpr unsigned SECTION = 4;
constexpr unsigned SECTIONS = SLICES / SECTION;

// The first unit of slice `i`.
DEVICE unsigned slice_begin(unsigned i, unsigned units) { return unsigned(uint64_t(i) * units / SLICES); }

// The sum of all slices; `slice(i)` is that of one.
template <class Slice>
DEVICE float fold_slices(const Slice& slice) {
    float total = 0.0f;
#pragma unroll
    for (unsigned i = 0; i < SLICES; i += SECTION) {
        float section = 0.0f;
#pragma unroll
        for (unsigned k = 0; k < SECTION; ++k) section = section + slice(i + k);
        total = total + section;
    }
    return total;
}

// Adds a block of 32 columns to a sum: `dot` is that of the block, or of its first half with `second` that of the other.
template <class W>
DEVICE float add_block(float sum, const Scales& s, int dot, int second, const uint2& side) {
    const int total = W::HALVES ? s.part[0] * dot + s.part[1] * second : dot;
    float value = float(total) * s.scale;
    if (W::HALVES && W::MINIMA) {
        const int first_sum = int(int16_t(side.y)), second_sum = int(int16_t(side.y >> 16));
        value = fma_(float(s.minimum_part[0] * first_sum + s.minimum_part[1] * second_sum), s.minimum, value);
    } else if (W::MINIMA) {
        value = fma_(as_f32(side.y), s.minimum, value);
    }
    return fma_(value, as_f32(side.x), sum);
}

// x / (1 + e^-x)
DEVICE float silu(float x) { return x / (1.0f + exp_(0.0f - x)); }

// x (1 + tanh z) / 2 with z = sqrt(2 / pi) x (1 + 0.044715 x^2), which is x / (1 + e^-2z).
DEVICE float gelu(float x) {
    const float cubic = fma_(x * x, 0.044715f, 1.0f);
    return x / (1.0f + exp_(x * -1.59576912f * cubic));
}

// Stores output `r` of a tile for a row of the batch.
DEVICE void store_output(const LinearArgs& a, unsigned tile, unsigned r, unsigned row, float y) {
    const unsigned output = tile * TILE + r;
    if (output >= a.outputs) return;
    if (a.bias) y = y + a.bias[output];
    const size_t at = size_t(row) * a.out_width + a.first_output + output;
    if (a.epilogue == RESIDUAL) y = fma_(a.from[at], a.scale, y);
    if (a.epilogue == GELU) y = gelu(y);
    a.out[at] = y;
}

// Stores the product of rows `r`, below 8, and `r + 8` of a gated tile.
DEVICE void store_gated(const LinearArgs& a, unsigned tile, unsigned r, unsigned row, float gate, float value) {
    const unsigned output = tile * (TILE / 2) + r;
    if (output >= a.outputs) return;
    if (a.bias) {
        gate = gate + a.bias[tile * TILE + r];
        value = value + a.bias[tile * TILE + TILE / 2 + r];
    }
    a.out[size_t(row) * a.out_width + a.first_output + output] = silu(gate) * value;
}

// Stores a tile for `rows` rows from `first` on; `sum(n, r)` is output `r` for row `first + n`. All threads of the block
// take part.
template <class Sum>
DEVICE void store_tile(const LinearArgs& a, unsigned tile, unsigned first, unsigned rows, const Sum& sum) {
    if (a.gated) {
        for (unsigned i = thread_x(); i < rows * (TILE / 2); i += block_dim()) {
            const unsigned n = i / (TILE / 2), r = i % (TILE / 2);
            store_gated(a, tile, r, first + n, sum(n, r), sum(n, r + TILE / 2));
        }
    } else {
        for (unsigned i = thread_x(); i < rows * TILE; i += block_dim()) {
            const unsigned n = i / TILE, r = i % TILE;
            store_output(a, tile, r, first + n, sum(n, r));
        }
    }
}
