// Picks the rows whose logits are wanted: a block per row.

#include "args.cuh"

KERNEL(gather, GatherArgs, 256) {
    if (block_x() >= *a.count) return;
    const float* from = a.x + uint64_t(a.from[block_x()]) * a.width;
    float* to = a.out + uint64_t(block_x()) * a.width;
    for (unsigned i = thread_x(); i < a.width; i += block_dim()) to[i] = from[i];
}
