// Products for up to eight rows, where time is that of reading the weights: all of a block's warps read one tile, each
// its own slices, 16 bytes a thread and several reads under way. The activations are small and come from the caches.

#include "float_product.cuh"
#include "linear.cuh"

constexpr unsigned FEW_THREADS = SLICES * TILE;

// What lies beside N rows' activations in a block.
template <unsigned N>
DEVICE void read_sides(uint2 (&side)[N], const uint2* from) {
    if constexpr (N == 1) {
        side[0] = from[0];
    } else {
#pragma unroll
        for (unsigned n = 0; n < N; n += 2) {
            const uint4 both = *reinterpret_cast<const uint4*>(from + n);
            side[n] = make_uint2(both.x, both.y);
            side[n + 1] = make_uint2(both.z, both.w);
        }
    }
}

// A row's part of some blocks of columns.
template <unsigned BLOCKS>
struct Part {
    RowBits bits[BLOCKS];
    uint4 scales[BLOCKS];
};

// Unit `u`, or the last before `end`; the first, where there is none.
DEVICE unsigned unit_before(unsigned u, unsigned end) { return min(u, max(end, 1u) - 1); }

// Reads row `r` of blocks, the first of which is block `first` of unit `from`; what lies behind `end` is that of the
// last unit before it.
template <class W, unsigned BLOCKS>
DEVICE void read_part(Part<BLOCKS>& part, const uint8_t* tile, unsigned from, unsigned first, unsigned end, unsigned r) {
    const auto unit = [&](unsigned i) { return W::unit(tile, unit_before(from + (first + i) / W::BLOCKS, end)); };
    // The scales before the rest: the compiler sees then that some blocks have the same words.
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; ++i)
        part.scales[i] = scale_bits_of<W>(tile, unit(i), (first + i) % W::BLOCKS, r);
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; ++i) part.bits[i] = W::row(unit(i), (first + i) % W::BLOCKS, r);
}

// Integers: sixteen threads, one for each output of the tile, multiply a slice with N rows. Rows that are not there hold
// anything; nobody stores what comes of them.
template <WeightType TYPE, unsigned N>
DEVICE void linear_few(const LinearArgs& a) {
    using W = Weights<TYPE>;
    // Blocks that are read before the first of them is used. Of small units the next are read meanwhile.
    constexpr bool SMALL = W::BLOCKS == 1;
    constexpr unsigned BLOCKS = W::KIND == BYTES && N >= 4 ? 2 : SMALL || N >= 4 ? 4 : 8;
    constexpr unsigned UNITS = SMALL ? BLOCKS : 1, PARTS = SMALL ? 1 : W::BLOCKS / BLOCKS;
    SHARED(float, sums, SLICES * N * TILE);
    const unsigned rows = min(*a.rows, N);
    if (rows == 0) return;
    const unsigned r = thread_x() % TILE, slice = thread_x() / TILE;
    const uint8_t* tile = a.weights + block_x() * a.tile_bytes;
    const unsigned begin = slice_begin(slice, a.units), end = slice_begin(slice + 1, a.units);
    // A warp has two slices, and as many turns as the longer one takes.
    const unsigned even = slice / 2 * 2, middle = slice_begin(even + 1, a.units);
    const unsigned most = max(middle - slice_begin(even, a.units), slice_begin(even + 2, a.units) - middle);
    float sum[N] = {};
    Part<BLOCKS> part = {}, next = {};
    if (SMALL && most > 0) read_part<W>(next, tile, begin, 0, end, r);
    for (unsigned turn = 0; turn < most * PARTS; turn += UNITS) {
        const unsigned from = begin + turn / PARTS, first = turn % PARTS * BLOCKS;
        if (SMALL) part = next;
        if (!SMALL) {
            read_part<W>(part, tile, from, first, end, r);
        } else if (turn + UNITS < most) {
            read_part<W>(next, tile, from + UNITS, 0, end, r);
        }
        // All of it is under way before any of it is used.
        sync_warp();
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; ++i) {
            const unsigned u = from + (first + i) / W::BLOCKS;
            const bool real = u < end;
            const unsigned b = unit_before(u, end) * W::BLOCKS + (first + i) % W::BLOCKS;
            Scales s = W::scales(part.scales[i], (first + i) % W::BLOCKS);
            // Adds nothing, without a branch that the reads below would have to wait for.
            s.scale = real ? s.scale : 0.0f;
            s.minimum = real ? s.minimum : 0.0f;
            int w[2][4];
#pragma unroll
            for (unsigned t = 0; t < 4; ++t) quads<W::KIND>(W::word_of(part.bits[i], t), t, w[0][t], w[1][t]);
            uint2 side[N];
            read_sides(side, a.side + size_t(b) * a.side_stride);
#pragma unroll
            for (unsigned n = 0; n < N; ++n) {
                const uint4* x = reinterpret_cast<const uint4*>(a.x + size_t(n) * a.x_stride + 32 * b);
                const uint4 x0 = x[0], x1 = x[1];
                int dot = dp4a(w[0][0], int(x0.x), 0), second = dp4a(w[1][0], int(x0.y), 0);
                dot = dp4a(w[0][1], int(x0.z), dot), second = dp4a(w[1][1], int(x0.w), second);
                dot = dp4a(w[0][2], int(x1.x), dot), second = dp4a(w[1][2], int(x1.y), second);
                dot = dp4a(w[0][3], int(x1.z), dot), second = dp4a(w[1][3], int(x1.w), second);
                if (!W::HALVES) dot += second;
                sum[n] = add_block<W>(sum[n], s, dot, second, side[n]);
            }
        }
    }
#pragma unroll
    for (unsigned n = 0; n < N; ++n) sums[(slice * N + n) * TILE + r] = sum[n];
    sync();
    store_tile(a, block_x(), 0, rows, [&](unsigned n, unsigned r) {
        return fold_slices([&](unsigned i) { return sums[(i * N + n) * TILE + r]; });
    });
}

// Plain floats: a warp multiplies two slices, one after the other, with eight rows, of which some may be missing.
template <WeightType TYPE>
DEVICE void linear_few_floats(const LinearArgs& a) {
    using W = FloatProduct<TYPE>;
    constexpr unsigned N = 8, BATCH = W::STEPS > 2 ? 2 : 4;
    SHARED(float, sums, SLICES * N * TILE);
    const unsigned rows = min(*a.rows, N);
    if (rows == 0) return;
    const unsigned warp = thread_x() / 32, lane = thread_x() % 32, g = lane / 4, t = lane % 4;
    const uint8_t* tile = a.weights + block_x() * a.tile_bytes + lane * 16;
    const uint8_t* x = a.x + size_t(g) * a.x_stride + t * (W::X_UNIT / 4);
    for (unsigned slice = 2 * warp; slice < 2 * warp + 2; ++slice) {
        const unsigned begin = slice_begin(slice, a.units), end = slice_begin(slice + 1, a.units);
        float sum[4] = {};
        for (unsigned from = begin; from < end; from += BATCH) {
            typename W::Row weights[BATCH];
            typename W::Columns columns[BATCH];
#pragma unroll
            for (unsigned i = 0; i < BATCH; ++i) {
                const unsigned u = min(from + i, end - 1);
                weights[i] = W::row(tile + size_t(u) * W::UNIT);
                columns[i] = {};
                if (g < rows) columns[i] = W::columns(x + size_t(u) * W::X_UNIT);
            }
            // All of it is under way before any of it is used.
            sync_warp();
#pragma unroll
            for (unsigned i = 0; i < BATCH; ++i) {
                if (from + i < end) W::multiply(sum, weights[i], columns[i]);
            }
        }
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) sums[(slice * N + 2 * t + i % 2) * TILE + g + i / 2 * 8] = sum[i];
    }
    sync();
    store_tile(a, block_x(), 0, rows, [&](unsigned n, unsigned r) {
        return fold_slices([&](unsigned i) { return sums[(i * N + n) * TILE + r]; });
    });
}

#define FEW(TYPE, name)                                                                                               \
    KERNEL(linear_few_##name##_1, LinearArgs, FEW_THREADS) { linear_few<TYPE, 1>(a); }                                \
    KERNEL(linear_few_##name##_2, LinearArgs, FEW_THREADS) { linear_few<TYPE, 2>(a); }                                \
    KERNEL(linear_few_##name##_4, LinearArgs, FEW_THREADS) { linear_few<TYPE, 4>(a); }                                \
    KERNEL(linear_few_##name##_8, LinearArgs, FEW_THREADS) { linear_few<TYPE, 8>(a); }
INTEGER_TYPES(FEW)

#define FEW_FLOATS(TYPE, name)                                                                                        \
    KERNEL(linear_few_##name##_8, LinearArgs, FEW_THREADS) { linear_few_floats<TYPE>(a); }
FLOAT_TYPES(FEW_FLOATS)
