// Where the first of the largest values of a row is: a block per row.
//
// Of two candidates the larger value wins, and of equal ones the one that comes first, so the order does not matter. No
// candidate is worse than minus infinity, and a value that is not a number is none.

#include "args.cuh"

namespace {

constexpr unsigned THREADS = 256;
constexpr uint32_t NOWHERE = 0xffffffff;

struct Candidate {
    float value;
    uint32_t at;
};

DEVICE Candidate better(Candidate a, Candidate b) {
    return b.value > a.value || (b.value == a.value && b.at < a.at) ? b : a;
}

}  // namespace

KERNEL(largest, LargestArgs, 256) {
    if (block_x() >= *a.rows) return;
    SHARED(Candidate, warps, THREADS / 32);
    const float* x = a.x + uint64_t(block_x()) * a.width;
    Candidate best = {-INFINITY, NOWHERE};
    for (unsigned i = thread_x(); i < a.width; i += THREADS) best = better(best, {x[i], i});
    for (unsigned lanes = 16; lanes; lanes /= 2)
        best = better(best, {shfl_xor(best.value, lanes), shfl_xor(best.at, lanes)});
    if (thread_x() % 32 == 0) warps[thread_x() / 32] = best;
    sync();
    if (thread_x()) return;
    for (unsigned i = 1; i < THREADS / 32; ++i) best = better(best, warps[i]);
    a.out[block_x()] = best.at == NOWHERE ? 0 : best.at;
}
