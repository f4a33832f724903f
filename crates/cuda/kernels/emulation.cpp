// See emulation.h. A fiber waits by switching to another lane of its warp; when no lane of the warp can run, to the
// scheduler, which goes on with the next warp. What the lanes of a warp do together is done by the last one to come.

#include "emulation.h"

#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <vector>

#ifndef __x86_64__
#error "the emulation of CUDA kernels switches stacks on x86-64 only"
#endif

// Saves the registers that a callee keeps, and the stack; goes on where `to` was saved.
extern "C" void glimmer_switch_stack(void** from, void* to);
asm(R"(
.text
.p2align 4
.globl glimmer_switch_stack
.hidden glimmer_switch_stack
.type glimmer_switch_stack,@function
glimmer_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size glimmer_switch_stack, .-glimmer_switch_stack
)");

namespace emulation {

thread_local Place place;

namespace {

constexpr size_t STACK_BYTES = 128 * 1024;
constexpr uint64_t STACK_MARK = 0x5157'414c'4c4f'5721;
constexpr unsigned WARP = 32;
constexpr uint32_t ALL_LANES = 0xffff'ffff;

struct Copy {
    void* shared;
    const void* global;
    bool wanted;
    unsigned group;
};

struct Fiber {
    void* stack_pointer;
    void* operands;
    std::vector<Copy> copies;
    unsigned copy_group;
};

// One bit per lane.
struct Warp {
    uint32_t ready;
    uint32_t at_barrier;
    uint32_t meeting;
    uint32_t ended;
    Meeting what;
};

struct SharedArray {
    const void* tag;
    size_t bytes;
    size_t at;
};

struct Machine {
    const char* kernel = nullptr;
    Body body = nullptr;
    alignas(16) unsigned char args[MAX_ARGS];
    unsigned char* stacks = nullptr;
    unsigned threads = 0;
    unsigned thread = 0;
    bool reversed = false;
    bool failed = false;
    void* scheduler = nullptr;
    Fiber fibers[MAX_THREADS];
    Warp warps[MAX_THREADS / WARP];
    unsigned dynamic_bytes = 0;
    size_t shared_used = 0;
    std::vector<SharedArray> arrays;
    alignas(128) unsigned char shared[MAX_SHARED];
    char message[512];

    Machine() {
        void* memory = mmap(nullptr, STACK_BYTES * MAX_THREADS, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory != MAP_FAILED) stacks = static_cast<unsigned char*>(memory);
    }
    ~Machine() {
        if (stacks) munmap(stacks, STACK_BYTES * MAX_THREADS);
    }
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    unsigned char* stack(unsigned of) { return stacks + STACK_BYTES * of; }
    uint64_t& mark(unsigned of) { return *reinterpret_cast<uint64_t*>(stack(of)); }
};

Machine& machine() {
    static thread_local Machine* mine = nullptr;
    static thread_local struct Owner {
        ~Owner() { delete mine; }
    } owner;
    if (!mine) {
        (void)&owner;
        mine = new Machine;
    }
    return *mine;
}

void say(Machine& m, const char* format, va_list values) {
    const uint3 b = place.block;
    int at = snprintf(m.message, sizeof m.message, "%s, block (%u, %u, %u): ", m.kernel, b.x, b.y, b.z);
    if (at >= 0 && at < int(sizeof m.message)) vsnprintf(m.message + at, sizeof m.message - at, format, values);
    m.failed = true;
}

void report(Machine& m, const char* format, ...) {
    va_list values;
    va_start(values, format);
    say(m, format, values);
    va_end(values);
}

// The lane that runs after `lane`, in the block's order.
unsigned next_lane(const Machine& m, uint32_t ready, unsigned lane) {
    if (m.reversed) {
        const uint32_t below = ready & ((1u << lane) - 1);
        return 31 - __builtin_clz(below ? below : ready);
    }
    const uint32_t above = lane == 31 ? 0 : ready & (ALL_LANES << (lane + 1));
    return __builtin_ctz(above ? above : ready);
}

// Leaves the running fiber for another of its warp or for the scheduler.
void leave(Machine& m) {
    const unsigned self = m.thread;
    const Warp& warp = m.warps[self / WARP];
    if (m.failed || !warp.ready) {
        glimmer_switch_stack(&m.fibers[self].stack_pointer, m.scheduler);
        return;
    }
    const unsigned next = self / WARP * WARP + next_lane(m, warp.ready, self % WARP);
    m.thread = place.thread = next;
    glimmer_switch_stack(&m.fibers[self].stack_pointer, m.fibers[next].stack_pointer);
}

void fiber_main() {
    Machine& m = machine();
    m.body(m.args);
    Warp& warp = m.warps[m.thread / WARP];
    const uint32_t bit = 1u << m.thread % WARP;
    warp.ready &= ~bit;
    warp.ended |= bit;
    leave(m);
    __builtin_trap();  // nobody wakes a fiber that has ended
}

void prepare(Machine& m, unsigned thread) {
    unsigned char* top = m.stack(thread) + STACK_BYTES;
    void** words = reinterpret_cast<void**>(top) - 8;
    for (int i = 0; i < 6; ++i) words[i] = nullptr;
    words[6] = reinterpret_cast<void*>(&fiber_main);
    words[7] = nullptr;
    m.fibers[thread].stack_pointer = words;
    m.fibers[thread].copies.clear();
    m.fibers[thread].copy_group = 0;
    m.mark(thread) = STACK_MARK;
}

const char* name_of(Meeting what) {
    switch (what) {
        case Meeting::Sync: return "sync_warp";
        case Meeting::Shuffle: return "a shuffle";
        case Meeting::MmaBf16: return "mma_bf16_16816";
        case Meeting::MmaTf32: return "mma_tf32_1688";
        case Meeting::MmaS8x32: return "mma_s8_16832";
        case Meeting::MmaS8x16: return "mma_s8_16816";
        case Meeting::None: break;
    }
    return "nothing";
}

float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// Fragments as the PTX manual lays them out (mma.m16n8k16, m16n8k8, m16n8k32): `g` is a lane's group (its row of A and
// of D, its column of B), `t` its place within it.

// Products of bf16 are exact in f32; sums are rounded, in K order.
void mma_bf16(Mma* const (&lanes)[WARP]) {
    float a[16][16], b[16][8];
    for (unsigned lane = 0; lane < WARP; ++lane) {
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned i = 0; i < 8; ++i) {
            const uint32_t word = lanes[lane]->a[i / 2];
            a[g + 8 * (i / 2 % 2)][2 * t + i % 2 + 8 * (i / 4)] =
                float_of(i % 2 ? word & 0xffff'0000 : word << 16);
        }
        for (unsigned i = 0; i < 4; ++i) {
            const uint32_t word = lanes[lane]->b[i / 2];
            b[2 * t + i % 2 + 8 * (i / 2)][g] = float_of(i % 2 ? word & 0xffff'0000 : word << 16);
        }
    }
    for (unsigned lane = 0; lane < WARP; ++lane) {
        float* d = static_cast<float*>(lanes[lane]->d);
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned row = lane / 4 + 8 * (i / 2), col = lane % 4 * 2 + i % 2;
            float sum = d[i];
            for (unsigned k = 0; k < 16; ++k) sum += a[row][k] * b[k][col];
            d[i] = sum;
        }
    }
}

// The unit drops the last 13 bits of its operands.
void mma_tf32(Mma* const (&lanes)[WARP]) {
    float a[16][8], b[8][8];
    for (unsigned lane = 0; lane < WARP; ++lane) {
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned i = 0; i < 4; ++i)
            a[g + 8 * (i % 2)][t + 4 * (i / 2)] = float_of(lanes[lane]->a[i] & 0xffff'e000);
        for (unsigned i = 0; i < 2; ++i) b[t + 4 * i][g] = float_of(lanes[lane]->b[i] & 0xffff'e000);
    }
    for (unsigned lane = 0; lane < WARP; ++lane) {
        float* d = static_cast<float*>(lanes[lane]->d);
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned row = lane / 4 + 8 * (i / 2), col = lane % 4 * 2 + i % 2;
            float sum = d[i];
            for (unsigned k = 0; k < 8; ++k) sum += a[row][k] * b[k][col];
            d[i] = sum;
        }
    }
}

template <unsigned K>
void mma_s8(Mma* const (&lanes)[WARP]) {
    int8_t a[16][K], b[8][K];
    for (unsigned lane = 0; lane < WARP; ++lane) {
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned i = 0; i < K / 8; ++i)
            memcpy(&a[g + 8 * (i % 2)][4 * t + 16 * (i / 2)], &lanes[lane]->a[i], 4);
        for (unsigned i = 0; i < K / 16; ++i) memcpy(&b[g][4 * t + 16 * i], &lanes[lane]->b[i], 4);
    }
    for (unsigned lane = 0; lane < WARP; ++lane) {
        int* d = static_cast<int*>(lanes[lane]->d);
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned row = lane / 4 + 8 * (i / 2), col = lane % 4 * 2 + i % 2;
            int sum = 0;
            for (unsigned k = 0; k < K; ++k) sum += int(a[row][k]) * int(b[col][k]);
            d[i] += sum;
        }
    }
}

template <class T>
void gathered(Machine& m, unsigned warp, T* (&lanes)[WARP]) {
    for (unsigned lane = 0; lane < WARP; ++lane) lanes[lane] = static_cast<T*>(m.fibers[warp * WARP + lane].operands);
}

void perform(Machine& m, unsigned warp, Meeting what) {
    if (what == Meeting::Sync) return;
    if (what == Meeting::Shuffle) {
        Shuffle* lanes[WARP];
        gathered(m, warp, lanes);
        for (Shuffle* lane : lanes) lane->result = lanes[lane->from % WARP]->value;
        return;
    }
    Mma* lanes[WARP];
    gathered(m, warp, lanes);
    switch (what) {
        case Meeting::MmaBf16: return mma_bf16(lanes);
        case Meeting::MmaTf32: return mma_tf32(lanes);
        case Meeting::MmaS8x32: return mma_s8<32>(lanes);
        default: return mma_s8<16>(lanes);
    }
}

// Runs a warp until none of its lanes can go on.
void run_warp(Machine& m, unsigned index) {
    Warp& warp = m.warps[index];
    if (!warp.ready) return;
    m.thread = place.thread = index * WARP + next_lane(m, warp.ready, m.reversed ? 0 : 31);
    glimmer_switch_stack(&m.scheduler, m.fibers[m.thread].stack_pointer);
    if (!m.failed && warp.meeting)
        report(m, "warp %u: lanes %08x wait at %s, lanes %08x at sync(), lanes %08x have ended", index, warp.meeting,
               name_of(warp.what), warp.at_barrier, warp.ended);
}

void run_block(Machine& m, unsigned number) {
    const unsigned warps = m.threads / WARP;
    for (unsigned thread = 0; thread < m.threads; ++thread) prepare(m, thread);
    for (unsigned w = 0; w < warps; ++w) m.warps[w] = {ALL_LANES, 0, 0, 0, Meeting::None};
    m.arrays.clear();
    m.shared_used = (m.dynamic_bytes + 15) / 16 * 16;
    memset(m.shared, 0xff, m.shared_used);
    for (unsigned pass = number;; ++pass) {
        m.reversed = pass % 2;
        for (unsigned i = 0; i < warps && !m.failed; ++i) run_warp(m, m.reversed ? warps - 1 - i : i);
        if (m.failed) return;
        unsigned waiting = 0, ended = 0;
        for (unsigned w = 0; w < warps; ++w) {
            waiting += __builtin_popcount(m.warps[w].at_barrier);
            ended += __builtin_popcount(m.warps[w].ended);
        }
        if (ended == m.threads) break;
        if (waiting != m.threads) {
            report(m, "%u threads wait at sync(), %u ended without it", waiting, ended);
            return;
        }
        for (unsigned w = 0; w < warps; ++w) {
            m.warps[w].ready = ALL_LANES;
            m.warps[w].at_barrier = 0;
        }
    }
    for (unsigned thread = 0; thread < m.threads; ++thread)
        if (m.mark(thread) != STACK_MARK) return report(m, "thread %u overran its stack", thread);
}

Kernel* first_kernel = nullptr;

}  // namespace

void fail(const char* format, ...) {
    Machine& m = machine();
    va_list values;
    va_start(values, format);
    say(m, format, values);
    va_end(values);
    leave(m);
    __builtin_trap();  // a block that failed is left as it is
}

void sync_block() {
    Machine& m = machine();
    Warp& warp = m.warps[m.thread / WARP];
    const uint32_t bit = 1u << m.thread % WARP;
    warp.ready &= ~bit;
    warp.at_barrier |= bit;
    leave(m);
}

void meet(Meeting what, void* operands) {
    Machine& m = machine();
    const unsigned self = m.thread, index = self / WARP;
    Warp& warp = m.warps[index];
    if (!warp.meeting) warp.what = what;
    if (warp.what != what) fail("warp %u: lane %u comes to %s, others wait at %s", index, self % WARP, name_of(what), name_of(warp.what));
    m.fibers[self].operands = operands;
    warp.meeting |= 1u << self % WARP;
    if (warp.meeting == ALL_LANES) {
        perform(m, index, what);
        warp.meeting = 0;
        warp.ready = ALL_LANES;
        return;
    }
    warp.ready &= ~(1u << self % WARP);
    leave(m);
}

void* static_shared(const void* tag, size_t bytes) {
    Machine& m = machine();
    size_t in_all = bytes;
    for (const SharedArray& array : m.arrays) {
        if (array.tag == tag) return m.shared + array.at;
        in_all += array.bytes;
    }
    const size_t at = m.shared_used;
    if (in_all > MAX_STATIC_SHARED) fail("%zu bytes of static shared memory, at most %u", in_all, MAX_STATIC_SHARED);
    if (at + bytes > MAX_SHARED) fail("%zu bytes of shared memory, at most %u", at + bytes, MAX_SHARED);
    m.arrays.push_back({tag, bytes, at});
    m.shared_used = (at + bytes + 15) / 16 * 16;
    memset(m.shared + at, 0xff, bytes);
    return m.shared + at;
}

void* dynamic_shared() {
    return machine().shared;
}

// Nothing arrives before it is waited for, and what was there is gone at once.
void copy_async(void* shared, const void* global, bool wanted) {
    Machine& m = machine();
    if (reinterpret_cast<uintptr_t>(shared) % 16 || (wanted && reinterpret_cast<uintptr_t>(global) % 16))
        fail("thread %u: cp_async_16 with an address that is no multiple of 16", m.thread);
    const unsigned char* to = static_cast<unsigned char*>(shared);
    if (to < m.shared || to + 16 > m.shared + m.shared_used)
        fail("thread %u: cp_async_16 to outside the block's shared memory", m.thread);
    Fiber& fiber = m.fibers[m.thread];
    memset(shared, 0xff, 16);
    fiber.copies.push_back({shared, global, wanted, fiber.copy_group});
}

void copy_commit() {
    Machine& m = machine();
    ++m.fibers[m.thread].copy_group;
}

void copy_wait(unsigned groups_left) {
    Machine& m = machine();
    Fiber& fiber = m.fibers[m.thread];
    size_t kept = 0;
    for (const Copy& copy : fiber.copies) {
        if (copy.group + groups_left >= fiber.copy_group) {
            fiber.copies[kept++] = copy;
        } else if (copy.wanted) {
            memcpy(copy.shared, copy.global, 16);
        } else {
            memset(copy.shared, 0, 16);
        }
    }
    fiber.copies.resize(kept);
}

const char* launch(const char* name, unsigned most_threads, uint3 grid, uint3 block, unsigned shared_bytes, Body body,
                   const void* args, size_t args_bytes) {
    Machine& m = machine();
    m.kernel = name;
    m.failed = false;
    place = {grid, {0, 0, 0}, block.x, 0};
    if (!m.stacks) {
        report(m, "no memory for the stacks");
    } else if (block.x == 0 || block.x > most_threads || block.x > MAX_THREADS || block.x % WARP || block.y != 1 || block.z != 1) {
        report(m, "a block of %u x %u x %u threads: whole warps in a row, at most %u threads", block.x, block.y, block.z, most_threads);
    } else if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fff'ffff || grid.y > 0xffff || grid.z > 0xffff) {
        report(m, "a grid of %u x %u x %u blocks", grid.x, grid.y, grid.z);
    } else if (shared_bytes > MAX_SHARED) {
        report(m, "%u bytes of shared memory, at most %u", shared_bytes, MAX_SHARED);
    } else if (args_bytes > MAX_ARGS) {
        report(m, "%zu bytes of arguments, at most %u", args_bytes, MAX_ARGS);
    }
    if (m.failed) return m.message;
    memcpy(m.args, args, args_bytes);
    m.body = body;
    m.threads = block.x;
    m.dynamic_bytes = shared_bytes;
    unsigned number = 0;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                place.block = {x, y, z};
                run_block(m, number++);
                if (m.failed) return m.message;
            }
    return nullptr;
}

Kernel::Kernel(const char* name, Launch launch, size_t args_bytes)
    : name(name), launch(launch), args_bytes(args_bytes), next(first_kernel) {
    first_kernel = this;
}

}  // namespace emulation

const emulation::Kernel* emulation_find(const char* name) {
    for (const emulation::Kernel* kernel = emulation::first_kernel; kernel; kernel = kernel->next)
        if (!strcmp(kernel->name, name)) return kernel;
    return nullptr;
}

size_t emulation_args_bytes(const emulation::Kernel* kernel) {
    return kernel->args_bytes;
}

const char* emulation_launch(const emulation::Kernel* kernel, const unsigned* grid, unsigned threads,
                             unsigned shared_bytes, const void* args) {
    return kernel->launch({grid[0], grid[1], grid[2]}, {threads, 1, 1}, shared_bytes, args);
}
