// Merges the states of the chunks of rows whose attention was split, in slot order.

#include "attention.cuh"

// A block takes a row's query head and up to 128 dimensions.
KERNEL(attention_merge, AttentionArgs, 128) {
    // States that are brought at once, one per lane; and dimensions of a block.
    constexpr unsigned AHEAD = 32, DIMS = 128;
    SHARED(float4, states, 2 * AHEAD * DIMS / 4);
    if (block_x() >= work_of(a, SPLIT_ROWS)) return;
    const KvShape& kv = a.kv;
    const unsigned row = schedule(a)[a.step.counts[ROWS] + block_x()], head = block_y(), lane = thread_x() % 32;
    const unsigned first_dim = block_z() * DIMS, dim = first_dim + thread_x();
    const unsigned chunks = (a.step.visible[row] + CHUNK_SLOTS - 1) / CHUNK_SLOTS;
    const size_t first = state_of(a, row, head, 0);
    // Brings the mixed values of up to AHEAD chunks to one half of `states`.
    const auto bring = [&](unsigned from) {
        const unsigned count = from < chunks ? min(AHEAD, chunks - from) : 0;
        float4* to = states + from / AHEAD % 2 * (AHEAD * DIMS / 4);
        for (unsigned i = thread_x(); i < count * (DIMS / 4); i += block_dim()) {
            const unsigned at = first_dim + i % (DIMS / 4) * 4;
            const size_t state = first + size_t(from + i / (DIMS / 4)) * kv.heads;
            if (at < kv.values.padded) cp_async_16(to + i, a.mixed + state * kv.values.padded + at, true);
        }
        cp_async_commit();
    };
    float mixed = 0.0f, sum = 0.0f, best = -INFINITY;
    bring(0);
    for (unsigned from = 0; from < chunks; from += AHEAD) {
        bring(from + AHEAD);
        // Each lane weighs one chunk: the greatest score up to it is that of a scan, because a maximum has no order.
        const float2 none = make_float2(-INFINITY, 0.0f);
        const float2 tail = from + lane < chunks ? a.tails[first + size_t(from + lane) * kv.heads] : none;
        float greatest = tail.x;
        for (unsigned back = 1; back < 32; back *= 2) {
            const float other = shfl(greatest, lane - back);
            if (lane >= back) greatest = fmaxf(greatest, other);
        }
        greatest = fmaxf(greatest, best);
        const float previous = shfl(greatest, lane - 1);
        const Merge merge = merge_of(lane ? previous : best, tail.x);
        best = shfl(greatest, 31);
        cp_async_wait<1>();
        sync();
        const float* next = reinterpret_cast<const float*>(states) + from / AHEAD % 2 * (AHEAD * DIMS) + thread_x();
#pragma unroll
        for (unsigned i = 0; i < AHEAD; ++i) {
            const float keep = shfl(merge.keep, i), take = shfl(merge.take, i), weight = shfl(tail.y, i);
            if (from + i == 0) {
                mixed = next[0];
                sum = weight;
            } else if (from + i < chunks) {
                mixed = mixed * keep + next[i * DIMS] * take;
                sum = sum * keep + weight * take;
            }
        }
        // The half that was read is the next to be filled.
        sync();
    }
    if (dim < kv.values.dim) a.out[size_t(row) * attended_width(kv) + size_t(head) * kv.values.dim + dim] = mixed / sum;
}
