// Rotary position embedding (Su et al., "RoFormer", 2021) on queries and keys in place: a block per row and head.

#include "args.cuh"

KERNEL(rope, RopeArgs, 128) {
    if (block_x() >= *a.rows) return;
    float* head = a.qkv + uint64_t(block_x()) * a.row_width + block_y() * a.head_dim;
    const float2* turns = a.cos_sin + uint64_t(block_x()) * a.pair_count;
    for (unsigned i = thread_x(); i < a.pair_count; i += block_dim()) {
        const uint2 pair = a.pairs[i];
        const float2 turn = turns[i];
        const float x = head[pair.x], y = head[pair.y];
        head[pair.x] = x * turn.x - y * turn.y;
        head[pair.y] = y * turn.x + x * turn.y;
    }
}
