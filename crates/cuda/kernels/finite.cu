// Looks for values that are infinite or not a number: a block per row.
//
// What is kept is the least of (place, bits of the value): the first place in the model's order, whatever the order of
// blocks.

#include "args.cuh"

KERNEL(check_finite, FiniteArgs, 256) {
    if (block_x() >= *a.rows) return;
    const float* x = a.x + uint64_t(block_x()) * a.width;
    uint32_t least = 0xffffffff;
    for (unsigned i = thread_x(); i < a.width; i += block_dim()) {
        const uint32_t bits = as_u32(x[i]);
        // All bits of the exponent are set; a NaN of all ones would look like none, so its last bit is dropped.
        if ((bits & 0x7f800000) == 0x7f800000) least = min(least, bits == 0xffffffff ? 0xfffffffeu : bits);
    }
    for (unsigned lanes = 16; lanes; lanes /= 2) least = min(least, shfl_xor(least, lanes));
    if (thread_x() % 32 == 0 && least != 0xffffffff) atomic_min(a.first, uint64_t(a.place) << 32 | least);
}
