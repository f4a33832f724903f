// Attention on tensor cores, for a cache of f16 or Q8_0, with an online softmax (Milakov and Gimelshein, 2018; Dao,
// "FlashAttention-2", 2023) inside chunks of fixed absolute slots.
//
// Scores: keys are f16 as they lie in the cache (those of Q8_0 are rounded to f16 here); a query is scaled by a power of
// two and split into two f16 whose sum has 22 bits of it, and both are multiplied in, so that a score is as good as one
// summed in f32. Weights are rounded to f16 before they are mixed, and their sum is the sum of what was rounded: a mixed
// value is off by at most 2^-11 of the greatest value's size, usually by far less. All sums are f32.
//
// A chunk of CHUNK_SLOTS is four runs of RUN slots. Within a chunk the state is the usual running one, run after run;
// chunks have states of their own and are merged in slot order. Two kernels compute exactly that:
//   attention_split  one chunk of up to 16 queries: a warp scores a run each, a quarter of the dimensions each is mixed
//                    over all runs in order, and the state is kept for attention_merge;
//   attention_whole  16 queries per warp through all chunks.
// The operations behind a row's bits are the same in both, and none of them depends on other rows.

#include "attention.cuh"
#include "fragments.cuh"

constexpr unsigned RUN = 64;
constexpr unsigned RUNS = CHUNK_SLOTS / RUN;
// Elements between rows in shared memory: 16 bytes more than a row, so that eight rows lie in different banks.
template <unsigned DIM>
constexpr unsigned STRIDE = DIM + 8;

// A tile's queries in shared memory.
struct Queries {
    // [TILE, STRIDE] each: what was rounded and the rest.
    uint16_t* high;
    uint16_t* low;
    // [TILE]: what makes a score of a product.
    float* scale;
    // [TILE]: how many slots each sees; none when there is no such query.
    unsigned* seen;
};

// Brings `count` queries of an item, `from` on, to rows `to` on of a tile. By one warp.
template <unsigned DIM>
DEVICE void bring_queries(const AttentionArgs& a, const Item& item, unsigned kv_head, unsigned from, unsigned to,
                          unsigned count, const Queries& tile) {
    const KvShape& kv = a.kv;
    const unsigned lane = thread_x() % 32;
    for (unsigned i = 0; i < count; ++i) {
        const unsigned q = to + i;
        const bool exists = from + i < item.queries;
        const Query query = query_of(a, item, kv_head, exists ? from + i : 0);
        const float* row = a.qkv + size_t(query.row) * qkv_width(kv) + size_t(query.head) * kv.keys.dim;
        float x[DIM / 32], size = 0.0f;
#pragma unroll
        for (unsigned j = 0; j < DIM / 32; ++j) {
            const unsigned dim = lane + 32 * j;
            x[j] = exists && dim < kv.keys.dim ? row[dim] : 0.0f;
            size = fmaxf(size, fabsf(x[j]));
        }
        // The power of two that brings the greatest element between 2^9 and 2^10.
        const int wanted = 127 + 9 - (int(as_u32(warp_max(size)) >> 23) - 127);
        const unsigned exponent = unsigned(max(1, min(wanted, 253)));
        const float factor = as_f32(exponent << 23);
#pragma unroll
        for (unsigned j = 0; j < DIM / 32; ++j) {
            const float scaled = x[j] * factor;
            const uint16_t high = f32_to_f16(scaled);
            tile.high[q * STRIDE<DIM> + lane + 32 * j] = high;
            tile.low[q * STRIDE<DIM> + lane + 32 * j] = f32_to_f16(scaled - f16_to_f32(high));
        }
        if (lane == 0) {
            tile.scale[q] = a.scale * as_f32((254 - exponent) << 23);
            tile.seen[q] = exists ? a.step.visible[query.row] : 0;
        }
    }
}

// Starts to bring a run's keys (or values) to shared memory `[RUN, STRIDE]`, zeros from slot `most` on. By `threads`
// threads; the run starts at slot `base`.
template <int TYPE, unsigned DIM>
DEVICE void bring_run(const AttentionArgs& a, const uint32_t* pages, unsigned kv_head, bool values, unsigned base,
                      unsigned most, unsigned thread, unsigned threads, uint16_t* to) {
    const PlaneShape& shape = values ? a.kv.values : a.kv.keys;
    const uint8_t* planes[2];
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
        const unsigned at = base + i * PAGE_SLOTS;
        planes[i] = plane_of(a, at < most ? pages[at / PAGE_SLOTS] : 0, kv_head, values);
    }
    if (TYPE == KV_F16) {
        constexpr unsigned PIECES = DIM / 8;
#pragma unroll 8
        for (unsigned i = thread; i < RUN * PIECES; i += threads) {
            const unsigned slot = i / PIECES, dim = i % PIECES * 8;
            const uint8_t* plane = slot < PAGE_SLOTS ? planes[0] : planes[1];
            if (dim < shape.padded)
                cp_async_16(to + slot * STRIDE<DIM> + dim, plane + 2 * ((slot % PAGE_SLOTS) * shape.padded + dim),
                            base + slot < most);
        }
        return;
    }
    // Eight bytes at a time; a few are read before the first is needed.
    constexpr unsigned PIECES = DIM / 8, AHEAD = 4;
    for (unsigned first = thread; first < RUN * PIECES; first += AHEAD * threads) {
        uint2 bytes[AHEAD];
        float scales[AHEAD];
#pragma unroll
        for (unsigned j = 0; j < AHEAD; ++j) {
            const unsigned i = first + j * threads, slot = i / PIECES, dim = i % PIECES * 8;
            const uint8_t* plane = slot < PAGE_SLOTS ? planes[0] : planes[1];
            bytes[j] = make_uint2(0, 0);
            scales[j] = 0.0f;
            if (i < RUN * PIECES && dim < shape.padded && base + slot < most) {
                bytes[j] = *reinterpret_cast<const uint2*>(plane + (slot % PAGE_SLOTS) * shape.padded + dim);
                scales[j] = scale_of(plane, shape, slot % PAGE_SLOTS, dim);
            }
        }
#pragma unroll
        for (unsigned j = 0; j < AHEAD; ++j) {
            const unsigned i = first + j * threads, slot = i / PIECES, dim = i % PIECES * 8;
            if (i >= RUN * PIECES || dim >= shape.padded) continue;
            uint32_t words[4];
#pragma unroll
            for (unsigned k = 0; k < 4; ++k) {
                const uint32_t pair = (k < 2 ? bytes[j].x : bytes[j].y) >> 16 * (k % 2);
                words[k] = pack_f16(f32_to_f16(float(int8_t(pair)) * scales[j]),
                                    f32_to_f16(float(int8_t(pair >> 8)) * scales[j]));
            }
            *reinterpret_cast<uint4*>(to + slot * STRIDE<DIM> + dim) =
                make_uint4(words[0], words[1], words[2], words[3]);
        }
    }
}

// Products of a tile's queries and a run's keys. Lane 4 g + t has rows g (two values) and g + 8 (two) of columns 2 t and
// 2 t + 1 of eight slots each.
template <unsigned DIM>
DEVICE void score_run(float (&scores)[RUN / 8][4], const Queries& tile, const uint16_t* keys, unsigned padded) {
    const unsigned lane = thread_x() % 32;
    const unsigned query = lane % 16 * STRIDE<DIM> + lane / 16 * 8;
    const uint16_t* key = keys + (lane % 8 + lane / 16 * 8) * STRIDE<DIM> + lane / 8 % 2 * 8;
#pragma unroll
    for (unsigned n = 0; n < RUN / 8; ++n)
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) scores[n][i] = 0.0f;
#pragma unroll 2
    for (unsigned dim = 0; dim < padded; dim += 16) {
        uint32_t high[4], low[4];
        load_matrices(high, tile.high + query + dim);
        load_matrices(low, tile.low + query + dim);
#pragma unroll
        for (unsigned n = 0; n < RUN / 8; n += 2) {
            uint32_t words[4];
            load_matrices(words, key + n * 8 * STRIDE<DIM> + dim);
            const uint32_t left[2] = {words[0], words[1]}, right[2] = {words[2], words[3]};
            mma_f16_16816(scores[n], high, left);
            mma_f16_16816(scores[n + 1], high, right);
            mma_f16_16816(scores[n], low, left);
            mma_f16_16816(scores[n + 1], low, right);
        }
    }
}

// Scales a run's scores, hides what is not seen, and gives the greatest of each of the lane's two rows.
DEVICE void hide(float (&scores)[RUN / 8][4], float (&greatest)[2], const float (&scale)[2], const unsigned (&seen)[2],
                 unsigned base) {
    const float hidden = -INFINITY;
    const unsigned column = base + thread_x() % 4 * 2;
    greatest[0] = greatest[1] = hidden;
#pragma unroll
    for (unsigned n = 0; n < RUN / 8; ++n)
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
            const float score = scores[n][i] * scale[i / 2];
            scores[n][i] = column + n * 8 + i % 2 < seen[i / 2] ? score : hidden;
            greatest[i / 2] = fmaxf(greatest[i / 2], scores[n][i]);
        }
#pragma unroll
    for (unsigned row = 0; row < 2; ++row)
#pragma unroll
        for (unsigned lanes = 1; lanes < 4; lanes *= 2)
            greatest[row] = fmaxf(greatest[row], shfl_xor(greatest[row], lanes));
}

// What is taken off scores: the greatest so far, or anything when nothing has been seen.
DEVICE float level(float best) { return best == -INFINITY ? 0.0f : best; }

// Weights of a run as fragments for the product with its values, and their sums by row.
DEVICE void weigh(uint32_t (&weights)[RUN / 16][4], float (&sums)[2], const float (&scores)[RUN / 8][4],
                  const float (&best)[2]) {
    const float levels[2] = {level(best[0]), level(best[1])};
    sums[0] = sums[1] = 0.0f;
#pragma unroll
    for (unsigned n = 0; n < RUN / 8; ++n)
#pragma unroll
        for (unsigned row = 0; row < 2; ++row) {
            const uint16_t left = f32_to_f16(exp_(scores[n][2 * row] - levels[row]));
            const uint16_t right = f32_to_f16(exp_(scores[n][2 * row + 1] - levels[row]));
            sums[row] = sums[row] + f16_to_f32(left);
            sums[row] = sums[row] + f16_to_f32(right);
            weights[n / 2][n % 2 * 2 + row] = pack_f16(left, right);
        }
#pragma unroll
    for (unsigned row = 0; row < 2; ++row)
#pragma unroll
        for (unsigned lanes = 1; lanes < 4; lanes *= 2) sums[row] = sums[row] + shfl_xor(sums[row], lanes);
}

// The rows' greatest score rises from `best` by a run whose greatest is `next`; gives what earlier sums are multiplied by.
DEVICE float rise(float& best, float next) {
    const float before = best;
    best = fmaxf(best, next);
    return exp_(before - level(best));
}

// The values of 16 slots and 16 dimensions from `dim` on.
template <unsigned DIM>
DEVICE void read_values(uint32_t (&words)[4], const uint16_t* values, unsigned slot, unsigned dim) {
    const unsigned lane = thread_x() % 32;
    load_matrices_across(words, values + (slot + lane % 16) * STRIDE<DIM> + dim + lane / 16 * 8);
}

DEVICE bool not_finite(uint32_t pair) { return (pair & 0x7c00) == 0x7c00 || (pair & 0x7c000000) == 0x7c000000; }

// mixed += weights * values, for N times eight dimensions from `first` on.
template <unsigned DIM, unsigned N>
DEVICE void mix_run(float (&mixed)[N][4], const uint32_t (&weights)[RUN / 16][4], const uint16_t* values, unsigned first,
                    unsigned padded) {
#pragma unroll
    for (unsigned k = 0; k < RUN / 16; ++k)
#pragma unroll
        for (unsigned n = 0; n < N; n += 2) {
            if (first + n * 8 >= padded) continue;
            uint32_t words[4];
            read_values<DIM>(words, values, k * 16, first + n * 8);
            const uint32_t left[2] = {words[0], words[1]}, right[2] = {words[2], words[3]};
            mma_f16_16816(mixed[n], weights[k], left);
            mma_f16_16816(mixed[n + 1], weights[k], right);
        }
}

// Whether a run holds a value that is infinite or not a number: its product with a weight of zero would leave a trace.
template <unsigned DIM, unsigned N>
DEVICE bool holds_poison(const uint16_t* values, unsigned first, unsigned padded) {
    unsigned found = 0;
#pragma unroll 1
    for (unsigned k = 0; k < RUN / 16; ++k)
#pragma unroll 1
        for (unsigned n = 0; n < N; n += 2) {
            if (first + n * 8 >= padded) continue;
            uint32_t words[4];
            read_values<DIM>(words, values, k * 16, first + n * 8);
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) found |= not_finite(words[i]);
        }
#pragma unroll
    for (unsigned lanes = 1; lanes < 32; lanes *= 2) found |= shfl_xor(found, lanes);
    return found != 0;
}

// The same as mix_run, for each row with the values that it sees alone: the others are taken as zero. Sixteen times the
// work, for runs with poison that some of the rows see.
template <unsigned DIM, unsigned N>
DEVICE void mix_run_by_row(float (&mixed)[N][4], const uint32_t (&weights)[RUN / 16][4], const uint16_t* values,
                           unsigned first, unsigned padded, const unsigned (&seen)[2], unsigned base) {
    const unsigned lane = thread_x() % 32;
#pragma unroll
    for (unsigned n = 0; n < N; n += 2) {
        if (first + n * 8 >= padded) continue;
        float result[2][4] = {};
#pragma unroll 1
        for (unsigned row = 0; row < TILE; ++row) {
            const unsigned upper = shfl(seen[0], row % 8 * 4), lower = shfl(seen[1], row % 8 * 4);
            const unsigned end = row < 8 ? upper : lower;
            float own[2][4];
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) own[0][i] = mixed[n][i], own[1][i] = mixed[n + 1][i];
#pragma unroll
            for (unsigned k = 0; k < RUN / 16; ++k) {
                uint32_t words[4];
                read_values<DIM>(words, values, k * 16, first + n * 8);
#pragma unroll
                for (unsigned i = 0; i < 4; ++i) {
                    const unsigned slot = base + k * 16 + i % 2 * 8 + lane % 4 * 2;
                    words[i] &= (slot < end ? 0xffffu : 0) | (slot + 1 < end ? 0xffff0000u : 0);
                }
                const uint32_t left[2] = {words[0], words[1]}, right[2] = {words[2], words[3]};
                mma_f16_16816(own[0], weights[k], left);
                mma_f16_16816(own[1], weights[k], right);
            }
            if (lane / 4 == row % 8) {
#pragma unroll
                for (unsigned i = 0; i < 4; ++i)
                    if (i / 2 == row / 8) result[0][i] = own[0][i], result[1][i] = own[1][i];
            }
        }
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) mixed[n][i] = result[0][i], mixed[n + 1][i] = result[1][i];
    }
}

// mixed = mixed * keep + weights * values. Values are zero from slot `most` on; all rows see the slots below `least`.
template <unsigned DIM, unsigned N>
DEVICE void add_run(float (&mixed)[N][4], const float (&keep)[2], const uint32_t (&weights)[RUN / 16][4],
                    const uint16_t* values, unsigned first, unsigned padded, const unsigned (&seen)[2], unsigned base,
                    unsigned least, unsigned most) {
#pragma unroll
    for (unsigned n = 0; n < N; ++n)
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) mixed[n][i] = mixed[n][i] * keep[i / 2];
    if (least < min(most, base + RUN) && holds_poison<DIM, N>(values, first, padded))
        mix_run_by_row<DIM, N>(mixed, weights, values, first, padded, seen, base);
    else
        mix_run<DIM, N>(mixed, weights, values, first, padded);
}

// The fewest and the most slots that existing queries see.
DEVICE void range_of(const unsigned* seen, unsigned count, unsigned& least, unsigned& most) {
    least = ALL_CHUNKS;
    most = 0;
    for (unsigned q = 0; q < count; ++q) {
        if (seen[q]) least = min(least, seen[q]);
        most = max(most, seen[q]);
    }
}

// Bytes of shared memory: see split_shared in src/attention.rs.
template <int TYPE, unsigned DIM>
DEVICE void attend_split(const AttentionArgs& a) {
    constexpr unsigned N = DIM / 8 / RUNS;
    Item item;
    if (!find_item(a, item)) return;
    const KvShape& kv = a.kv;
    const unsigned kv_head = block_y(), warp = thread_x() / 32, lane = thread_x() % 32, g = lane / 4, t = lane % 4;
    uint16_t* high = shared_bytes<uint16_t>();
    uint16_t* low = high + TILE * STRIDE<DIM>;
    uint16_t* keys = low + TILE * STRIDE<DIM>;
    uint16_t* values = keys + (a.apart ? CHUNK_SLOTS * STRIDE<DIM> : 0);
    // [RUNS][RUN / 16][lane][4]
    SHARED(uint4, fragments, RUNS * RUN / 16 * 32);
    SHARED(float, greatest, RUNS * TILE);
    SHARED(float, sums, RUNS * TILE);
    SHARED(float, scale, TILE);
    SHARED(unsigned, seen, TILE);
    const Queries tile = {high, low, scale, seen};

    const Sequence& sequence = a.step.sequences[item.sequence];
    const uint32_t* pages = a.step.pages + sequence.first_page;
    const unsigned chunk = item.chunk * CHUNK_SLOTS, base = chunk + warp * RUN;
    uint16_t* own_keys = keys + warp * RUN * STRIDE<DIM>;
    uint16_t* own_values = values + warp * RUN * STRIDE<DIM>;
    // What no query sees is not read: it may lie beyond the sequence's pages.
    unsigned most = lane < item.queries ? a.step.visible[query_of(a, item, kv_head, lane).row] : 0;
#pragma unroll
    for (unsigned lanes = 1; lanes < 32; lanes *= 2) most = max(most, shfl_xor(most, lanes));
    bring_run<TYPE, DIM>(a, pages, kv_head, false, base, most, lane, 32, own_keys);
    cp_async_commit();
    if (a.apart) bring_run<TYPE, DIM>(a, pages, kv_head, true, base, most, lane, 32, own_values);
    cp_async_commit();
    bring_queries<DIM>(a, item, kv_head, warp * (TILE / RUNS), warp * (TILE / RUNS), TILE / RUNS, tile);
    cp_async_wait<1>();
    sync();

    const unsigned mine_seen[2] = {seen[g], seen[g + 8]};
    const float mine_scale[2] = {scale[g], scale[g + 8]};
    unsigned least;
    range_of(seen, TILE, least, most);
    float scores[RUN / 8][4], run_best[2] = {-INFINITY, -INFINITY};
    const bool any = base < most;
    if (any) {
        score_run<DIM>(scores, tile, own_keys, kv.keys.padded);
        hide(scores, run_best, mine_scale, mine_seen, base);
    }
    if (t == 0) {
        greatest[warp * TILE + g] = run_best[0];
        greatest[warp * TILE + g + 8] = run_best[1];
    }
    // All keys have been read: values may take their place.
    sync();
    if (!a.apart) {
        bring_run<TYPE, DIM>(a, pages, kv_head, true, base, most, lane, 32, own_values);
        cp_async_commit();
    }

    if (any) {
        // The greatest up to this run.
        float best[2] = {-INFINITY, -INFINITY}, run_sum[2];
        for (unsigned run = 0; run <= warp; ++run) {
            best[0] = fmaxf(best[0], greatest[run * TILE + g]);
            best[1] = fmaxf(best[1], greatest[run * TILE + g + 8]);
        }
        uint32_t weights[RUN / 16][4];
        weigh(weights, run_sum, scores, best);
#pragma unroll
        for (unsigned k = 0; k < RUN / 16; ++k)
            fragments[(warp * (RUN / 16) + k) * 32 + lane] =
                make_uint4(weights[k][0], weights[k][1], weights[k][2], weights[k][3]);
        if (t == 0) {
            sums[warp * TILE + g] = run_sum[0];
            sums[warp * TILE + g + 8] = run_sum[1];
        }
    }
    cp_async_wait<0>();
    sync();

    // From here on a warp has a quarter of the dimensions, of all runs.
    const unsigned first = warp * N * 8;
    float mixed[N][4], best[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};
#pragma unroll
    for (unsigned n = 0; n < N; ++n)
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) mixed[n][i] = 0.0f;
    for (unsigned run = 0; run < RUNS && chunk + run * RUN < most; ++run) {
        float keep[2];
#pragma unroll
        for (unsigned row = 0; row < 2; ++row) {
            keep[row] = rise(best[row], greatest[run * TILE + g + 8 * row]);
            sum[row] = sum[row] * keep[row] + sums[run * TILE + g + 8 * row];
        }
        uint32_t weights[RUN / 16][4];
#pragma unroll
        for (unsigned k = 0; k < RUN / 16; ++k) {
            const uint4 words = fragments[(run * (RUN / 16) + k) * 32 + lane];
            weights[k][0] = words.x, weights[k][1] = words.y, weights[k][2] = words.z, weights[k][3] = words.w;
        }
        add_run<DIM, N>(mixed, keep, weights, values + run * RUN * STRIDE<DIM>, first, kv.values.padded, mine_seen,
                        chunk + run * RUN, least, most);
    }
#pragma unroll
    for (unsigned row = 0; row < 2; ++row) {
        const unsigned q = g + 8 * row;
        if (mine_seen[row] <= chunk) continue;
        const Query query = query_of(a, item, kv_head, q);
        const size_t state = state_of(a, query.row, query.head, item.chunk);
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
            const unsigned dim = first + n * 8 + t * 2;
            if (dim < kv.values.padded)
                *reinterpret_cast<float2*>(a.mixed + state * kv.values.padded + dim) =
                    make_float2(mixed[n][2 * row], mixed[n][2 * row + 1]);
        }
        if (warp == 0 && t == 0) a.tails[state] = make_float2(best[row], sum[row]);
    }
}

// A block of W warps takes W * TILE queries. Bytes of shared memory: see whole_shared in src/attention.rs.
template <int TYPE, unsigned DIM>
DEVICE void attend_whole(const AttentionArgs& a) {
    constexpr unsigned N = DIM / 8;
    Item item;
    if (!find_item(a, item)) return;
    const KvShape& kv = a.kv;
    const unsigned kv_head = block_y(), threads = block_dim(), rows = threads / 32 * TILE;
    const unsigned warp = thread_x() / 32, lane = thread_x() % 32, g = lane / 4, t = lane % 4;
    uint16_t* high = shared_bytes<uint16_t>();
    uint16_t* low = high + rows * STRIDE<DIM>;
    uint16_t* keys = low + rows * STRIDE<DIM>;
    uint16_t* values = keys + RUN * STRIDE<DIM>;
    // The chunks so far, as this lane has them: [warp][N][lane][4].
    float4* running = reinterpret_cast<float4*>(values + RUN * STRIDE<DIM>) + warp * N * 32 + lane;
    float* scale = reinterpret_cast<float*>(values + RUN * STRIDE<DIM>) + rows * DIM;
    unsigned* seen = reinterpret_cast<unsigned*>(scale + rows);
    const unsigned tile_at = warp * TILE;
    const Queries tile = {high + tile_at * STRIDE<DIM>, low + tile_at * STRIDE<DIM>, scale + tile_at, seen + tile_at};

    bring_queries<DIM>(a, item, kv_head, tile_at, 0, TILE, tile);
    sync();
    unsigned least, most, own_most;
    range_of(seen, rows, least, most);
    range_of(tile.seen, TILE, least, own_most);
    const unsigned mine_seen[2] = {tile.seen[g], tile.seen[g + 8]};
    const float mine_scale[2] = {tile.scale[g], tile.scale[g + 8]};
    const uint32_t* pages = a.step.pages + a.step.sequences[item.sequence].first_page;

    float mixed[N][4], best[2], sum[2], running_best[2], running_sum[2];
    bring_run<TYPE, DIM>(a, pages, kv_head, false, 0, most, thread_x(), threads, keys);
    cp_async_commit();
    bring_run<TYPE, DIM>(a, pages, kv_head, true, 0, most, thread_x(), threads, values);
    cp_async_commit();
    for (unsigned base = 0; base < most; base += RUN) {
        const bool any = base < own_most, last = base + RUN >= most;
        if (base % CHUNK_SLOTS == 0) {
#pragma unroll
            for (unsigned n = 0; n < N; ++n)
#pragma unroll
                for (unsigned i = 0; i < 4; ++i) mixed[n][i] = 0.0f;
#pragma unroll
            for (unsigned row = 0; row < 2; ++row) best[row] = -INFINITY, sum[row] = 0.0f;
        }
        cp_async_wait<1>();
        sync();
        float scores[RUN / 8][4];
        if (any) score_run<DIM>(scores, tile, keys, kv.keys.padded);
        sync();
        if (!last) bring_run<TYPE, DIM>(a, pages, kv_head, false, base + RUN, most, thread_x(), threads, keys);
        cp_async_commit();
        uint32_t weights[RUN / 16][4];
        float keep[2];
        if (any) {
            float next[2], run_sum[2];
            hide(scores, next, mine_scale, mine_seen, base);
#pragma unroll
            for (unsigned row = 0; row < 2; ++row) keep[row] = rise(best[row], next[row]);
            weigh(weights, run_sum, scores, best);
#pragma unroll
            for (unsigned row = 0; row < 2; ++row) sum[row] = sum[row] * keep[row] + run_sum[row];
        }
        cp_async_wait<1>();
        sync();
        if (any)
            add_run<DIM, N>(mixed, keep, weights, values, 0, kv.values.padded, mine_seen, base, least, most);
        sync();
        if (!last) bring_run<TYPE, DIM>(a, pages, kv_head, true, base + RUN, most, thread_x(), threads, values);
        cp_async_commit();

        if ((base + RUN) % CHUNK_SLOTS != 0 && !last) continue;
        const unsigned chunk = base / CHUNK_SLOTS * CHUNK_SLOTS;
        if (chunk == 0) {
#pragma unroll
            for (unsigned n = 0; n < N; ++n)
                running[n * 32] = make_float4(mixed[n][0], mixed[n][1], mixed[n][2], mixed[n][3]);
#pragma unroll
            for (unsigned row = 0; row < 2; ++row) running_best[row] = best[row], running_sum[row] = sum[row];
        } else if (chunk < own_most) {
            Merge merges[2];
#pragma unroll
            for (unsigned row = 0; row < 2; ++row) {
                merges[row] = merge_of(running_best[row], best[row]);
                if (mine_seen[row] <= chunk) continue;
                running_best[row] = merges[row].greatest;
                running_sum[row] = running_sum[row] * merges[row].keep + sum[row] * merges[row].take;
            }
#pragma unroll
            for (unsigned n = 0; n < N; ++n) {
                float4 all = running[n * 32];
                if (mine_seen[0] > chunk) {
                    all.x = all.x * merges[0].keep + mixed[n][0] * merges[0].take;
                    all.y = all.y * merges[0].keep + mixed[n][1] * merges[0].take;
                }
                if (mine_seen[1] > chunk) {
                    all.z = all.z * merges[1].keep + mixed[n][2] * merges[1].take;
                    all.w = all.w * merges[1].keep + mixed[n][3] * merges[1].take;
                }
                running[n * 32] = all;
            }
        }
    }

#pragma unroll
    for (unsigned row = 0; row < 2; ++row) {
        const unsigned q = tile_at + g + 8 * row;
        if (q >= item.queries) continue;
        const Query query = query_of(a, item, kv_head, q);
        float* out = a.out + size_t(query.row) * attended_width(kv) + size_t(query.head) * kv.values.dim;
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
            const unsigned dim = n * 8 + t * 2;
            const float4 all = running[n * 32];
            if (dim < kv.values.dim) out[dim] = (row ? all.z : all.x) / running_sum[row];
            if (dim + 1 < kv.values.dim) out[dim + 1] = (row ? all.w : all.y) / running_sum[row];
        }
    }
}

KERNEL(attention_split_f16_64, AttentionArgs, 128) { attend_split<KV_F16, 64>(a); }
KERNEL(attention_split_f16_128, AttentionArgs, 128) { attend_split<KV_F16, 128>(a); }
KERNEL(attention_split_f16_256, AttentionArgs, 128) { attend_split<KV_F16, 256>(a); }
KERNEL(attention_split_q8_0_64, AttentionArgs, 128) { attend_split<KV_Q8_0, 64>(a); }
KERNEL(attention_split_q8_0_128, AttentionArgs, 128) { attend_split<KV_Q8_0, 128>(a); }
KERNEL(attention_split_q8_0_256, AttentionArgs, 128) { attend_split<KV_Q8_0, 256>(a); }
KERNEL(attention_whole_f16_64, AttentionArgs, 128) { attend_whole<KV_F16, 64>(a); }
KERNEL(attention_whole_f16_128, AttentionArgs, 128) { attend_whole<KV_F16, 128>(a); }
KERNEL(attention_whole_f16_256, AttentionArgs, 128) { attend_whole<KV_F16, 256>(a); }
KERNEL(attention_whole_q8_0_64, AttentionArgs, 128) { attend_whole<KV_Q8_0, 64>(a); }
KERNEL(attention_whole_q8_0_128, AttentionArgs, 128) { attend_whole<KV_Q8_0, 128>(a); }
KERNEL(attention_whole_q8_0_256, AttentionArgs, 128) { attend_whole<KV_Q8_0, 256>(a); }
