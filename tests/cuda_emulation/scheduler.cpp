// Blocks one after the other, warps one after the other, and the lanes of a warp in turns: a lane runs until it needs what
// the others have.
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include <deque>
#include <vector>

struct Index {
    unsigned x, y, z;
};
Index threadIdx, blockIdx, blockDim, gridDim;

namespace {
constexpr int LANES = 32;
constexpr size_t STACK = 1 << 18;

struct Copy {
    unsigned char* to;
    const void* from;
    int size;
};
struct Lane {
    std::vector<char> stack = std::vector<char>(STACK);
    jmp_buf here;
    bool started, done;
    unsigned phase;
    std::deque<std::vector<Copy>> batches;
    std::vector<Copy> open;
};

std::vector<unsigned char> shared;
unsigned char* shared_start;
size_t shared_size;
Lane lanes[LANES];
int current, population, arrived[2];
unsigned exchanged[2][LANES];
unsigned first_thread;
ucontext_t home;
jmp_buf back;
void (*body)(const void*);
const void* argument;
const char* failure;

void leave() { _longjmp(back, 1); }

void entry() {
    body(argument);
    lanes[current].done = true;
    leave();
}

// Run a lane until it waits or ends.
void turn(int lane) {
    current = lane;
    threadIdx.x = first_thread + lane;
    if (_setjmp(back)) return;
    if (lanes[lane].started) _longjmp(lanes[lane].here, 1);
    lanes[lane].started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = lanes[lane].stack.data();
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
    setcontext(&context);
}

// Leave a number for the others and wait until all have left theirs.
unsigned meet(unsigned x) {
    Lane& lane = lanes[current];
    unsigned phase = lane.phase++ & 1;
    exchanged[phase][current] = x;
    ++arrived[phase];
    if (!_setjmp(lane.here)) leave();
    return phase;
}

void fail(const char* what) {
    if (!failure) failure = what;
}

bool warp() {
    for (int i = 0; i < LANES; ++i) {
        Lane& lane = lanes[i];
        lane.started = lane.done = false;
        lane.phase = 0;
        lane.batches.clear();
        lane.open.clear();
    }
    arrived[0] = arrived[1] = 0;
    for (unsigned phase = 0;; phase ^= 1) {
        int done = 0;
        arrived[phase] = 0;
        for (int i = 0; i < population; ++i) {
            if (!lanes[i].done) turn(i);
            done += lanes[i].done;
        }
        if (done == population) return true;
        if (done || arrived[phase] != LANES) {
            fail("lanes of a warp wait for lanes that have ended");
            return false;
        }
    }
}
}  // namespace

extern "C" {
unsigned char* emulated_shared_memory() { return shared_start; }

void emulated_check_address(const void* at, int size) {
    if (reinterpret_cast<size_t>(at) % size) fail("a wide load or store is not aligned");
}

void emulated_copy(void* to, const void* from, int size) {
    unsigned char* place = static_cast<unsigned char*>(to);
    if (reinterpret_cast<size_t>(to) % size || reinterpret_cast<size_t>(from) % size) fail("a copy is not aligned");
    if (place < shared_start || place + size > shared_start + shared_size) return fail("a copy leaves shared memory");
    lanes[current].open.push_back({place, from, size});
}

void emulated_close_batch() {
    lanes[current].batches.push_back(lanes[current].open);
    lanes[current].open.clear();
}

void emulated_wait(int younger) {
    std::deque<std::vector<Copy>>& batches = lanes[current].batches;
    while (static_cast<int>(batches.size()) > younger) {
        for (const Copy& copy : batches.front()) memcpy(copy.to, copy.from, copy.size);
        batches.pop_front();
    }
}

unsigned emulated_exchange(unsigned x, int lane) {
    unsigned phase = meet(x);
    return exchanged[phase][lane];
}

unsigned emulated_ballot(bool x) {
    unsigned phase = meet(x), all = 0;
    for (int i = 0; i < LANES; ++i) all |= (exchanged[phase][i] != 0) << i;
    return all;
}

const char* emulated_failure() { return failure; }

int emulated_launch(
    const unsigned* grid, unsigned threads, size_t shared_bytes, void (*thread)(const void*), const void* words
) {
    failure = nullptr;
    body = thread;
    argument = words;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {threads, 1, 1};
    threadIdx = {0, 0, 0};
    shared.assign(shared_bytes + 16, 0);
    shared_start = shared.data() + (-reinterpret_cast<size_t>(shared.data()) & 15);
    shared_size = shared_bytes;
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                blockIdx = {x, y, z};
                memset(shared_start, 0xff, shared_size);
                for (first_thread = 0; first_thread < threads; first_thread += LANES) {
                    population = threads - first_thread < LANES ? threads - first_thread : LANES;
                    if (!warp()) return 1;
                }
            }
    return failure != nullptr;
}
}
