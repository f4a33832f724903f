// Stands in for NVIDIA's management library: three cards, the second of which is lost and the third shared. REFUSING does
// not start; OLD lacks a function.
#include <cstdio>

namespace {
struct Memory {
    unsigned long long total, free, used;
};
struct Utilization {
    unsigned gpu, memory;
};
enum { OK = 0, UNINITIALIZED = 1, NOT_SUPPORTED = 3, LOST = 15 };
bool started = false;
int cards[3] = {0, 1, 2};
}  // namespace

extern "C" {
int nvmlInit_v2() {
#ifdef REFUSING
    return 9;
#else
    started = true;
    return OK;
#endif
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = 3;
    return started ? OK : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **card) {
    *card = &cards[index];
    return index == 1 ? LOST : OK;
}

int nvmlDeviceGetName(void *card, char *name, unsigned length) {
    snprintf(name, length, "NVIDIA Stand-in %d", *static_cast<int *>(card));
    return OK;
}

int nvmlDeviceGetUUID(void *card, char *uuid, unsigned length) {
    snprintf(uuid, length, "GPU-0000000%d", *static_cast<int *>(card));
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *card, Memory *memory) {
    unsigned long long used = *static_cast<int *>(card) + 1ull;
    *memory = {24ull << 30, (24 - used) << 30, used << 30};
    return OK;
}

#ifndef OLD
int nvmlDeviceGetUtilizationRates(void *card, Utilization *busy) {
    *busy = {37, 12};
    return *static_cast<int *>(card) == 2 ? NOT_SUPPORTED : OK;
}
#endif
}
