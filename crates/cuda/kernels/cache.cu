// Stores the keys and values of a step's rows in the pages of a layer, rounded as glimmer_tensor::KvType::round does.
//
// A warp takes one head's key or value of one row. Two rows of a step must not name the same slot of the same page.

#include "attention.cuh"

template <int TYPE>
DEVICE void write(const CacheArgs& a) {
    const KvShape& kv = a.kv;
    const unsigned row = block_x(), lane = thread_x() % 32;
    // Keys of all heads, then values: as they lie in the row.
    const unsigned part = block_y() * (block_dim() / 32) + thread_x() / 32;
    if (row >= a.step.counts[ROWS] || part >= 2 * kv.kv_heads) return;
    const bool values = part >= kv.kv_heads;
    const unsigned head = part % kv.kv_heads;
    const PlaneShape& shape = values ? kv.values : kv.keys;
    const float* from = a.qkv + size_t(row) * qkv_width(kv) + q_width(kv) + (values ? kv.kv_heads * kv.keys.dim : 0) +
                        size_t(head) * shape.dim;
    const unsigned slot = a.step.slots[row], at = slot % PAGE_SLOTS;
    const uint32_t page = a.step.pages[a.step.sequences[a.step.sequence_of[row]].first_page + slot / PAGE_SLOTS];
    uint8_t* plane = a.layer + plane_at(kv, page, head, values);
    for (unsigned dim = lane; dim < (shape.padded + 31) / 32 * 32; dim += 32) {
        const float x = dim < shape.dim ? from[dim] : 0.0f;
        const size_t element = size_t(at) * shape.padded + dim;
        if (TYPE == KV_F32 && dim < shape.padded) reinterpret_cast<float*>(plane)[element] = x;
        if (TYPE == KV_F16 && dim < shape.padded) reinterpret_cast<uint16_t*>(plane)[element] = f32_to_f16(x);
        if (TYPE == KV_Q8_0) {
            // The warp has exactly one block. Bytes cannot say that a value is not finite; the scale does.
            const float exact = warp_max(fabsf(x)) / 127.0f;
            const bool finite = warp_max(fabsf(x) <= 3.40282347e38f ? 0.0f : 1.0f) == 0.0f;
            const float rounded = rintf(x * (exact > 0.0f ? 1.0f / exact : 0.0f));
            const float byte = rounded == rounded ? fminf(fmaxf(rounded, -128.0f), 127.0f) : 0.0f;
            if (dim < shape.padded) reinterpret_cast<int8_t*>(plane)[element] = int8_t(byte);
            const unsigned block = dim / KV_BLOCK;
            if (lane == 0 && block < shape.blocks)
                reinterpret_cast<uint16_t*>(plane + PAGE_SLOTS * shape.padded)[at * shape.blocks + block] =
                    finite ? f32_to_f16(exact) : uint16_t(0x7e00);
        }
    }
}

KERNEL(kv_write_f32, CacheArgs, 128) { write<KV_F32>(a); }
KERNEL(kv_write_f16, CacheArgs, 128) { write<KV_F16>(a); }
KERNEL(kv_write_q8_0, CacheArgs, 128) { write<KV_Q8_0>(a); }
