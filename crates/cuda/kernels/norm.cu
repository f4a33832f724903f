// RMSNorm (Zhang and Sennrich, 2019) and LayerNorm (Ba et al., 2016): a block per row.
//
// ChatGLM-6B multiplies what its norms return by 7.5 at each of 56 residuals, so only the result should be rounded to
// f32. Cards compute f64 slowly; sums are therefore unevaluated pairs of f32 (Dekker, 1971; Ogita, Rump and Oishi,
// "Accurate sum and dot product", 2005), which hold about 45 bits.

#include "args.cuh"
#include "quantize.cuh"

// Mirrored in src/linear.rs.
struct NormBytesArgs {
    NormArgs norm;
    // Of what the norm writes.
    PrepareArgs bytes;
};

namespace {

constexpr unsigned THREADS = 256;

// high + low, |low| at most half a unit in the last place of high.
struct Pair {
    float high;
    float low;
};

// a + b, exactly.
DEVICE Pair two_sum(float a, float b) {
    const float sum = a + b, other = sum - a;
    return {sum, (a - (sum - other)) + (b - other)};
}

// a * b, exactly.
DEVICE Pair two_product(float a, float b) {
    const float product = a * b;
    return {product, fma_(a, b, -product)};
}

DEVICE Pair add(Pair a, Pair b) {
    const Pair sum = two_sum(a.high, b.high);
    return two_sum(sum.high, sum.low + (a.low + b.low));
}

// The sum over the block of each thread's pair, in every thread: a tree over the lanes, then the warps in order.
DEVICE Pair block_sum(Pair x, Pair* warps) {
    for (unsigned lanes = 16; lanes; lanes /= 2) {
        const Pair other = {shfl_xor(x.high, lanes), shfl_xor(x.low, lanes)};
        // Both lanes add the lower one's first, so that they get the same bits.
        x = thread_x() & lanes ? add(other, x) : add(x, other);
    }
    sync();
    if (thread_x() % 32 == 0) warps[thread_x() / 32] = x;
    sync();
    Pair sum = warps[0];
    for (unsigned i = 1; i < THREADS / 32; ++i) sum = add(sum, warps[i]);
    return sum;
}

// x - mean, as a pair.
DEVICE Pair centred(float x, Pair mean) {
    const Pair difference = two_sum(x, -mean.high);
    return two_sum(difference.high, difference.low - mean.low);
}

// Norms this block's row.
DEVICE void norm_row(const NormArgs& a, Pair* warps) {
    const float* x = a.x + uint64_t(block_x()) * a.width;
    float* out = a.out + uint64_t(block_x()) * a.width;
    Pair mean = {0.0f, 0.0f};
    if (a.centred) {
        Pair sum = {0.0f, 0.0f};
        for (unsigned i = thread_x(); i < a.width; i += THREADS) sum = add(sum, {x[i], 0.0f});
        sum = block_sum(sum, warps);
        const double exact = (double(sum.high) + double(sum.low)) / double(a.width);
        mean.high = float(exact);
        mean.low = float(exact - double(mean.high));
    }
    Pair sum = {0.0f, 0.0f};
    for (unsigned i = thread_x(); i < a.width; i += THREADS) {
        const Pair v = centred(x[i], mean);
        Pair square = two_product(v.high, v.high);
        square.low = fma_(2.0f * v.high, v.low, square.low);
        sum = add(sum, square);
    }
    sum = block_sum(sum, warps);
    const double variance = (double(sum.high) + double(sum.low)) / double(a.width);
    const double exact = 1.0 / sqrt(variance + double(a.eps));
    const Pair inverse = {float(exact), float(exact - double(float(exact)))};
    for (unsigned i = thread_x(); i < a.width; i += THREADS) {
        const Pair v = centred(x[i], mean);
        Pair scaled = two_product(v.high, inverse.high);
        scaled.low = fma_(v.high, inverse.low, fma_(v.low, inverse.high, scaled.low));
        const Pair weighted = two_product(scaled.high, a.weight[i]);
        const float rest = fma_(scaled.low, a.weight[i], weighted.low);
        float y;
        if (a.bias) {
            const Pair shifted = two_sum(weighted.high, a.bias[i]);
            y = shifted.high + (shifted.low + rest);
        } else {
            y = weighted.high + rest;
        }
        out[i] = a.add ? out[i] + y : y;
    }
}

}  // namespace

KERNEL(norm_rows, NormArgs, THREADS) {
    if (block_x() >= *a.rows) return;
    SHARED(Pair, warps, THREADS / 32);
    norm_row(a, warps);
}

// The same, and the row as the next product takes it: the block quantizes what it has just written.
KERNEL(norm_bytes, NormBytesArgs, THREADS) {
    if (block_x() >= *a.norm.rows) return;
    SHARED(Pair, warps, THREADS / 32);
    norm_row(a.norm, warps);
    sync();
    for (unsigned first = 0; first < a.bytes.blocks; first += THREADS / 8)
        quantize_block(a.bytes, block_x(), first + thread_x() / 8);
}
