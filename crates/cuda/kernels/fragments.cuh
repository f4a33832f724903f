// Words for f16 on tensor cores: the product and the loads that deal fragments out. They belong to machine.cuh's
// vocabulary and are apart only because nothing but attention says them.

#pragma once

#include "machine.cuh"

// Two neighbours of an f16 fragment: `low` is the one of the smaller index.
DEVICE uint32_t pack_f16(uint16_t low, uint16_t high) { return uint32_t(low) | uint32_t(high) << 16; }

// D += A B, [16, 16] x [16, 8], two f16 per word, sums in f32. The emulation hands two halves to the tf32 product, whose
// operands hold any f16 exactly; columns 2 t and 2 t + 1 of the one are t and t + 4 of the other.
DEVICE void mma_f16_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef EMULATED
    auto wide = [](uint32_t word, unsigned shift) { return as_u32(f16_to_f32(uint16_t(word >> shift))); };
    for (unsigned i = 0; i < 2; ++i) {
        const uint32_t up = a[2 * i], down = a[2 * i + 1];
        const uint32_t left[4] = {wide(up, 0), wide(down, 0), wide(up, 16), wide(down, 16)};
        const uint32_t right[2] = {wide(b[i], 0), wide(b[i], 16)};
        mma_tf32_1688(d, left, right);
    }
#elif __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (unsigned i = 0; i < 2; ++i)
        asm volatile(
            "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[2 * i]), "r"(a[2 * i + 1]), "r"(b[i]));
#endif
}

#ifdef EMULATED
// Row `g` of matrix `i`, as lane 8 i + g names it.
DEVICE const uint16_t* named_row(const void* row, unsigned i, unsigned g) {
    const unsigned char* shared = shared_bytes<unsigned char>();
    const uint32_t at = shfl(uint32_t(static_cast<const unsigned char*>(row) - shared), 8 * i + g);
    return reinterpret_cast<const uint16_t*>(shared + at);
}
#endif

// Four matrices [8, 8] of f16 in shared memory: lane 8 i + r names row r of matrix i, 16 aligned bytes. Lane 4 g + t
// gets elements (g, 2 t) and (g, 2 t + 1) of each.
DEVICE void load_matrices(uint32_t (&words)[4], const void* row) {
#ifdef EMULATED
    const unsigned g = thread_x() % 32 / 4, t = thread_x() % 4;
    for (unsigned i = 0; i < 4; ++i) {
        const uint16_t* from = named_row(row, i, g);
        words[i] = pack_f16(from[2 * t], from[2 * t + 1]);
    }
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(unsigned(__cvta_generic_to_shared(row)))
                 : "memory");
#endif
}

// The same, but lane 4 g + t gets elements (2 t, g) and (2 t + 1, g).
DEVICE void load_matrices_across(uint32_t (&words)[4], const void* row) {
#ifdef EMULATED
    const unsigned g = thread_x() % 32 / 4, t = thread_x() % 4;
    for (unsigned i = 0; i < 4; ++i) {
        const uint16_t low = named_row(row, i, 2 * t)[g];
        words[i] = pack_f16(low, named_row(row, i, 2 * t + 1)[g]);
    }
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(unsigned(__cvta_generic_to_shared(row)))
                 : "memory");
#endif
}
