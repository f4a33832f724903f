// The emulation tried: barriers, shuffles, products and copies do what they should, and what cannot go on is reported.
// A program of its own; the build script compiles it into the library and tests/device.rs calls it.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "machine.cuh"

namespace {

struct Args {
    float* out;
    const float* in;
    int what;
};

std::string complaint;

void expect(bool holds, const char* what) {
    if (!holds) complaint += std::string(what) + "; ";
}

bool says(const char* message, const char* part) {
    return message && std::string(message).find(part) != std::string::npos;
}

}  // namespace

// The sum of a block's inputs, by warps and then through shared memory, three times over so that a missing barrier shows.
KERNEL(try_sum, Args, 256) {
    SHARED(float, sums, 8);
    float x = a.in[block_x() * block_dim() + thread_x()], total = 0.0f;
    for (int round = 0; round < 3; ++round) {
        const float sum = warp_sum(x);
        if (a.what != 1) sync();
        if (thread_x() % 32 == 0) sums[thread_x() / 32] = sum;
        sync();
        for (unsigned i = 0; i < block_dim() / 32; ++i) total += sums[i];
        x = x + 1.0f;
    }
    if (thread_x() == 0) a.out[block_x()] = total;
}

// Things that must be reported.
KERNEL(try_wrong, Args, 64) {
    const unsigned lane = thread_x();
    if (a.what == 0 && lane == 5) return;
    if (a.what == 1 && lane < 32) return;
    if (a.what <= 1) sync();
    if (a.what == 2 && lane == 40) return;
    if (a.what == 3 && lane < 7) sync_warp();
    if (a.what == 2 || a.what == 3) a.out[lane] = warp_sum(1.0f);
}

KERNEL(try_copies, Args, 64) {
    float* ring = shared_bytes<float>();
    const unsigned thread = thread_x();
    for (int i = 0; i < 3; ++i) {
        cp_async_16(ring + (i * 64 + thread) * 4, a.in + (i * 64 + thread) * 4, thread != 63);
        cp_async_commit();
    }
    cp_async_wait<1>();
    sync();
    const unsigned other = 63 - thread;
    a.out[thread] = ring[other * 4] + ring[(64 + other) * 4 + 3];
    // The third has not been waited for.
    a.out[64 + thread] = ring[(128 + thread) * 4];
    cp_async_wait<0>();
    a.out[128 + thread] = ring[(128 + thread) * 4];
}

// Products of random fragments: the unit and the chains by hand; and bytes.
KERNEL(try_products, Args, 32) {
    const unsigned lane = thread_x(), g = lane / 4, t = lane % 4;
    // Small integers: every order gives the same sum.
    auto of = [](unsigned i) { return float(int(i * 2654435761u >> 28) - 8); };
    auto at_a = [&](unsigned row, unsigned k) { return of(row * 40 + k); };
    auto at_b = [&](unsigned k, unsigned col) { return of(1000 + col * 40 + k); };
    auto bytes = [](auto from) {
        uint32_t word = 0;
        for (unsigned i = 0; i < 4; ++i) word |= uint32_t(uint8_t(int8_t(from(i)))) << 8 * i;
        return word;
    };
    float expected[3][4];
    const unsigned depths[3] = {8, 16, 32};
    for (unsigned s = 0; s < 3; ++s)
        for (unsigned i = 0; i < 4; ++i) {
            expected[s][i] = float(i);
            for (unsigned k = 0; k < depths[s]; ++k)
                expected[s][i] += at_a(g + 8 * (i / 2), k) * at_b(k, 2 * t + i % 2);
        }
    uint32_t wide[4], wide_b[2], half[4], half_b[2], byte[4], byte_b[2];
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = g + 8 * (i % 2), later = i / 2;
        wide[i] = f32_to_tf32(at_a(row, t + 4 * later)) | 0x1fff;
        half[i] = pack_bf16(at_a(row, 2 * t + 8 * later), at_a(row, 2 * t + 1 + 8 * later));
        byte[i] = bytes([&](unsigned k) { return at_a(row, 4 * t + k + 16 * later); });
    }
    for (unsigned i = 0; i < 2; ++i) {
        wide_b[i] = f32_to_tf32(at_b(t + 4 * i, g));
        half_b[i] = pack_bf16(at_b(2 * t + 8 * i, g), at_b(2 * t + 1 + 8 * i, g));
        byte_b[i] = bytes([&](unsigned k) { return at_b(4 * t + k + 16 * i, g); });
    }
    bool good = true;
    for (int by_hand = 0; by_hand < 2; ++by_hand) {
        float d[4] = {0, 1, 2, 3}, e[4] = {0, 1, 2, 3};
        if (by_hand) {
            mma_tf32_by_hand(d, wide, wide_b);
            mma_bf16_by_hand(e, half, half_b);
        } else {
            mma_tf32_1688(d, wide, wide_b);
            mma_bf16_16816(e, half, half_b);
        }
        for (int i = 0; i < 4; ++i) good &= d[i] == expected[0][i] && e[i] == expected[1][i];
    }
    int d[4] = {0, 1, 2, 3}, e[4] = {0, 1, 2, 3};
    mma_s8_16832(d, byte, byte_b);
    const uint32_t first[2] = {byte[0], byte[1]};
    mma_s8_16816(e, first, byte_b[0]);
    for (int i = 0; i < 4; ++i) good &= float(d[i]) == expected[2][i] && float(e[i]) == expected[1][i];
    int plain = 7;
    for (unsigned i = 0; i < 4; ++i) plain += int(int8_t(byte[0] >> 8 * i)) * int(int8_t(byte_b[0] >> 8 * i));
    good &= dp4a(int(byte[0]), int(byte_b[0]), 7) == plain;
    good &= shfl(int(lane), lane + 1) == int((lane + 1) % 32) && shfl_xor(int(lane), 5) == int(lane ^ 5);
    a.out[lane] = good ? 1.0f : 0.0f;
}

extern "C" const char* emulation_test() {
    complaint.clear();
    float in[2048], out[256];
    for (int i = 0; i < 2048; ++i) in[i] = float(i % 97);
    Args args = {out, in, 0};
    const uint3 one = {1, 1, 1}, two_warps = {64, 1, 1};

    expect(!emulate_try_sum({8, 1, 1}, {256, 1, 1}, 0, &args), "sums run");
    bool good = true;
    for (int block = 0; block < 8; ++block) {
        float sum = 0;
        for (int i = 0; i < 256; ++i) sum += 3 * in[256 * block + i] + 3;
        good &= out[block] == sum;
    }
    expect(good, "sums are right");
    args.what = 1;
    expect(!emulate_try_sum({8, 1, 1}, {256, 1, 1}, 0, &args), "sums with a missing barrier run");
    good = true;
    for (int block = 0; block < 8; ++block) {
        float sum = 0;
        for (int i = 0; i < 256; ++i) sum += 3 * in[256 * block + i] + 3;
        good &= out[block] == sum;
    }
    expect(!good, "a missing barrier shows");

    const char* parts[4] = {"ended without it", "ended without it", "have ended", "others wait at sync_warp"};
    for (args.what = 0; args.what < 4; ++args.what)
        expect(says(emulate_try_wrong(one, two_warps, 0, &args), parts[args.what]), parts[args.what]);
    expect(says(emulate_try_wrong(one, {33, 1, 1}, 0, &args), "whole warps"), "whole warps");
    expect(says(emulate_try_wrong(one, {96, 1, 1}, 0, &args), "at most 64"), "most threads");
    expect(says(emulate_try_wrong({0, 1, 1}, two_warps, 0, &args), "a grid of"), "empty grid");
    expect(says(emulate_try_copies(one, two_warps, 1 << 20, &args), "shared memory"), "too much shared memory");
    expect(says(emulate_try_copies(one, two_warps, 64, &args), "outside the block's shared memory"), "outside");

    expect(!emulate_try_copies(one, two_warps, 3 * 64 * 16, &args), "copies run");
    good = true;
    for (unsigned thread = 0; thread < 64; ++thread) {
        const unsigned other = 63 - thread;
        good &= out[thread] == (other == 63 ? 0 : in[other * 4] + in[(64 + other) * 4 + 3]);
        good &= out[64 + thread] != out[64 + thread];
        good &= out[128 + thread] == (thread == 63 ? 0 : in[(128 + thread) * 4]);
    }
    expect(good, "copies arrive when they are waited for");

    expect(!emulate_try_products(one, {32, 1, 1}, 0, &args), "products run");
    good = true;
    for (int lane = 0; lane < 32; ++lane) good &= out[lane] == 1.0f;
    expect(good, "products are right");

    good = true;
    for (uint32_t h = 0; h < 0x10000; ++h) {
        const float x = f16_to_f32(uint16_t(h));
        if (x != x) {
            good &= (h & 0x7c00) == 0x7c00 && (h & 0x3ff);
            continue;
        }
        good &= f32_to_f16(x) == h;
        // Halfway to the next one goes to the even one.
        if ((h & 0x7fff) < 0x7bff) {
            const float halfway = (x + f16_to_f32(uint16_t(h + 1))) / 2;
            good &= f32_to_f16(halfway) == (h + (h & 1));
            good &= f32_to_f16(as_f32(as_u32(halfway) - 1)) == h && f32_to_f16(as_f32(as_u32(halfway) + 1)) == h + 1;
        }
        good &= f32_to_bf16(bf16_to_f32(uint16_t(h))) == h || (h & 0x7fff) > 0x7f80;
    }
    good &= f32_to_f16(65519.0f) == 0x7bff && f32_to_f16(65520.0f) == 0x7c00 && f32_to_f16(-1e30f) == 0xfc00;
    good &= f32_to_bf16(as_f32(0x3f808000)) == 0x3f80 && f32_to_bf16(as_f32(0x3f818000)) == 0x3f82;
    good &= f32_to_tf32(as_f32(0x3f801000)) == 0x3f802000 && f32_to_tf32(as_f32(0x3f800fff)) == 0x3f800000;
    expect(good, "narrow floats");

    double worst = 0;
    for (double x = -87; x < 88.7; x += 0.00037) {
        const float rounded = float(x);
        const double exact = exp(double(rounded)), ulp = ldexp(1.0, ilogb(exact) - 23);
        const double error = fabs(double(exp_(rounded)) - exact) / ulp;
        if (error > worst) worst = error;
    }
    expect(worst < 2, "exp_ within two units");
    expect(exp_(0.0f) == 1 && exp_(-200.0f) == 0 && exp_(-INFINITY) == 0 && std::isinf(exp_(100.0f)) &&
               std::isnan(exp_(NAN)) && exp_(-100.0f) > 0,
           "exp_ at its ends");
    return complaint.empty() ? nullptr : complaint.c_str();
}

#ifdef EMULATION_TEST_MAIN
int main() {
    const char* wrong = emulation_test();
    puts(wrong ? wrong : "the emulation works");
    return wrong != nullptr;
}
#endif
