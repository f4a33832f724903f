// A CUDA card's threads on a processor, for tests: every thread of a block is a fiber, blocks run one after another.
//
// It shows that a kernel computes what it should, that its barriers meet and that nobody reads shared memory that
// nobody wrote (it is filled with NaN first). Warps and lanes run in an order that changes from block to block and from
// barrier to barrier, so that a missing barrier is likely to change a result. It says nothing about speed.

#pragma once

#ifndef EMULATED
#error "emulation.h is for builds with -DEMULATED"
#endif

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

struct uint3 { unsigned x, y, z; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };

inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }

namespace emulation {

// The most shared memory of a block: static, and in all (sm_86 and sm_89; sm_75 has 64 KiB, sm_90 has 227).
constexpr unsigned MAX_STATIC_SHARED = 48 * 1024;
constexpr unsigned MAX_SHARED = 99 * 1024;
constexpr unsigned MAX_THREADS = 1024;
constexpr unsigned MAX_ARGS = 4096;

// Which thread of which block is running.
struct Place {
    uint3 grid;
    uint3 block;
    unsigned threads;
    unsigned thread;
};
extern thread_local Place place;

// What the 32 lanes of a warp do together.
enum class Meeting { None, Sync, Shuffle, MmaBf16, MmaTf32, MmaS8x32, MmaS8x16 };

struct Shuffle {
    uint32_t value;
    unsigned from;
    uint32_t result;
};

struct Mma {
    void* d;
    const uint32_t* a;
    const uint32_t* b;
};

void sync_block();
void meet(Meeting what, void* operands);
void* static_shared(const void* tag, size_t bytes);
void* dynamic_shared();
void copy_async(void* shared, const void* global, bool wanted);
void copy_commit();
void copy_wait(unsigned groups_left);
// Ends the launch with a message: for checks inside kernels' words.
[[noreturn]] void fail(const char* format, ...);

// Runs a kernel; null, or what went wrong (valid until this thread's next launch).
using Body = void (*)(const void* args);
const char* launch(const char* name, unsigned most_threads, uint3 grid, uint3 block, unsigned shared_bytes, Body body,
                   const void* args, size_t args_bytes);

// The kernels of all files by name.
using Launch = const char* (*)(uint3 grid, uint3 block, unsigned shared_bytes, const void* args);
struct Kernel {
    const char* name;
    Launch launch;
    size_t args_bytes;
    Kernel* next;
    Kernel(const char* name, Launch launch, size_t args_bytes);
};

}  // namespace emulation

extern "C" {
// The entry of a kernel and the size of its arguments; null when there is none of this name.
const emulation::Kernel* emulation_find(const char* name);
size_t emulation_args_bytes(const emulation::Kernel* kernel);
const char* emulation_launch(const emulation::Kernel* kernel, const unsigned* grid, unsigned threads,
                             unsigned shared_bytes, const void* args);
}
