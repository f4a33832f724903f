// What the kernels of the key/value cache and of attention share: their arguments, where a vector lies in the cache, and
// how the states of two runs of keys are merged.
//
// A layer of the cache is `[page][kv_head]` tiles, a tile two planes: the keys of PAGE_SLOTS slots `[slot][padded]`, then
// their values in the same way; `padded` is the vector's `dim` rounded up to 16, and what is beyond `dim` is zero. In Q8_0
// the f16 scales `[slot][block]` of the keys follow the keys, those of the values the values.

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

// How the keys (or the values) of a tile lie. Mirrors PlaneShape in src/attention.rs.
struct PlaneShape {
    uint32_t dim;
    uint32_t padded;
    // Scales of a slot's vector.
    uint32_t blocks;
    // Bytes, with scales.
    uint32_t bytes;
};

// Mirrors KvShape in src/attention.rs.
struct KvShape {
    uint32_t heads;
    uint32_t kv_heads;
    PlaneShape keys;
    PlaneShape values;
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
    // [rows, attended_width]
    float* out;
    const uint8_t* layer;
    // [states, values.padded]: a state's mixed values.
    float* mixed;
    // [states]: its greatest score and the sum of its weights.
    float2* tails;
    KvShape kv;
    // SPLIT_ITEMS or WHOLE_ITEMS.
    uint32_t count;
    // Where in Step::counts the layer's four words are.
    uint32_t work;
    // 1 / sqrt(keys.dim)
    float scale;
    // Whether values have shared memory of their own, to be read while scores are computed (attention_split only).
    uint32_t apart;
};

// The four words: where the schedule begins, counted in words from Step::pages; how many items it has; and how many rows
// whose states are to be merged.
enum { WORK_FROM, SPLIT_ITEMS, WHOLE_ITEMS, SPLIT_ROWS };

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

DEVICE uint32_t work_of(const AttentionArgs& a, unsigned word) { return a.step.counts[a.work + word]; }
DEVICE const uint32_t* schedule(const AttentionArgs& a) { return a.step.pages + work_of(a, WORK_FROM); }

// The block's item; false when there are fewer.
DEVICE bool find_item(const AttentionArgs& a, Item& item) {
    if (block_x() >= work_of(a, a.count)) return false;
    const unsigned at = block_x() + (a.count == WHOLE_ITEMS ? work_of(a, SPLIT_ITEMS) : 0);
    const uint32_t* words = schedule(a) + a.step.counts[ROWS] + work_of(a, SPLIT_ROWS) + 4 * at;
    item = {words[0], words[1], words[2], words[3]};
    return true;
}

// Where the state of a row's query head over a chunk is kept.
DEVICE size_t state_of(const AttentionArgs& a, unsigned row, unsigned head, unsigned chunk) {
    return size_t(schedule(a)[row] + chunk) * a.kv.heads + head;
}

DEVICE unsigned group_of(const KvShape& kv) { return kv.heads / kv.kv_heads; }
DEVICE unsigned q_width(const KvShape& kv) { return kv.heads * kv.keys.dim; }
DEVICE unsigned qkv_width(const KvShape& kv) { return q_width(kv) + kv.kv_heads * (kv.keys.dim + kv.values.dim); }
DEVICE unsigned attended_width(const KvShape& kv) { return kv.heads * kv.values.dim; }

// A query of an item.
struct Query {
    unsigned row;
    unsigned head;
};

DEVICE Query query_of(const AttentionArgs& a, const Item& item, unsigned kv_head, unsigned q) {
    const unsigned group = group_of(a.kv), query = item.first_query + q;
    return {a.step.sequences[item.sequence].first_row + query / group, kv_head * group + query % group};
}

// Where in a layer the keys (or values) of a page's tile begin.
DEVICE size_t plane_at(const KvShape& kv, uint32_t page, unsigned kv_head, bool values) {
    return (size_t(page) * kv.kv_heads + kv_head) * (kv.keys.bytes + kv.values.bytes) + (values ? kv.keys.bytes : 0);
}

// The keys (or values) of a page's tile.
DEVICE const uint8_t* plane_of(const AttentionArgs& a, uint32_t page, unsigned kv_head, bool values) {
    return a.layer + plane_at(a.kv, page, kv_head, values);
}

// The scale of an element of a plane in Q8_0.
DEVICE float scale_of(const uint8_t* plane, const PlaneShape& shape, unsigned slot, unsigned dim) {
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(plane + PAGE_SLOTS * shape.padded);
    return f16_to_f32(scales[slot * shape.blocks + dim / KV_BLOCK]);
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
