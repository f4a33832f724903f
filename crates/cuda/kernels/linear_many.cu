// Products for many rows, where time is that of the tensor cores: a block of threads computes 128 outputs for 64 rows.
//
// Each of its eight warps has a tile of 16 outputs to itself: it reads the tile's weights once, in lines, a block of
// columns ahead, and makes integers of them in registers, in the order in which the tensor cores take them. The
// activations come to shared memory, 128 bytes of each row at a time, the next while the last are multiplied.
//
// Where that makes too few blocks to fill a card, each has a section of the columns only, and linear_fold adds them up.

#include "float_product.cuh"
#include "linear.cuh"

constexpr unsigned MANY_ROWS = 64;
constexpr unsigned MANY_TILES = 8;
constexpr unsigned MANY_THREADS = MANY_TILES * 32;
// Rows of activations that a product takes.
constexpr unsigned GROUP = 8;
constexpr unsigned GROUPS = MANY_ROWS / GROUP;
// Groups that are multiplied or left out together: enough to have products under way while others wait.
constexpr unsigned TOGETHER = 4;
// Bytes of a row in shared memory at a time.
constexpr unsigned STAGE = 128;

// The sums of a warp: lane 4 g + t has rows 2 t and 2 t + 1 of each group, for outputs g and g + 8. The sections before
// the running one lie in shared memory, where nobody else touches them.
struct ManySums {
    float slice[GROUPS][4];
    float section[GROUPS][4];
    float4* total;
};

DEVICE void clear(float (&sums)[GROUPS][4]) {
#pragma unroll
    for (unsigned j = 0; j < GROUPS; ++j)
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) sums[j][i] = 0.0f;
}

DEVICE void start_sums(ManySums& sums, float4* shared) {
    clear(sums.slice);
    clear(sums.section);
    sums.total = shared + thread_x() / 32 * (GROUPS * 32) + thread_x() % 32;
    for (unsigned j = 0; j < GROUPS; ++j) sums.total[j * 32] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

DEVICE void end_slice(ManySums& sums) {
#pragma unroll
    for (unsigned j = 0; j < GROUPS; ++j)
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) sums.section[j][i] = sums.section[j][i] + sums.slice[j][i];
    clear(sums.slice);
}

DEVICE void end_section(ManySums& sums) {
#pragma unroll
    for (unsigned j = 0; j < GROUPS; ++j) {
        float4 total = sums.total[j * 32];
        total.x = total.x + sums.section[j][0];
        total.y = total.y + sums.section[j][1];
        total.z = total.z + sums.section[j][2];
        total.w = total.w + sums.section[j][3];
        sums.total[j * 32] = total;
    }
    clear(sums.section);
}

// Stores a tile for `rows` rows from `first` on.
DEVICE void store_sums(const LinearArgs& a, const ManySums& sums, unsigned tile, unsigned first, unsigned rows) {
    const unsigned g = thread_x() % 32 / 4, t = thread_x() % 4;
    for (unsigned j = 0; j < GROUPS; ++j) {
        const float4 total = sums.total[j * 32];
        const float upper[2] = {total.x, total.y}, lower[2] = {total.z, total.w};
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
            const unsigned n = j * GROUP + 2 * t + i;
            if (n >= rows) continue;
            if (a.sections) {
                float* at = a.sections + (size_t(block_z()) * MANY_ROWS + n) * (a.tiles * TILE) + tile * TILE + g;
                at[0] = upper[i];
                at[8] = lower[i];
            } else if (a.gated) {
                store_gated(a, tile, g, first + n, upper[i], lower[i]);
            } else {
                store_output(a, tile, g, first + n, upper[i]);
                store_output(a, tile, g + 8, first + n, lower[i]);
            }
        }
    }
}

// The columns of a block of threads, in steps: blocks of 32 columns, `size` of which are a unit.
struct Columns {
    unsigned begin;
    unsigned end;
    // The running slice, and where it ends.
    unsigned slice;
    unsigned slice_end;
};

// Goes on to the first slice that ends after `done` steps.
DEVICE void next_slice(Columns& c, ManySums& sums, unsigned done, unsigned units, unsigned size) {
    while (c.slice_end <= done && c.slice < SLICES) {
        ++c.slice;
        if (c.slice % SECTION == 0) end_section(sums);
        c.slice_end = slice_begin(c.slice + 1, units) * size;
    }
}

// All columns, or the section that is the block's.
DEVICE Columns columns_of(const LinearArgs& a, ManySums& sums, unsigned size) {
    const unsigned first = a.sections ? block_z() * SECTION : 0, last = a.sections ? first + SECTION : SLICES;
    Columns c = {slice_begin(first, a.units) * size, slice_begin(last, a.units) * size, first, 0};
    c.slice_end = slice_begin(first + 1, a.units) * size;
    next_slice(c, sums, c.begin, a.units, size);
    return c;
}

// Starts to copy STAGE bytes of the rows from byte `from` on, as far as there are rows and bytes, into rows of `stride`.
DEVICE void stage_rows(uint8_t* to, unsigned stride, const LinearArgs& a, unsigned first, unsigned rows, unsigned from) {
    for (unsigned i = thread_x(); i < MANY_ROWS * STAGE / 16; i += MANY_THREADS) {
        const unsigned row = i / (STAGE / 16), at = i % (STAGE / 16) * 16;
        const bool wanted = row < rows && from + at < a.x_stride;
        cp_async_16(to + row * stride + at, wanted ? a.x + size_t(first + row) * a.x_stride + from + at : a.x, wanted);
    }
}

// Waits for the last stage but one, or for the last.
DEVICE void wait_for_stage(bool last) {
    if (last) {
        cp_async_wait<0>();
    } else {
        cp_async_wait<1>();
    }
    sync();
}

template <WeightType TYPE>
DEVICE void linear_many(const LinearArgs& a) {
    using W = Weights<TYPE>;
    // The padding keeps the lanes of a read in different banks.
    constexpr unsigned BLOCKS = STAGE / 32, STRIDE = STAGE + 32;
    // Two stages of activations and of what lies beside them, then the sums.
    uint8_t* x = shared_bytes<uint8_t>();
    uint2* side = reinterpret_cast<uint2*>(x + 2 * MANY_ROWS * STRIDE);
    const unsigned first = block_y() * MANY_ROWS, all = *a.rows;
    if (first >= all) return;
    const unsigned rows = min(all - first, MANY_ROWS);
    const unsigned warp = thread_x() / 32, lane = thread_x() % 32, g = lane / 4, t = lane % 4;
    const unsigned number = block_x() * MANY_TILES + warp;
    const bool active = number < a.tiles;
    const uint8_t* tile = a.weights + number * a.tile_bytes;
    ManySums sums;
    start_sums(sums, reinterpret_cast<float4*>(side + 2 * BLOCKS * MANY_ROWS));
    Columns c = columns_of(a, sums, W::BLOCKS);

    const auto stage = [&](unsigned s) {
        stage_rows(x + s % 2 * (MANY_ROWS * STRIDE), STRIDE, a, first, rows, 32 * c.begin + s * STAGE);
        for (unsigned i = thread_x(); i < BLOCKS * MANY_ROWS / 2; i += MANY_THREADS) {
            const unsigned block = c.begin + s * BLOCKS + i / (MANY_ROWS / 2), pair = i % (MANY_ROWS / 2) * 2;
            const bool wanted = block < a.blocks && pair < rows;
            const uint2* from = wanted ? a.side + size_t(block) * a.side_stride + first + pair : a.side;
            cp_async_16(side + (s % 2 * BLOCKS + i / (MANY_ROWS / 2)) * MANY_ROWS + pair, from, wanted);
        }
        cp_async_commit();
    };
    // Of rows g and g + 8, the next block's.
    Bits next[2];
    uint4 next_scales[2];
    const auto read = [&](unsigned b) {
        const uint8_t* unit = W::unit(tile, b / W::BLOCKS);
#pragma unroll
        for (unsigned h = 0; h < 2; ++h) {
            next[h] = W::word(unit, b % W::BLOCKS, g + 8 * h, t);
            next_scales[h] = scale_bits_of<W>(tile, unit, b % W::BLOCKS, g + 8 * h);
        }
    };
    if (active && c.begin < c.end) read(c.begin);
    const unsigned stages = (c.end - c.begin + BLOCKS - 1) / BLOCKS;
    if (stages > 0) stage(0);
    for (unsigned s = 0; s < stages; ++s) {
        if (s + 1 < stages) stage(s + 1);
        wait_for_stage(s + 1 == stages);
        const unsigned from = c.begin + s * BLOCKS, blocks = active ? min(c.end - from, BLOCKS) : 0;
        for (unsigned i = 0; i < blocks; ++i) {
            const unsigned b = from + i;
            const Scales scales[2] = {W::scales(next_scales[0], b % W::BLOCKS), W::scales(next_scales[1], b % W::BLOCKS)};
            int w[2][2];
            quads<W::KIND>(next[0], t, w[0][0], w[0][1]);
            quads<W::KIND>(next[1], t, w[1][0], w[1][1]);
            if (b + 1 < c.end) read(b + 1);
            const uint8_t* columns = x + (s % 2 * MANY_ROWS + g) * STRIDE + 32 * i + 8 * t;
            const uint2* sides = side + (s % 2 * BLOCKS + i) * MANY_ROWS + 2 * t;
#pragma unroll
            for (unsigned j = 0; j < GROUPS; j += TOGETHER) {
                if (j * GROUP >= rows) continue;
#pragma unroll
                for (unsigned k = j; k < j + TOGETHER; ++k) {
                    const uint2 quad = load<uint2>(columns + k * GROUP * STRIDE);
                    const uint4 both = *reinterpret_cast<const uint4*>(sides + k * GROUP);
                    const uint2 of[2] = {make_uint2(both.x, both.y), make_uint2(both.z, both.w)};
                    int dot[4] = {}, second[4] = {};
                    if (W::HALVES) {
                        const uint32_t left[2] = {uint32_t(w[0][0]), uint32_t(w[1][0])};
                        const uint32_t right[2] = {uint32_t(w[0][1]), uint32_t(w[1][1])};
                        mma_s8_16816(dot, left, quad.x);
                        mma_s8_16816(second, right, quad.y);
                    } else {
                        const uint32_t weights[4] = {uint32_t(w[0][0]), uint32_t(w[1][0]), uint32_t(w[0][1]),
                                                     uint32_t(w[1][1])};
                        const uint32_t values[2] = {quad.x, quad.y};
                        mma_s8_16832(dot, weights, values);
                    }
#pragma unroll
                    for (unsigned l = 0; l < 4; ++l)
                        sums.slice[k][l] = add_block<W>(sums.slice[k][l], scales[l / 2], dot[l], second[l], of[l % 2]);
                }
            }
            if (b + 1 == c.slice_end) {
                end_slice(sums);
                next_slice(c, sums, b + 1, a.units, W::BLOCKS);
            }
        }
        sync();
    }
    if (active) store_sums(a, sums, number, first, rows);
}

template <WeightType TYPE>
DEVICE void linear_many_floats(const LinearArgs& a) {
    using W = FloatProduct<TYPE>;
    // The padding keeps the lanes of a read in different banks.
    constexpr unsigned UNITS = STAGE / W::X_UNIT, STRIDE = STAGE + (W::X_WORDS == 1 ? 64 : 16);
    // Two stages of activations, then the sums.
    uint8_t* x = shared_bytes<uint8_t>();
    const unsigned first = block_y() * MANY_ROWS, all = *a.rows;
    if (first >= all) return;
    const unsigned rows = min(all - first, MANY_ROWS);
    const unsigned warp = thread_x() / 32, lane = thread_x() % 32, g = lane / 4, t = lane % 4;
    const unsigned number = block_x() * MANY_TILES + warp;
    const bool active = number < a.tiles;
    const uint8_t* tile = a.weights + number * a.tile_bytes + lane * 16;
    ManySums sums;
    start_sums(sums, reinterpret_cast<float4*>(x + 2 * MANY_ROWS * STRIDE));
    Columns c = columns_of(a, sums, 1);

    const auto stage = [&](unsigned s) {
        stage_rows(x + s % 2 * (MANY_ROWS * STRIDE), STRIDE, a, first, rows, W::X_UNIT * c.begin + s * STAGE);
        cp_async_commit();
    };
    typename W::Row next;
    if (active && c.begin < c.end) next = W::row(tile + size_t(c.begin) * W::UNIT);
    const unsigned stages = (c.end - c.begin + UNITS - 1) / UNITS;
    if (stages > 0) stage(0);
    for (unsigned s = 0; s < stages; ++s) {
        if (s + 1 < stages) stage(s + 1);
        wait_for_stage(s + 1 == stages);
        const unsigned from = c.begin + s * UNITS, units = active ? min(c.end - from, UNITS) : 0;
        for (unsigned i = 0; i < units; ++i) {
            const unsigned u = from + i;
            const typename W::Row weights = next;
            if (u + 1 < c.end) next = W::row(tile + size_t(u + 1) * W::UNIT);
            const uint8_t* columns = x + (s % 2 * MANY_ROWS + g) * STRIDE + i * W::X_UNIT + t * (W::X_UNIT / 4);
#pragma unroll
            for (unsigned j = 0; j < GROUPS; j += TOGETHER) {
                if (j * GROUP >= rows) continue;
#pragma unroll
                for (unsigned k = j; k < j + TOGETHER; ++k)
                    W::multiply(sums.slice[k], weights, W::columns(columns + k * GROUP * STRIDE));
            }
            if (u + 1 == c.slice_end) {
                end_slice(sums);
                next_slice(c, sums, u + 1, a.units, 1);
            }
        }
        sync();
    }
    if (active) store_sums(a, sums, number, first, rows);
}

#define MANY(TYPE, name)                                                                                              \
    KERNEL(linear_many_##name, LinearArgs, MANY_THREADS) { linear_many<TYPE>(a); }
INTEGER_TYPES(MANY)

#define MANY_FLOATS(TYPE, name)                                                                                       \
    KERNEL(linear_many_##name, LinearArgs, MANY_THREADS) { linear_many_floats<TYPE>(a); }
FLOAT_TYPES(MANY_FLOATS)

// Adds up the sections of up to 64 rows: a thread for each row of weights.
KERNEL(linear_fold, LinearArgs, MANY_THREADS) {
    const unsigned row = block_y(), width = a.tiles * TILE, column = block_x() * MANY_THREADS + thread_x();
    if (row >= *a.rows || column >= width) return;
    const auto total = [&](unsigned column) {
        float total = 0.0f;
        for (unsigned i = 0; i < SECTIONS; ++i)
            total = total + a.sections[(size_t(i) * MANY_ROWS + row) * width + column];
        return total;
    };
    const unsigned tile = column / TILE, r = column % TILE;
    if (!a.gated) {
        store_output(a, tile, r, row, total(column));
    } else if (r < TILE / 2) {
        store_gated(a, tile, r, row, total(column), total(column + TILE / 2));
    }
}
