// Where the fields of args.cuh lie, for the test that compares them with their mirrors in Rust.

#include "args.cuh"

namespace {

struct Field {
    const char* name;
    size_t offset;
};

#define FIELD(type, field) {#type "." #field, offsetof(type, field)}
#define SIZE(type) {#type, sizeof(type)}

const Field FIELDS[] = {
    SIZE(Sequence), FIELD(Sequence, first_row), FIELD(Sequence, rows), FIELD(Sequence, kv_len),
    FIELD(Sequence, prefix_len), FIELD(Sequence, first_page),
    SIZE(Step), FIELD(Step, counts), FIELD(Step, tokens), FIELD(Step, slots), FIELD(Step, visible),
    FIELD(Step, sequence_of), FIELD(Step, logits_rows), FIELD(Step, sequences), FIELD(Step, pages),
    SIZE(EmbedArgs), FIELD(EmbedArgs, rows), FIELD(EmbedArgs, tokens), FIELD(EmbedArgs, weights),
    FIELD(EmbedArgs, scales), FIELD(EmbedArgs, out), FIELD(EmbedArgs, stride), FIELD(EmbedArgs, first),
    FIELD(EmbedArgs, count), FIELD(EmbedArgs, width), FIELD(EmbedArgs, type),
    SIZE(NormArgs), FIELD(NormArgs, rows), FIELD(NormArgs, x), FIELD(NormArgs, out), FIELD(NormArgs, weight),
    FIELD(NormArgs, bias), FIELD(NormArgs, width), FIELD(NormArgs, eps), FIELD(NormArgs, centred), FIELD(NormArgs, add),
    SIZE(RopeArgs), FIELD(RopeArgs, rows), FIELD(RopeArgs, qkv), FIELD(RopeArgs, cos_sin), FIELD(RopeArgs, pairs),
    FIELD(RopeArgs, row_width), FIELD(RopeArgs, heads), FIELD(RopeArgs, head_dim), FIELD(RopeArgs, pair_count),
    SIZE(GatherArgs), FIELD(GatherArgs, count), FIELD(GatherArgs, from), FIELD(GatherArgs, x), FIELD(GatherArgs, out),
    FIELD(GatherArgs, width), FIELD(GatherArgs, unused),
    SIZE(LargestArgs), FIELD(LargestArgs, rows), FIELD(LargestArgs, x), FIELD(LargestArgs, out),
    FIELD(LargestArgs, width), FIELD(LargestArgs, unused),
    SIZE(CandidatesArgs), FIELD(CandidatesArgs, rows), FIELD(CandidatesArgs, x), FIELD(CandidatesArgs, keys),
    FIELD(CandidatesArgs, out), FIELD(CandidatesArgs, count), FIELD(CandidatesArgs, stride),
    SIZE(WeighArgs), FIELD(WeighArgs, rows), FIELD(WeighArgs, x), FIELD(WeighArgs, temperatures), FIELD(WeighArgs, row),
    FIELD(WeighArgs, width), FIELD(WeighArgs, stride),
    SIZE(FiniteArgs), FIELD(FiniteArgs, rows), FIELD(FiniteArgs, x), FIELD(FiniteArgs, first), FIELD(FiniteArgs, width),
    FIELD(FiniteArgs, place),
};

}  // namespace

// The offset of "Struct.field" or the size of "Struct"; a number that is neither when there is none.
extern "C" size_t emulation_offset(const char* name) {
    for (const Field& field : FIELDS)
        if (!strcmp(field.name, name)) return field.offset;
    return size_t(-1);
}
