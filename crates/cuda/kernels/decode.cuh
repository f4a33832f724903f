// The weight types as they lie on the card, and how to get integers, scales and exact floats out again. The other side
// of src/weights.rs; what the numbers are, says glimmer_tensor::quant.
//
// A matrix is tiles of 16 rows. A tile is a head (the scales of types that have one per row) and units of 32 columns,
// or of 256 for the types with super-blocks. A unit holds the bits of its 16 blocks and nothing else, by planes: the
// same field of all rows side by side. Every plane begins at a multiple of 16 bytes; the columns after the last whole
// unit are zeros in a unit of their own.
//
// Four consecutive columns are a *quad*: four signed bytes in a word, as integer products take them. A block of 32
// columns has quads 0 to 7. Word `t` of a row's low bits gives quads `t` and `t + 4`: with `t` from 0 to 3 a thread
// has the whole block, and lane 4 g + t of a warp has just the parts of rows g and g + 8 that a tensor core wants of
// it.
//
// Signed integers of fewer than 8 bits stand in the upper bits of their byte, where they need no sign extension, and
// so count 2, 4, ... times; the scales are made smaller by the same power of two, which rounds nothing.

#pragma once

#include "machine.cuh"

constexpr unsigned TILE = 16;

// Places in DType::WEIGHTS.
enum WeightType { F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, ROW_I8, ROW_I4 };

// How the bits of an integer are spread over planes, and what it counts.
enum Integers {
    NIBBLES,          // 0..15
    SIGNED_NIBBLES,   // -8..7, times 16
    FIVE_BITS,        // 0..31
    SIGNED_FIVE_BITS, // -16..15, times 8
    PAIRS,            // 0..3
    SIGNED_TRIPLES,   // -4..3, times 32
    SIGNED_SIX_BITS,  // -32..31, times 4
    BYTES,            // -128..127
    TABLE,            // 16 uneven steps
};

// What a thread needs of a row's block for one word of low bits.
struct Bits {
    uint32_t low;    // nibbles, or the first four of eight bytes
    uint32_t second; // the other four bytes
    uint2 pairs;     // bits 8 k + 2 i and up: byte k of quad i; of quad 4 + i in the second word
    uint32_t single; // bit 8 k + i: byte k of quad i
};

// All words of a row's block.
struct RowBits {
    uint4 low;
    uint4 second;
    uint2 pairs;
    uint32_t single;
};

template <class T>
DEVICE T load(const uint8_t* at) {
    return *reinterpret_cast<const T*>(at);
}

DEVICE float half_at(const uint8_t* at) { return f16_to_f32(load<uint16_t>(at)); }

DEVICE uint32_t component(const uint4& words, unsigned t) { return t == 0 ? words.x : t == 1 ? words.y : t == 2 ? words.z : words.w; }

// glimmer_tensor::quant::iq4::VALUES, four to a word.
DEVICE uint32_t steps_of_four(uint32_t nibbles) {
    const uint32_t small = pick_bytes(0xbfad9881u, 0xf6eaddcfu, nibbles), large = pick_bytes(0x26190d01u, 0x71594535u, nibbles);
    return pick_bytes(small, large, 0x3210 + ((nibbles & 0x8888) >> 1));
}

// Quads t and t + 4.
template <Integers KIND>
DEVICE void quads(const Bits& b, unsigned t, int& first, int& second) {
    constexpr uint32_t NIBBLE = 0x0f0f0f0f;
    if (KIND == NIBBLES) {
        first = b.low & NIBBLE;
        second = b.low >> 4 & NIBBLE;
    } else if (KIND == SIGNED_NIBBLES) {
        first = b.low << 4 & NIBBLE << 4;
        second = b.low & NIBBLE << 4;
    } else if (KIND == FIVE_BITS) {
        first = (b.low & NIBBLE) | (b.single << (4 - t) & 0x10101010);
        second = (b.low >> 4 & NIBBLE) | (b.single >> t & 0x10101010);
    } else if (KIND == SIGNED_FIVE_BITS) {
        first = (b.low << 3 & NIBBLE << 3) | (b.single << (7 - t) & 0x80808080);
        second = (b.low >> 1 & NIBBLE << 3) | (b.single << (3 - t) & 0x80808080);
    } else if (KIND == PAIRS) {
        first = b.pairs.x >> 2 * t & 0x03030303;
        second = b.pairs.y >> 2 * t & 0x03030303;
    } else if (KIND == SIGNED_TRIPLES) {
        first = (b.pairs.x >> 2 * t << 5 & 0x60606060) | (b.single << (7 - t) & 0x80808080);
        second = (b.pairs.y >> 2 * t << 5 & 0x60606060) | (b.single << (3 - t) & 0x80808080);
    } else if (KIND == SIGNED_SIX_BITS) {
        first = (b.low << 2 & NIBBLE << 2) | (b.pairs.x >> 2 * t << 6 & 0xc0c0c0c0);
        second = (b.low >> 2 & NIBBLE << 2) | (b.pairs.y >> 2 * t << 6 & 0xc0c0c0c0);
    } else if (KIND == BYTES) {
        first = b.low;
        second = b.second;
    } else {
        first = steps_of_four(b.low);
        second = steps_of_four(b.low >> 16);
    }
}

// element = scale * integer + minimum for a block of 32 columns; where its halves have scales of their own,
// element = (scale * part[h]) * integer + minimum * minimum_part[h].
struct Scales {
    float scale;
    float minimum;
    int part[2];
    int minimum_part[2];
};

// The planes of a kind of integers. COLUMNS: of a unit; SCALE_BYTES: of the planes behind those of the integers;
// HALVES: whether 16 columns have scales of their own; MINIMA: whether there are any; HEAD: bytes of a tile's head.
template <Integers KIND_, unsigned COLUMNS_, unsigned SCALE_BYTES, bool HALVES_, bool MINIMA_, unsigned HEAD_ = 0>
struct Planes {
    static constexpr Integers KIND = KIND_;
    static constexpr unsigned BLOCKS = COLUMNS_ / 32;
    static constexpr bool HALVES = HALVES_;
    static constexpr bool MINIMA = MINIMA_;
    static constexpr unsigned HEAD = HEAD_;

    static constexpr bool HAS_LOW = KIND != PAIRS && KIND != SIGNED_TRIPLES;
    static constexpr bool HAS_PAIRS = KIND == PAIRS || KIND == SIGNED_TRIPLES || KIND == SIGNED_SIX_BITS;
    static constexpr bool HAS_SINGLES = KIND == FIVE_BITS || KIND == SIGNED_FIVE_BITS || KIND == SIGNED_TRIPLES;
    static constexpr unsigned LOW_BYTES = KIND == BYTES ? 512 : HAS_LOW ? 256 : 0;
    static constexpr unsigned PAIRS_AT = BLOCKS * LOW_BYTES;
    static constexpr unsigned SINGLES_AT = PAIRS_AT + (HAS_PAIRS ? BLOCKS * 128 : 0);
    static constexpr unsigned SCALES_AT = SINGLES_AT + (HAS_SINGLES ? BLOCKS * 64 : 0);
    static constexpr unsigned UNIT = SCALES_AT + SCALE_BYTES;
    // One over what the integers count.
    static constexpr float STEP = KIND == SIGNED_NIBBLES     ? 1.0f / 16
                                  : KIND == SIGNED_FIVE_BITS ? 1.0f / 8
                                  : KIND == SIGNED_TRIPLES   ? 1.0f / 32
                                  : KIND == SIGNED_SIX_BITS  ? 1.0f / 4
                                                             : 1.0f;

    // A unit of a tile.
    DEVICE const uint8_t* unit(const uint8_t* tile, unsigned u) { return tile + HEAD + size_t(u) * UNIT; }

    // All of row `r` in block `i` of a unit.
    DEVICE RowBits row(const uint8_t* at, unsigned i, unsigned r) {
        RowBits bits = {};
        if (HAS_LOW) bits.low = load_once(reinterpret_cast<const uint4*>(at + i * LOW_BYTES + r * 16));
        if (KIND == BYTES) bits.second = load_once(reinterpret_cast<const uint4*>(at + i * LOW_BYTES + 256 + r * 16));
        if (HAS_PAIRS) bits.pairs = load<uint2>(at + PAIRS_AT + i * 128 + r * 8);
        if (HAS_SINGLES) bits.single = load<uint32_t>(at + SINGLES_AT + i * 64 + r * 4);
        return bits;
    }

    // What word `t` takes of a row.
    DEVICE Bits word_of(const RowBits& row, unsigned t) {
        return {component(row.low, t), component(row.second, t), row.pairs, row.single};
    }

    // What word `t` takes of row `r` in block `i` of a unit.
    DEVICE Bits word(const uint8_t* at, unsigned i, unsigned r, unsigned t) {
        Bits bits = {};
        if (HAS_LOW) bits.low = load<uint32_t>(at + i * LOW_BYTES + r * 16 + t * 4);
        if (KIND == BYTES) bits.second = load<uint32_t>(at + i * LOW_BYTES + 256 + r * 16 + t * 4);
        if (HAS_PAIRS) bits.pairs = load<uint2>(at + PAIRS_AT + i * 128 + r * 8);
        if (HAS_SINGLES) bits.single = load<uint32_t>(at + SINGLES_AT + i * 64 + r * 4);
        return bits;
    }
};

// The families below say where scales lie: `scale_bits` reads the words that `scales` makes them from, so that a kernel
// can read early. `at` is the unit's planes of scales, `i` the block within it, `r` the row.

// 32 columns have a scale: sixteen halves.
template <Integers KIND>
struct WithScale : Planes<KIND, 32, 32, false, false> {
    DEVICE uint4 scale_bits(const uint8_t*, const uint8_t* at, unsigned, unsigned r) {
        return make_uint4(load<uint16_t>(at + 2 * r), 0, 0, 0);
    }
    DEVICE Scales scales(const uint4& bits, unsigned) {
        return {f16_to_f32(uint16_t(bits.x)) * WithScale::STEP, 0, {1, 1}, {0, 0}};
    }
};

// 32 columns have a scale and a minimum: sixteen halves each.
template <Integers KIND>
struct WithMinimum : Planes<KIND, 32, 64, false, true> {
    DEVICE uint4 scale_bits(const uint8_t*, const uint8_t* at, unsigned, unsigned r) {
        return make_uint4(load<uint16_t>(at + 2 * r), load<uint16_t>(at + 32 + 2 * r), 0, 0);
    }
    DEVICE Scales scales(const uint4& bits, unsigned) {
        return {f16_to_f32(uint16_t(bits.x)), f16_to_f32(uint16_t(bits.y)), {1, 1}, {0, 0}};
    }
};

// A row has a scale, in the tile's head: sixteen halves.
template <Integers KIND>
struct WithRowScale : Planes<KIND, 32, 0, false, false, 32> {
    DEVICE uint4 scale_bits(const uint8_t* head, const uint8_t*, unsigned, unsigned r) {
        return make_uint4(load<uint16_t>(head + 2 * r), 0, 0, 0);
    }
    DEVICE Scales scales(const uint4& bits, unsigned) {
        return {f16_to_f32(uint16_t(bits.x)) * WithRowScale::STEP, 0, {1, 1}, {0, 0}};
    }
};

// The twelve bits from bit 12 i of three words.
DEVICE uint32_t twelve_bits(uint32_t x, uint32_t y, uint32_t z, unsigned i) {
    const unsigned from = 12 * i;
    const uint32_t low = from < 32 ? x : from < 64 ? y : z, high = from < 32 ? y : z;
    return uint32_t((uint64_t(high) << 32 | low) >> from % 32) & 0xfff;
}

// Super-blocks with eight scales and minima. A row has four words: two halves, and eight times a scale of six bits with
// its minimum above it.
template <Integers KIND>
struct WithSixBits : Planes<KIND, 256, 256, false, true> {
    DEVICE uint4 scale_bits(const uint8_t*, const uint8_t* at, unsigned, unsigned r) { return load<uint4>(at + 16 * r); }
    DEVICE Scales scales(const uint4& bits, unsigned i) {
        const uint32_t both = twelve_bits(bits.y, bits.z, bits.w, i);
        const float d = f16_to_f32(uint16_t(bits.x)), dmin = f16_to_f32(uint16_t(bits.x >> 16));
        return {d * float(int(both & 63)), -(dmin * float(int(both >> 6))), {1, 1}, {0, 0}};
    }
};

template <WeightType TYPE>
struct Weights;

template <> struct Weights<Q4_0> : WithScale<SIGNED_NIBBLES> {};
template <> struct Weights<Q5_0> : WithScale<SIGNED_FIVE_BITS> {};
template <> struct Weights<Q8_0> : WithScale<BYTES> {};
template <> struct Weights<IQ4_NL> : WithScale<TABLE> {};
template <> struct Weights<Q4_1> : WithMinimum<NIBBLES> {};
template <> struct Weights<Q5_1> : WithMinimum<FIVE_BITS> {};
template <> struct Weights<ROW_I8> : WithRowScale<BYTES> {};
template <> struct Weights<ROW_I4> : WithRowScale<SIGNED_NIBBLES> {};
template <> struct Weights<Q4_K> : WithSixBits<NIBBLES> {};
template <> struct Weights<Q5_K> : WithSixBits<FIVE_BITS> {};

// A row has sixteen bytes, scale below and minimum above; then, rows side by side, a word of two halves.
template <>
struct Weights<Q2_K> : Planes<PAIRS, 256, 320, true, true> {
    DEVICE uint4 scale_bits(const uint8_t*, const uint8_t* at, unsigned i, unsigned r) {
        return make_uint4(load<uint16_t>(at + 16 * r + 2 * i), load<uint32_t>(at + 256 + 4 * r), 0, 0);
    }
    DEVICE Scales scales(const uint4& bits, unsigned) {
        const uint32_t x = bits.x;
        const float d = f16_to_f32(uint16_t(bits.y)), dmin = f16_to_f32(uint16_t(bits.y >> 16));
        return {d, -dmin, {int(x & 15), int(x >> 8 & 15)}, {int(x >> 4 & 15), int(x >> 12 & 15)}};
    }
};

// Three words, rows side by side, with eight times the two scales of a block, 32 higher; then sixteen halves.
template <>
struct Weights<Q3_K> : Planes<SIGNED_TRIPLES, 256, 224, true, false> {
    DEVICE uint4 scale_bits(const uint8_t*, const uint8_t* at, unsigned, unsigned r) {
        return make_uint4(load<uint32_t>(at + 4 * r), load<uint32_t>(at + 64 + 4 * r), load<uint32_t>(at + 128 + 4 * r),
                          load<uint16_t>(at + 192 + 2 * r));
    }
    DEVICE Scales scales(const uint4& bits, unsigned i) {
        const uint32_t both = twelve_bits(bits.x, bits.y, bits.z, i);
        return {f16_to_f32(uint16_t(bits.w)) * STEP, 0, {int(both & 63) - 32, int(both >> 6) - 32}, {0, 0}};
    }
};

// A row has sixteen signed bytes; then sixteen halves.
template <>
struct Weights<Q6_K> : Planes<SIGNED_SIX_BITS, 256, 288, true, false> {
    DEVICE uint4 scale_bits(const uint8_t*, const uint8_t* at, unsigned i, unsigned r) {
        return make_uint4(load<uint16_t>(at + 16 * r + 2 * i), load<uint16_t>(at + 256 + 2 * r), 0, 0);
    }
    DEVICE Scales scales(const uint4& bits, unsigned) {
        return {f16_to_f32(uint16_t(bits.y)) * STEP, 0, {int(int8_t(bits.x)), int(int8_t(bits.x >> 8))}, {0, 0}};
    }
};

// A row has two words: a half, and eight times six bits, 32 higher.
template <>
struct Weights<IQ4_XS> : Planes<TABLE, 256, 128, false, false> {
    DEVICE uint4 scale_bits(const uint8_t*, const uint8_t* at, unsigned, unsigned r) {
        const uint2 words = load<uint2>(at + 8 * r);
        return make_uint4(words.x, words.y, 0, 0);
    }
    DEVICE Scales scales(const uint4& bits, unsigned i) {
        const uint32_t part = uint32_t((uint64_t(bits.y) << 32 | bits.x) >> (16 + 6 * i)) & 63;
        return {f16_to_f32(uint16_t(bits.x)) * float(int(part) - 32), 0, {1, 1}, {0, 0}};
    }
};

// The words that the scales of row `r` in block `i` of a tile's unit are made from.
template <class W>
DEVICE uint4 scale_bits_of(const uint8_t* tile, const uint8_t* unit, unsigned i, unsigned r) {
    return W::scale_bits(tile, unit + W::SCALES_AT, i, r);
}

// Plain floats lie as the tensor cores take them: a unit of 32 columns is steps of 16 bytes for each lane 4 g + t, whose
// columns are 8 t to 8 t + 7 and whose rows are g and g + 8. For bf16 a step is one product of 16 columns: columns
// 4 s and 4 s + 1 of the lane's in row g, in row g + 8, then 4 s + 2 and 4 s + 3. For f16 and f32 a product takes 8
// columns: 2 s in row g, in row g + 8, then 2 s + 1; a step of f16 holds two products.
template <WeightType TYPE>
struct Floats {
    static constexpr unsigned STEPS = TYPE == F32 ? 4 : 2;
    static constexpr unsigned UNIT = 512 * STEPS;

    // The element in row `r` and column `c` of a unit.
    DEVICE float element(const uint8_t* unit, unsigned r, unsigned c) {
        const unsigned lane = r % 8 * 4 + c / 8, lower = r / 8;
        if (TYPE == F32) return load<float>(unit + c % 8 / 2 * 512 + lane * 16 + 4 * (lower + c % 2 * 2));
        if (TYPE == F16) return half_at(unit + c % 8 / 4 * 512 + lane * 16 + 2 * (c % 4 / 2 * 4 + lower + c % 2 * 2));
        const uint8_t* at = unit + c % 8 / 4 * 512 + lane * 16 + 4 * (lower + c % 4 / 2 * 2) + 2 * (c % 2);
        return bf16_to_f32(load<uint16_t>(at));
    }
};
template <> struct Weights<F32> : Floats<F32> {};
template <> struct Weights<F16> : Floats<F16> {};
template <> struct Weights<BF16> : Floats<BF16> {};

template <WeightType TYPE>
constexpr bool IS_FLOAT = TYPE <= BF16;

// Byte `k` of a quad as a number.
DEVICE float byte_of(int quad, unsigned k) { return float(int(int8_t(quad >> 8 * k))); }

// The 32 elements of row `r` in block `b` of a tile: exactly the numbers of glimmer_tensor::quant.
template <WeightType TYPE>
DEVICE void exact(const uint8_t* tile, unsigned b, unsigned r, float (&out)[32]) {
    using W = Weights<TYPE>;
    if constexpr (IS_FLOAT<TYPE>) {
#pragma unroll
        for (unsigned c = 0; c < 32; ++c) out[c] = W::element(tile + size_t(b) * W::UNIT, r, c);
    } else {
        const uint8_t* unit = W::unit(tile, b / W::BLOCKS);
        const unsigned i = b % W::BLOCKS;
        const RowBits bits = W::row(unit, i, r);
        const Scales s = W::scales(scale_bits_of<W>(tile, unit, i, r), i);
#pragma unroll
        for (unsigned t = 0; t < 4; ++t) {
            int quad[2];
            quads<W::KIND>(W::word_of(bits, t), t, quad[0], quad[1]);
#pragma unroll
            for (unsigned h = 0; h < 2; ++h) {
                const float scale = W::HALVES ? s.scale * float(s.part[h]) : s.scale;
                const float minimum = W::HALVES ? s.minimum * float(s.minimum_part[h]) : s.minimum;
#pragma unroll
                for (unsigned k = 0; k < 4; ++k) {
                    const float product = scale * byte_of(quad[h], k);
                    out[16 * h + 4 * t + k] = W::MINIMA ? product + minimum : product;
                }
            }
        }
    }
}

// X(TYPE, name) for the types made of integers, and for plain floats.
#define INTEGER_TYPES(X)                                                                                              \
    X(Q4_0, q4_0) X(Q4_1, q4_1) X(Q5_0, q5_0) X(Q5_1, q5_1) X(Q8_0, q8_0) X(Q2_K, q2_k) X(Q3_K, q3_k) X(Q4_K, q4_k)    \
    X(Q5_K, q5_k) X(Q6_K, q6_k) X(IQ4_NL, iq4_nl) X(IQ4_XS, iq4_xs) X(ROW_I8, row_i8) X(ROW_I4, row_i4)
#define FLOAT_TYPES(X) X(F32, f32) X(F16, f16) X(BF16, bf16)

// The same for a type that is only known when the kernel runs: for looking up single rows.
DEVICE void exact_of_type(uint32_t type, const uint8_t* tile, unsigned b, unsigned r, float (&out)[32]) {
    switch (type) {
#define CASE(TYPE, name)                                                                                              \
    case TYPE: return exact<TYPE>(tile, b, r, out);
        INTEGER_TYPES(CASE)
        FLOAT_TYPES(CASE)
#undef CASE
    }
}

// ---- rows as they lie in the file ----

DEVICE uint32_t half_word(const uint8_t* at) { return at[0] | uint32_t(at[1]) << 8; }
DEVICE float file_half(const uint8_t* at) { return f16_to_f32(uint16_t(half_word(at))); }

// Element `column` of a row of any type; `scale` is that of the row, for the types that have one.
DEVICE float element_in_file(uint32_t type, const uint8_t* row, unsigned column, float scale) {
    const unsigned e = column % 32, k = column % 256;
    // The nibble and the fifth bit of element `e` of 32.
    const auto nibble = [&](const uint8_t* from) { return e < 16 ? from[e] & 15 : from[e - 16] >> 4; };
    const auto fifth = [&](const uint8_t* from) { return (from[e / 8] >> e % 8 & 1) << 4; };
    // The same for element `k` of 256 in the K-quants.
    const auto nibble_k = [&](const uint8_t* from) { return from[k / 64 * 32 + k % 32] >> k / 32 % 2 * 4 & 15; };
    const auto pair_k = [&](const uint8_t* from) { return from[k / 128 * 32 + k % 32] >> k % 128 / 32 * 2 & 3; };
    const auto bit_k = [&](const uint8_t* from) { return from[k % 32] >> k / 32 & 1; };
    const auto table = [](unsigned nibble) { return byte_of(int(steps_of_four(nibble)), 0); };
    switch (type) {
        case F32: return as_f32(half_word(row + 4 * size_t(column)) | half_word(row + 4 * size_t(column) + 2) << 16);
        case F16: return file_half(row + 2 * size_t(column));
        case BF16: return bf16_to_f32(uint16_t(half_word(row + 2 * size_t(column))));
        case ROW_I8: return float(int(int8_t(row[column]))) * scale;
        case ROW_I4: {
            const uint8_t byte = row[column / 2];
            return float(int(int8_t(column % 2 ? byte << 4 : byte)) >> 4) * scale;
        }
    }
    const uint8_t* b32 = row + size_t(column / 32) * (type == Q4_0 || type == IQ4_NL ? 18 : type == Q4_1 ? 20 : type == Q5_0 ? 22 : type == Q5_1 ? 24 : 34);
    const uint8_t* b = row + size_t(column / 256) * (type == Q2_K ? 84 : type == Q3_K ? 110 : type == Q4_K ? 144 : type == Q5_K ? 176 : type == Q6_K ? 210 : 136);
    switch (type) {
        case Q4_0: return float(nibble(b32 + 2) - 8) * file_half(b32);
        case IQ4_NL: return file_half(b32) * table(nibble(b32 + 2));
        case Q4_1: return float(nibble(b32 + 4)) * file_half(b32) + file_half(b32 + 2);
        case Q5_0: return float((nibble(b32 + 6) | fifth(b32 + 2)) - 16) * file_half(b32);
        case Q5_1: return float(nibble(b32 + 8) | fifth(b32 + 4)) * file_half(b32) + file_half(b32 + 2);
        case Q8_0: return float(int(int8_t(b32[2 + e]))) * file_half(b32);
        case Q2_K: {
            const int scales = b[k / 16];
            const float d = file_half(b + 80) * float(scales & 15), m = file_half(b + 82) * float(scales >> 4);
            return d * float(pair_k(b + 16)) - m;
        }
        case Q3_K: {
            const unsigned s = k / 16;
            const int low = b[96 + s % 8] >> 4 * (s / 8) & 15, high = b[104 + s % 4] >> 2 * (s / 4) & 3;
            const float d = file_half(b + 108) * float((low | high << 4) - 32);
            return d * float((pair_k(b + 32) | bit_k(b) << 2) - 4);
        }
        case Q4_K:
        case Q5_K: {
            const uint8_t* packed = b + 4;
            const unsigned s = k / 32;
            const int sc = s < 4 ? packed[s] & 63 : (packed[s + 4] & 15) | packed[s - 4] >> 6 << 4;
            const int mn = s < 4 ? packed[s + 4] & 63 : packed[s + 4] >> 4 | packed[s] >> 6 << 4;
            const float d = file_half(b) * float(sc), m = file_half(b + 2) * float(mn);
            const int q = type == Q4_K ? nibble_k(b + 16) : nibble_k(b + 48) | bit_k(b + 16) << 4;
            return d * float(q) - m;
        }
        case Q6_K: {
            const int low = b[k / 128 * 64 + k % 64] >> k / 64 % 2 * 4 & 15;
            const float d = file_half(b + 208) * float(int(int8_t(b[192 + k / 16])));
            return d * float((low | pair_k(b + 128) << 4) - 32);
        }
        default: {
            const unsigned s = k / 32;
            const int low = b[4 + s / 2] >> 4 * (s % 2) & 15, high = int(half_word(b + 2) >> 2 * s & 3);
            return file_half(b) * float((low | high << 4) - 32) * table(nibble(b + 8 + 16 * s));
        }
    }
}
