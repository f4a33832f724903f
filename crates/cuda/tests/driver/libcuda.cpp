// A stand-in for NVIDIA's driver, for tests of the device's own part of it (src/card.rs): the functions that the device calls,
// over the emulated kernels. It does what the driver promises and no more: work of a stream, copies from pinned memory among
// it, is done when it is waited for and no earlier, a capture records launches and does nothing, and what a lost card
// refuses it refuses for ever.
//
// Variables of the environment make it another machine:
//   STAND_IN_VERSION     the CUDA version that the driver is for [13000]
//   STAND_IN_CARDS       how many there are [1]
//   STAND_IN_CAPABILITY  compute capability, as 90 [90]
//   STAND_IN_MEMORY      bytes of memory [4 GiB]
//   STAND_IN_KERNELS     kernels that are launched before the card is lost [none is]
//   STAND_IN_TRACE       tells on standard error when a copy in is asked for, and when it is done

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <vector>

struct Kernel;
extern "C" const Kernel* emulation_find(const char* name);
extern "C" size_t emulation_args_bytes(const Kernel* kernel);
extern "C" const char* emulation_launch(const Kernel* kernel, const unsigned* grid, unsigned threads, unsigned shared_bytes,
                                        const void* args);

namespace {

// Of cudaError_enum.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    CAPTURE_UNSUPPORTED = 900,
};

// Of CUdevice_attribute.
enum Attribute { MULTIPROCESSORS = 16, CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76, SHARED_OPTIN = 97 };

// Of CUfunction_attribute.
enum FunctionAttribute { SHARED_SIZE = 1, MAX_DYNAMIC_SHARED = 8 };

constexpr int SHARED = 99 * 1024;

struct Launch {
    const Kernel* kernel = nullptr;
    unsigned grid[3] = {};
    unsigned threads = 0, shared = 0;
    std::vector<char> args;
};

using Graph = std::vector<Launch>;

uint64_t variable(const char* name, uint64_t otherwise) {
    const char* text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

// A launch, or a copy to the card where there is no kernel.
struct Work {
    Launch launch;
    uint64_t to = 0;
    const void* from = nullptr;
    size_t bytes = 0;
};

struct Stream {
    // What was asked of it and not waited for, and how much has been done before.
    std::deque<Work> queued;
    uint64_t done = 0;
    bool capturing = false;
    Graph captured;

    void ask(const Launch& launch) { queued.push_back({launch}); }
    uint64_t asked() const { return done + queued.size(); }
};

// Where in a stream it was recorded last.
struct Event {
    Stream* stream = nullptr;
    uint64_t after = 0;
};

std::recursive_mutex everything;
using Lock = std::lock_guard<std::recursive_mutex>;
bool ready = false;
std::set<Stream*> streams;
std::map<uint64_t, size_t> pieces;
uint64_t memory_left = 0;
uint64_t life = 0;
// What every call returns once the card is lost.
Result lost = SUCCESS;
// A thread that captures may not allocate, look up or wait.
thread_local bool capturing = false;

bool holds(uint64_t address, size_t bytes) {
    auto after = pieces.upper_bound(address);
    if (after == pieces.begin()) return false;
    auto piece = *--after;
    return address >= piece.first && address + bytes <= piece.first + piece.second;
}

void run(const Launch& launch) {
    if (lost != SUCCESS) return;
    const char* message = emulation_launch(launch.kernel, launch.grid, launch.threads, launch.shared, launch.args.data());
    if (message) fprintf(stderr, "stand-in: %s\n", message);
    if (message || --life == 0) lost = ILLEGAL_ADDRESS;
}

bool is_traced() {
    static const bool traced = getenv("STAND_IN_TRACE");
    return traced;
}

void copy(const Work& work) {
    if (lost != SUCCESS) return;
    memcpy(reinterpret_cast<void*>(work.to), work.from, work.bytes);
    if (is_traced()) fprintf(stderr, "done %p %zu\n", work.from, work.bytes);
}

// Does what was asked of a stream before `after` things had been.
Result wait(Stream* stream, uint64_t after) {
    if (capturing) return CAPTURE_UNSUPPORTED;
    for (; stream->done < after; ++stream->done) {
        const Work work = stream->queued.front();
        stream->queued.pop_front();
        if (work.from) copy(work); else run(work.launch);
    }
    return lost;
}

Result wait(void* stream) {
    auto* own = static_cast<Stream*>(stream);
    return wait(own, own->asked());
}

Result wait_for_all() {
    for (Stream* stream : streams) wait(stream);
    return capturing ? CAPTURE_UNSUPPORTED : lost;
}

}  // namespace

extern "C" {

int cuInit(unsigned) {
    Lock lock(everything);
    if (variable("STAND_IN_CARDS", 1) == 0) return NO_DEVICE;
    if (ready) return SUCCESS;
    ready = true;
    memory_left = variable("STAND_IN_MEMORY", uint64_t(1) << 32);
    life = variable("STAND_IN_KERNELS", ~uint64_t(0));
    return SUCCESS;
}

int cuDriverGetVersion(int* version) {
    Lock lock(everything);
    *version = static_cast<int>(variable("STAND_IN_VERSION", 13000));
    return SUCCESS;
}

int cuGetErrorString(int error, const char** text) {
    Lock lock(everything);
    switch (error) {
        case OUT_OF_MEMORY: *text = "out of memory"; break;
        case NO_DEVICE: *text = "no CUDA-capable device is detected"; break;
        case ILLEGAL_ADDRESS: *text = "an illegal memory access was encountered"; break;
        default: *text = "another error of the stand-in";
    }
    return SUCCESS;
}

int cuDeviceGetCount(int* count) {
    Lock lock(everything);
    *count = static_cast<int>(variable("STAND_IN_CARDS", 1));
    return ready ? SUCCESS : NOT_INITIALIZED;
}

int cuDeviceGet(int* device, int number) {
    Lock lock(everything);
    *device = number;
    return SUCCESS;
}

int cuDeviceGetName(char* name, int bytes, int) {
    Lock lock(everything);
    snprintf(name, static_cast<size_t>(bytes), "NVIDIA Stand-in");
    return SUCCESS;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
    Lock lock(everything);
    int capability = static_cast<int>(variable("STAND_IN_CAPABILITY", 90));
    switch (attribute) {
        case MULTIPROCESSORS: *value = 4; return SUCCESS;
        case CAPABILITY_MAJOR: *value = capability / 10; return SUCCESS;
        case CAPABILITY_MINOR: *value = capability % 10; return SUCCESS;
        case SHARED_OPTIN: *value = SHARED; return SUCCESS;
    }
    return INVALID_VALUE;
}

int cuDeviceTotalMem_v2(size_t* bytes, int) {
    Lock lock(everything);
    *bytes = variable("STAND_IN_MEMORY", uint64_t(1) << 32);
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void** context, int) {
    Lock lock(everything);
    *context = &ready;
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int) {
    Lock lock(everything);
    return SUCCESS;
}

int cuCtxSetCurrent(void*) {
    Lock lock(everything);
    return lost;
}

int cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
    Lock lock(everything);
    *free_bytes = memory_left;
    *total = variable("STAND_IN_MEMORY", uint64_t(1) << 32);
    return lost;
}

int cuStreamCreate(void** stream, unsigned) {
    Lock lock(everything);
    *stream = *streams.insert(new Stream()).first;
    return SUCCESS;
}

int cuStreamDestroy_v2(void* stream) {
    Lock lock(everything);
    Result waited = wait(stream);
    streams.erase(static_cast<Stream*>(stream));
    delete static_cast<Stream*>(stream);
    return waited;
}

int cuStreamSynchronize(void* stream) {
    Lock lock(everything);
    return wait(stream);
}

int cuStreamBeginCapture_v2(void* stream, int) {
    Lock lock(everything);
    auto* own = static_cast<Stream*>(stream);
    if (capturing || own->capturing) return INVALID_VALUE;
    capturing = own->capturing = true;
    own->captured.clear();
    return lost;
}

int cuStreamEndCapture(void* stream, void** graph) {
    Lock lock(everything);
    auto* own = static_cast<Stream*>(stream);
    if (!own->capturing) return INVALID_VALUE;
    capturing = own->capturing = false;
    *graph = new Graph(own->captured);
    return lost;
}

int cuGraphInstantiateWithFlags(void** ready_graph, void* graph, unsigned long long) {
    Lock lock(everything);
    *ready_graph = new Graph(*static_cast<Graph*>(graph));
    return lost;
}

int cuGraphLaunch(void* graph, void* stream) {
    Lock lock(everything);
    if (capturing) return CAPTURE_UNSUPPORTED;
    for (const Launch& launch : *static_cast<Graph*>(graph)) static_cast<Stream*>(stream)->ask(launch);
    return lost;
}

int cuGraphDestroy(void* graph) {
    Lock lock(everything);
    delete static_cast<Graph*>(graph);
    return lost;
}

int cuGraphExecDestroy(void* graph) {
    Lock lock(everything);
    return cuGraphDestroy(graph);
}

int cuEventCreate(void** event, unsigned) {
    Lock lock(everything);
    *event = new Event();
    return SUCCESS;
}

int cuEventDestroy_v2(void* event) {
    Lock lock(everything);
    delete static_cast<Event*>(event);
    return lost;
}

int cuEventRecord(void* event, void* stream) {
    Lock lock(everything);
    auto* own = static_cast<Stream*>(stream);
    *static_cast<Event*>(event) = {own, own->asked()};
    return lost;
}

int cuEventSynchronize(void* event) {
    Lock lock(everything);
    auto* own = static_cast<Event*>(event);
    return own->stream ? wait(own->stream, own->after) : lost;
}

int cuModuleLoadData(void** module, const void* image) {
    Lock lock(everything);
    // How a fatbin begins.
    if (*static_cast<const uint32_t*>(image) != 0xba55ed50) return INVALID_VALUE;
    *module = &pieces;
    return SUCCESS;
}

int cuModuleUnload(void*) {
    Lock lock(everything);
    return lost;
}

int cuModuleGetFunction(void** function, void*, const char* name) {
    Lock lock(everything);
    if (capturing) return CAPTURE_UNSUPPORTED;
    *function = const_cast<Kernel*>(emulation_find(name));
    return *function ? SUCCESS : NOT_FOUND;
}

int cuFuncGetAttribute(int* value, int attribute, void*) {
    Lock lock(everything);
    *value = 0;
    return attribute == SHARED_SIZE ? lost : INVALID_VALUE;
}

int cuFuncSetAttribute(void*, int attribute, int) {
    Lock lock(everything);
    return attribute == MAX_DYNAMIC_SHARED ? lost : INVALID_VALUE;
}

int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned, unsigned shared,
                   void* stream, void** params, void**) {
    Lock lock(everything);
    if (!function) return INVALID_HANDLE;
    if (!x || !y || !z || !threads || y > 65535 || z > 65535 || shared > SHARED) return INVALID_VALUE;
    auto kernel = static_cast<const Kernel*>(function);
    auto args = static_cast<const char*>(params[0]);
    Launch launch{kernel, {x, y, z}, threads, shared, {args, args + emulation_args_bytes(kernel)}};
    auto* own = static_cast<Stream*>(stream);
    if (own->capturing) own->captured.push_back(launch); else own->ask(launch);
    return lost;
}

int cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    Lock lock(everything);
    *memory = malloc(bytes);
    return *memory ? SUCCESS : OUT_OF_MEMORY;
}

int cuMemFreeHost(void* memory) {
    Lock lock(everything);
    free(memory);
    return lost;
}

int cuMemAlloc_v2(uint64_t* memory, size_t bytes) {
    Lock lock(everything);
    if (capturing) return CAPTURE_UNSUPPORTED;
    if (lost != SUCCESS) return lost;
    if (bytes > memory_left) return OUT_OF_MEMORY;
    void* piece = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!piece) return OUT_OF_MEMORY;
    // Nobody may count on zeros.
    memset(piece, 0xff, bytes);
    *memory = reinterpret_cast<uint64_t>(piece);
    pieces[*memory] = bytes;
    memory_left -= bytes;
    return SUCCESS;
}

int cuMemFree_v2(uint64_t memory) {
    Lock lock(everything);
    Result waited = wait_for_all();
    auto piece = pieces.find(memory);
    if (piece == pieces.end()) return INVALID_VALUE;
    memory_left += piece->second;
    pieces.erase(piece);
    free(reinterpret_cast<void*>(memory));
    return waited;
}

int cuMemsetD8Async(uint64_t memory, unsigned char value, size_t bytes, void* stream) {
    Lock lock(everything);
    if (!holds(memory, bytes)) return INVALID_VALUE;
    Result waited = wait(stream);
    if (waited == SUCCESS) memset(reinterpret_cast<void*>(memory), value, bytes);
    return waited;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    Lock lock(everything);
    if (!holds(to, bytes)) return INVALID_VALUE;
    if (capturing) return CAPTURE_UNSUPPORTED;
    Work work;
    work.to = to, work.from = from, work.bytes = bytes;
    if (is_traced()) fprintf(stderr, "copy %p %zu\n", from, bytes);
    if (bytes) static_cast<Stream*>(stream)->queued.push_back(work);
    return lost;
}

int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    Lock lock(everything);
    if (!holds(from, bytes)) return INVALID_VALUE;
    Result waited = wait(stream);
    if (waited == SUCCESS) memcpy(to, reinterpret_cast<const void*>(from), bytes);
    return waited;
}
}
