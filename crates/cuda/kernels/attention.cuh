// What the kernels of the key/value cache and of attention share: their arguments, where a vector lies in the cache, and
// how the states of two runs of keys are merged.
//
// A layer of the cache is `[page][kv_head]` tiles. A tile holds the keys of PAGE_SLOTS slots `[slot][padded]`, then their
// values in the same way; `padded` is head_dim rounded up to 16, and what is beyond head_dim is zero. In Q8_0 the f16
// scales `[slot][block]` of the keys follow the keys, those of the values the values.

#pragma once

#include "args.cuh"

constexpr unsigned PAGE_SLOTS = 32;
// Chunks of absolute slots have their own state and are merged in slot order, whatever the batch.
constexpr unsigned CHUNK_SLOTS = 256;
// Elements that share a scale.
constexpr unsigned KV_BLOCK = 32;
// Queries of a tile: consecutive query heads of consecutive rows, for one key/value head.
constexpr unsigned TILE = 16;
// The chunk of an item that goes through all of them.
constexpr uint32_t ALL_CHUNKS = 0xffffffff;

enum KvType { KV_F32, KV_F16, KV_Q8_0 };

// Mirrors KvShape in src/attention.rs.
struct KvShape {
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t padded;
    // Bytes of a tile's keys (or values) with their scales.
    uint32_t half_tile;
    // Scales of a slot's key.
    uint32_t blocks;
};

// kernels/cache.cu
struct CacheArgs {
    Step step;
    // [rows, qkv_width]
    const float* qkv;
    // The layer's tiles.
    uint8_t* layer;
    KvShape kv;
};

// kernels/attention_exact.cu, attention_tensor.cu, attention_merge.cu
struct AttentionArgs {
    Step step;
    // [rows, qkv_width]
    const float* qkv;
    // [rows, q_width]
    float* out;
    const uint8_t* layer;
    // [states, padded]: a state's mixed values.
    float* mixed;
    // [states]: its greatest score and the sum of its weights.
    float2* tails;
    KvShape kv;
    // SPLIT_ITEMS or WHOLE_ITEMS.
    uint32_t count;
    uint32_t unused;
    // 1 / sqrt(head_dim)
    float scale;
    // Whether values have shared memory of their own, to be read while scores are computed (attention_split only).
    uint32_t apart;
};

// Places in Step::counts: how many items the schedule has, and how many rows whose states are to be merged.
enum { SPLIT_ITEMS = WORK, WHOLE_ITEMS, SPLIT_ROWS };

// The schedule that src/attention.rs writes: the first state of each row (see state_of), the rows that are split, split
// items and whole ones.
struct Item {
    uint32_t sequence;
    // Queries of the sequence: query q is head `kv_head * group + q % group` of its row `q / group`.
    uint32_t first_query;
    uint32_t queries;
    // A chunk, or ALL_CHUNKS.
    uint32_t chunk;
};

DEVICE const uint32_t* schedule(const Step& step) { return step.pages + step.counts[WORK_FROM]; }

// The block's item; false when there are fewer.
DEVICE bool find_item(const AttentionArgs& a, Item& item) {
    if (block_x() >= a.step.counts[a.count]) return false;
    const uint32_t* counts = a.step.counts;
    const unsigned at = block_x() + (a.count == WHOLE_ITEMS ? counts[SPLIT_ITEMS] : 0);
    const uint32_t* words = schedule(a.step) + counts[ROWS] + counts[SPLIT_ROWS] + 4 * at;
    item = {words[0], words[1], words[2], words[3]};
    return true;
}

// Where the state of a row's query head over a chunk is kept.
DEVICE size_t state_of(const AttentionArgs& a, unsigned row, unsigned head, unsigned chunk) {
    return size_t(schedule(a.step)[row] + chunk) * a.kv.heads + head;
}

DEVICE unsigned group_of(const KvShape& kv) { return kv.heads / kv.kv_heads; }
DEVICE unsigned qkv_width(const KvShape& kv) { return (kv.heads + 2 * kv.kv_heads) * kv.head_dim; }
DEVICE unsigned q_width(const KvShape& kv) { return kv.heads * kv.head_dim; }

// A query of an item.
struct Query {
    unsigned row;
    unsigned head;
};

DEVICE Query query_of(const AttentionArgs& a, const Item& item, unsigned kv_head, unsigned q) {
    const unsigned group = group_of(a.kv), query = item.first_query + q;
    return {a.step.sequences[item.sequence].first_row + query / group, kv_head * group + query % group};
}

// The keys (or values) of a page's tile.
DEVICE const uint8_t* plane_of(const AttentionArgs& a, uint32_t page, unsigned kv_head, bool values) {
    return a.layer + (2 * (size_t(page) * a.kv.kv_heads + kv_head) + values) * a.kv.half_tile;
}

// The scale of an element of a plane in Q8_0.
DEVICE float scale_of(const uint8_t* plane, const KvShape& kv, unsigned slot, unsigned dim) {
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(plane + PAGE_SLOTS * kv.padded);
    return f16_to_f32(scales[slot * kv.blocks + dim / KV_BLOCK]);
}

// What two runs of keys weigh when they are merged.
struct Merge {
    float greatest;
    float keep;
    float take;
};

DEVICE Merge merge_of(float best, float next) {
    const float greatest = fmaxf(best, next);
    return {greatest, exp_(best - greatest), exp_(next - greatest)};
}
