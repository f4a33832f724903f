// Attention in f32: the order of the CPU's (crates/cpu/src/attention.rs). Scores are sums over the head's dimensions in
// order, one fma chain for each key; a chunk has its own greatest score, weights and sum; values are mixed slot by slot;
// chunks are merged in slot order. What a query does not see is never multiplied in.
//
// A block takes up to TILE queries of one sequence and key/value head, through one chunk (its state is kept for
// attention_merge) or through all of them.

#include "attention.cuh"

constexpr unsigned MOST_DIMS = 256;

// Eight elements of a slot from `dim` on, a multiple of 8.
template <int TYPE>
DEVICE void read_eight(float (&x)[8], const uint8_t* plane, const PlaneShape& shape, unsigned slot, unsigned dim) {
    const size_t at = size_t(slot) * shape.padded + dim;
    if (TYPE == KV_F32) {
        const float4* from = reinterpret_cast<const float4*>(plane + 4 * at);
        const float4 low = from[0], high = from[1];
        x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
        x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
    } else if (TYPE == KV_F16) {
        const uint4 words = *reinterpret_cast<const uint4*>(plane + 2 * at);
        const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) x[i] = f16_to_f32(uint16_t(word[i / 2] >> 16 * (i % 2)));
    } else {
        const uint2 words = *reinterpret_cast<const uint2*>(plane + at);
        const uint32_t word[2] = {words.x, words.y};
        const float scale = scale_of(plane, shape, slot, dim);
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) x[i] = float(int8_t(word[i / 4] >> 8 * (i % 4))) * scale;
    }
}

template <int TYPE>
DEVICE float read_one(const uint8_t* plane, const PlaneShape& shape, unsigned slot, unsigned dim) {
    const size_t at = size_t(slot) * shape.padded + dim;
    if (TYPE == KV_F32) return reinterpret_cast<const float*>(plane)[at];
    if (TYPE == KV_F16) return f16_to_f32(reinterpret_cast<const uint16_t*>(plane)[at]);
    return float(reinterpret_cast<const int8_t*>(plane)[at]) * scale_of(plane, shape, slot, dim);
}

template <int TYPE>
DEVICE void attend_exactly(const AttentionArgs& a) {
    SHARED(float, queries, TILE * MOST_DIMS);
    // Scores, then weights: [query][slot of the chunk].
    SHARED(float, weights, TILE * CHUNK_SLOTS);
    SHARED(unsigned, seen, TILE);
    SHARED(float, best, TILE);
    SHARED(float, sum, TILE);
    SHARED(float, keep, TILE);
    SHARED(float, take, TILE);
    Item item;
    if (!find_item(a, item)) return;
    const KvShape& kv = a.kv;
    const unsigned kv_head = block_y(), thread = thread_x(), lane = thread % 32;

    // A missing query sees nothing.
    if (thread < TILE)
        seen[thread] = thread < item.queries ? a.step.visible[query_of(a, item, kv_head, thread).row] : 0;
    for (unsigned i = thread; i < TILE * kv.keys.padded; i += block_dim()) {
        const unsigned q = i / kv.keys.padded, dim = i % kv.keys.padded;
        float x = 0.0f;
        if (q < item.queries && dim < kv.keys.dim) {
            const Query query = query_of(a, item, kv_head, q);
            x = a.qkv[size_t(query.row) * qkv_width(kv) + size_t(query.head) * kv.keys.dim + dim];
        }
        queries[q * MOST_DIMS + dim] = x;
    }
    sync();
    // All of them see the slots below `least`, none of them those from `most` on.
    unsigned most = 0, least = ALL_CHUNKS;
    for (unsigned q = 0; q < item.queries; ++q) {
        most = max(most, seen[q]);
        least = min(least, seen[q]);
    }
    const bool whole = item.chunk == ALL_CHUNKS;
    const unsigned first_chunk = whole ? 0 : item.chunk;
    const unsigned end_chunk = whole ? (most + CHUNK_SLOTS - 1) / CHUNK_SLOTS : item.chunk + 1;
    const uint32_t* pages = a.step.pages + a.step.sequences[item.sequence].first_page;

    // When values are mixed a thread has one dimension of queries `first ..`, `mine` of them.
    const unsigned groups = block_dim() / kv.values.padded, each = (TILE + groups - 1) / groups;
    const unsigned dim = thread % kv.values.padded, first = thread / kv.values.padded * each;
    const unsigned mine = first < item.queries ? min(each, item.queries - first) : 0;
    float running[TILE];
#pragma unroll
    for (unsigned i = 0; i < TILE; ++i) running[i] = 0.0f;

    for (unsigned chunk = first_chunk; chunk < end_chunk; ++chunk) {
        const unsigned base = chunk * CHUNK_SLOTS, end = min(most, base + CHUNK_SLOTS);
        // A thread has one slot's scores.
        const unsigned slot = base + thread;
        if (slot < end) {
            const uint8_t* plane = plane_of(a, pages[slot / PAGE_SLOTS], kv_head, false);
            float scores[TILE];
#pragma unroll
            for (unsigned q = 0; q < TILE; ++q) scores[q] = 0.0f;
#pragma unroll 1
            for (unsigned from = 0; from < kv.keys.padded; from += 8) {
                float key[8];
                read_eight<TYPE>(key, plane, kv.keys, slot % PAGE_SLOTS, from);
#pragma unroll
                for (unsigned q = 0; q < TILE; ++q) {
                    const float4* query = reinterpret_cast<const float4*>(queries + q * MOST_DIMS + from);
                    const float4 low = query[0], high = query[1];
                    float score = scores[q];
                    score = fma_(low.x, key[0], score);
                    score = fma_(low.y, key[1], score);
                    score = fma_(low.z, key[2], score);
                    score = fma_(low.w, key[3], score);
                    score = fma_(high.x, key[4], score);
                    score = fma_(high.y, key[5], score);
                    score = fma_(high.z, key[6], score);
                    scores[q] = fma_(high.w, key[7], score);
                }
            }
#pragma unroll
            for (unsigned q = 0; q < TILE; ++q) weights[q * CHUNK_SLOTS + thread] = scores[q];
        }
        sync();

        // A warp weighs every eighth query.
        for (unsigned q = thread / 32; q < TILE; q += block_dim() / 32) {
            if (seen[q] <= base) continue;
            const unsigned slots = min(seen[q] - base, CHUNK_SLOTS);
            float* own = weights + q * CHUNK_SLOTS;
            float greatest = -INFINITY;
            for (unsigned i = lane; i < slots; i += 32) greatest = fmaxf(greatest, own[i]);
            // Scaling rounds monotonically, so the greatest scaled score is the scaled greatest score.
            greatest = warp_max(greatest) * a.scale;
            float part = 0.0f;
            for (unsigned i = lane; i < slots; i += 32) {
                own[i] = exp_(own[i] * a.scale - greatest);
                part = part + own[i];
            }
            const float total = warp_sum(part);
            if (lane == 0) {
                if (!whole || chunk == 0) {
                    best[q] = greatest;
                    sum[q] = total;
                } else {
                    const Merge merge = merge_of(best[q], greatest);
                    best[q] = merge.greatest;
                    keep[q] = merge.keep;
                    take[q] = merge.take;
                    sum[q] = sum[q] * merge.keep + total * merge.take;
                }
            }
        }
        sync();

        if (mine) {
            float mixed[TILE];
#pragma unroll
            for (unsigned i = 0; i < TILE; ++i) mixed[i] = 0.0f;
            for (unsigned from = base; from < end; from += PAGE_SLOTS) {
                const uint8_t* plane = plane_of(a, pages[from / PAGE_SLOTS], kv_head, true);
                const unsigned slots = min(end - from, PAGE_SLOTS);
#pragma unroll 1
                for (unsigned at = 0; at < slots; ++at) {
                    const float value = read_one<TYPE>(plane, kv.values, at, dim);
                    const unsigned slot = from + at;
#pragma unroll
                    for (unsigned i = 0; i < TILE; ++i)
                        if (i < mine && (slot < least || slot < seen[first + i]))
                            mixed[i] = fma_(weights[(first + i) * CHUNK_SLOTS + slot - base], value, mixed[i]);
                }
            }
#pragma unroll
            for (unsigned i = 0; i < TILE; ++i) {
                const unsigned q = first + i;
                if (i >= mine || seen[q] <= base) continue;
                if (!whole) {
                    const Query query = query_of(a, item, kv_head, q);
                    const size_t state = state_of(a, query.row, query.head, chunk);
                    a.mixed[state * kv.values.padded + dim] = mixed[i];
                    if (dim == 0) a.tails[state] = make_float2(best[q], sum[q]);
                } else {
                    running[i] = chunk == 0 ? mixed[i] : running[i] * keep[q] + mixed[i] * take[q];
                }
            }
        }
        sync();
    }

    if (!whole || dim >= kv.values.dim) return;
#pragma unroll
    for (unsigned i = 0; i < TILE; ++i) {
        const unsigned q = first + i;
        if (i >= mine) continue;
        const Query query = query_of(a, item, kv_head, q);
        a.out[size_t(query.row) * attended_width(kv) + size_t(query.head) * kv.values.dim + dim] = running[i] / sum[q];
    }
}

// Blocks have 256 threads, one for each slot of a chunk.
KERNEL(attention_exact_f32, AttentionArgs, 256) { attend_exactly<KV_F32>(a); }
KERNEL(attention_exact_f16, AttentionArgs, 256) { attend_exactly<KV_F16>(a); }
KERNEL(attention_exact_q8_0, AttentionArgs, 256) { attend_exactly<KV_Q8_0>(a); }
