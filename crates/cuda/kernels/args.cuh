// What kernels are called with: mirrors of the structs in src/args.rs and src/step.rs, field by field. Pointers are 64
// bits there. Everything that changes from step to step lies in the uploaded batch, so that a step's launches can be
// replayed as they are.

#pragma once

#include "machine.cuh"

// Places in Step::counts. From word 4 on follow four words about attention's schedule for each kind of layer; see
// attention.cuh.
enum Count {
    ROWS,
    LOGITS_ROWS,
    // 64 bits, see finite.cu.
    NOT_FINITE,
};

// One sequence's part of a batch.
struct Sequence {
    uint32_t first_row;
    uint32_t rows;
    // Slots that hold keys and values once this step has written its own.
    uint32_t kv_len;
    // Slots before this are visible to every row.
    uint32_t prefix_len;
    // Its pages are Step::pages[first_page ..].
    uint32_t first_page;
};

// An uploaded batch.
struct Step {
    // See Count.
    const uint32_t* counts;
    // [rows]
    const uint32_t* tokens;
    // [rows]
    const uint32_t* slots;
    // [rows]: how many slots, counted from 0, each row sees.
    const uint32_t* visible;
    // [rows]: which of the sequences.
    const uint32_t* sequence_of;
    // [logits_rows]
    const uint32_t* logits_rows;
    const Sequence* sequences;
    // The pages of all sequences, then attention's schedules.
    const uint32_t* pages;
};

// kernels/embed.cu
struct EmbedArgs {
    // How many rows.
    const uint32_t* rows;
    // [rows]
    const uint32_t* tokens;
    // A run of the table's rows.
    const uint8_t* weights;
    // A scale per row of the run, or null (embed_rows only).
    const uint16_t* scales;
    // [rows, width]
    float* out;
    // Bytes of a row, or of a tile of rows.
    uint64_t stride;
    // The first token of the run and how many there are.
    uint32_t first;
    uint32_t count;
    uint32_t width;
    // A place in DType::WEIGHTS.
    uint32_t type;
};

// kernels/norm.cu
struct NormArgs {
    // How many rows.
    const uint32_t* rows;
    // [rows, width]
    const float* x;
    float* out;
    // [width]
    const float* weight;
    // [width], or null.
    const float* bias;
    uint32_t width;
    float eps;
    // Whether the mean is subtracted.
    uint32_t centred;
    // Whether the result is added to `out`.
    uint32_t add;
};

// kernels/rope.cu
struct RopeArgs {
    const uint32_t* rows;
    // [rows, row_width], whose first heads * head_dim elements are turned.
    float* qkv;
    // [rows, pairs]: cosine and sine.
    const float2* cos_sin;
    // [pairs]: the two elements of a head.
    const uint2* pairs;
    uint32_t row_width;
    uint32_t heads;
    uint32_t head_dim;
    uint32_t pair_count;
};

// kernels/gather.cu
struct GatherArgs {
    const uint32_t* count;
    // [count]: which row of `x`.
    const uint32_t* from;
    const float* x;
    float* out;
    uint32_t width;
    uint32_t unused;
};

// kernels/largest.cu
struct LargestArgs {
    const uint32_t* rows;
    // [rows, width]
    const float* x;
    // [rows]
    uint32_t* out;
    uint32_t width;
    uint32_t unused;
};

// kernels/candidates.cu
struct CandidatesArgs {
    const uint32_t* rows;
    // [rows, count], or null where keys are what there is.
    const float* x;
    // [rows, count]
    const uint64_t* keys;
    // Of each row `stride` numbers apart: of each chunk the largest keys.
    uint64_t* out;
    uint32_t count;
    uint32_t stride;
};

// kernels/candidates.cu
struct WeighArgs {
    const uint32_t* rows;
    // [rows, width]
    const float* x;
    // [rows]
    const float* temperatures;
    // [rows, stride]: the largest keys, which are there, and the sum of each chunk.
    double* row;
    uint32_t width;
    uint32_t stride;
};

// kernels/finite.cu
struct FiniteArgs {
    const uint32_t* rows;
    const float* x;
    // Lowered to the place, shifted by 32, and the bits of a value that is not finite.
    uint64_t* first;
    uint32_t width;
    uint32_t place;
};
