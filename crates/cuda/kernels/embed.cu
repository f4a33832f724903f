// Rows of an embedding as exact floats: a block per row of the batch. A table is one or more runs of rows whose weights
// have one type; each run is a launch that leaves the other runs' tokens alone.

#include "args.cuh"
#include "decode.cuh"

// A table that products use as well, in tiles.
KERNEL(embed_tiles, EmbedArgs, 128) {
    if (block_x() >= *a.rows) return;
    const uint32_t row = a.tokens[block_x()] - a.first;
    if (row >= a.count) return;
    const uint8_t* tile = a.weights + uint64_t(row / TILE) * a.stride;
    float* out = a.out + uint64_t(block_x()) * a.width;
    for (unsigned b = thread_x(); b * 32 < a.width; b += block_dim()) {
        float values[32];
        exact_of_type(a.type, tile, b, row % TILE, values);
        for (unsigned i = 0; i < 32 && b * 32 + i < a.width; ++i) out[b * 32 + i] = values[i];
    }
}

// A table of which only single rows are looked up, as it lies in the file.
KERNEL(embed_rows, EmbedArgs, 128) {
    if (block_x() >= *a.rows) return;
    const uint32_t row = a.tokens[block_x()] - a.first;
    if (row >= a.count) return;
    const uint8_t* bytes = a.weights + uint64_t(row) * a.stride;
    const float scale = a.scales ? f16_to_f32(a.scales[row]) : 1.0f;
    float* out = a.out + uint64_t(block_x()) * a.width;
    for (unsigned i = thread_x(); i < a.width; i += block_dim()) out[i] = element_in_file(a.type, bytes, i, scale);
}
