// CUDA C++ on a CPU, for tests: every CUDA thread is a fiber, and one fiber runs at a time.
//
// A kernel is compiled by the host's C++ compiler with this header before it. Blocks run one after
// the other; within a block a thread runs until it waits (a barrier, a warp operation) or returns,
// and the scheduler then resumes the next, in an order that the test chooses. A thread that leaves
// a barrier out, a kernel whose result hangs on who runs first, and shared memory that is read
// before it is written all show in the results. What does not show there, the sanitizers find: each
// fiber is a thread to ThreadSanitizer, and only barriers order memory between fibers.
//
// What it does not model: the warp's lockstep, the memory model's finer points, the GPU's own
// rounding (expf and friends are the host's), and time.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#elif defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// ---------------------------------------------------------------- the words of CUDA

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)  // checked at the launch, from the table of kernels
// Shared memory is dynamic only, so that each block can be given its own. `__shared__` is unknown.
#define DYNAMIC_SHARED(type, name) type* const name = reinterpret_cast<type*>(emulator::shared())

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// The emulator's own work is no part of the kernel, and no sanitizer is to look at it. As a function
// of the standard library would be looked at all the same, what runs on fibers uses plain arrays.
#define EMULATOR_OWN __attribute__((no_sanitize("thread", "address", "undefined")))

namespace emulator {

constexpr unsigned WARP = 32;
constexpr size_t STACK = 256 * 1024, GUARD = 4096;

// ---------------------------------------------------------------- switching stacks

#if defined(__x86_64__) && defined(__ELF__) && !defined(EMULATOR_UCONTEXT)
struct Context {
  void* stack_pointer = nullptr;
};
// Saves what a function must preserve on the running stack, and goes on where the other one stopped.
extern "C" void emulator_switch(void** save, void* load);
__asm__(R"(
  .text
  .globl emulator_switch
  .hidden emulator_switch
  .type emulator_switch, @function
emulator_switch:
  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
  ret
)");
EMULATOR_OWN inline void swap(Context& from, Context& to) {
  emulator_switch(&from.stack_pointer, to.stack_pointer);
}
EMULATOR_OWN inline void prepare(Context& context, char* stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + STACK);
  *--top = nullptr;  // keeps the stack aligned as a call would
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context.stack_pointer = top;
}
#else
}  // namespace emulator
#include <ucontext.h>
namespace emulator {
struct Context {
  ucontext_t saved;
};
EMULATOR_OWN inline void swap(Context& from, Context& to) { swapcontext(&from.saved, &to.saved); }
EMULATOR_OWN inline void prepare(Context& context, char* stack, void (*entry)()) {
  getcontext(&context.saved);
  context.saved.uc_stack.ss_sp = stack;
  context.saved.uc_stack.ss_size = STACK;
  context.saved.uc_link = nullptr;
  makecontext(&context.saved, entry, 0);
}
#endif

// ---------------------------------------------------------------- state

// Lanes of one warp that meet in a warp operation; those of another mask meet apart.
struct Meeting {
  unsigned mask, arrived;
  const char* operation;
  // Values alternate between two rows: a lane that is still reading one is not overtaken, as the
  // row is written again only after all lanes have come to the meeting after.
  long round;
  uint64_t value[2][WARP];
};

struct Warp {
  unsigned live;  // lanes that have not returned, one bit each
  unsigned masks;
  Meeting meetings[WARP];
};

struct Thread {
  uint3 index;
  unsigned number;
  Warp* warp;
  bool done;
  const char* waits_in;  // the operation, or null
  int line;
};

// A stack that threads run on. Fiber and thread are paired anew for each block, so that to
// ThreadSanitizer one thread index in two blocks is two threads, as on the device.
struct Fiber {
  Context context;
  char* stack = nullptr;
  void* fake_stack = nullptr;
  void* tsan = nullptr;
};

enum Order { FORWARD, REVERSED, SHUFFLED };

struct State {
  Thread threads[1024];
  Warp warps[1024 / WARP];
  unsigned count, live;  // threads of the block, and those that have not returned
  Thread* thread;        // the running one
  Fiber* fiber;
  Context scheduler;
  void* scheduler_fake_stack;
  const void* scheduler_stack;
  size_t scheduler_stack_size;
  void* scheduler_tsan;
  dim3 grid, block;
  uint3 block_index;
  char* shared;
  void (*kernel)(void**);
  void** arguments;
  // the block's barrier
  unsigned arrived;
  long round;
  int votes, result[2];
  const Thread* first_arrival;
  // What ThreadSanitizer knows by address: the launch's two ends, and the barriers of block and
  // warps. A barrier has two, in turn: a thread that has gone on to the next barrier must not be
  // taken for one that this barrier waited for.
  char start, finish;
  char* order;
  long progress;
  char error[600];
};
inline State state;

// ---------------------------------------------------------------- fibers and the scheduler

inline void release(void* what) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(what);
#endif
  (void)what;
}
inline void acquire(void* what) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(what);
#endif
  (void)what;
}

// The running thread gives way to the scheduler; `last`: and will not come back.
EMULATOR_OWN inline void give_way(bool last = false) {
  Fiber* self = state.fiber;
  release(&state.finish);  // whatever becomes of this thread: what it did comes before the end
  (void)last;
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(state.scheduler_tsan, __tsan_switch_to_fiber_no_sync);
#elif defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &self->fake_stack, state.scheduler_stack,
                                 state.scheduler_stack_size);
#endif
  swap(self->context, state.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self->fake_stack, &state.scheduler_stack,
                                  &state.scheduler_stack_size);
#endif
}

EMULATOR_OWN inline void resume(Thread& thread, Fiber& fiber) {
  state.thread = &thread;
  state.fiber = &fiber;
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(fiber.tsan, __tsan_switch_to_fiber_no_sync);
#elif defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&state.scheduler_fake_stack, fiber.stack, STACK);
#endif
  swap(state.scheduler, fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(state.scheduler_fake_stack, nullptr, nullptr);
#endif
  state.thread = nullptr;
}

inline std::string describe(const uint3& i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}

inline std::string describe(const Thread& thread) {
  std::string text = "thread " + describe(thread.index);
  if (thread.done) return text + " has returned";
  if (!thread.waits_in) return text + " runs";
  return text + " waits in " + thread.waits_in + " at line " + std::to_string(thread.line);
}

// Keeps the message; the scheduler ends the launch.
EMULATOR_OWN inline void report(const std::string& what) {
  const std::string text = what + " [block " + describe(state.block_index) + "]";
  const size_t length = std::min(text.size(), sizeof state.error - 1);
  for (size_t i = 0; i < length; ++i) state.error[i] = text[i];
  state.error[length] = 0;
}

// For a thread: the fibers are left as they are, and made anew for the next launch.
[[noreturn]] EMULATOR_OWN inline void fail(const std::string& what) {
  report(what);
  give_way();
  std::abort();
}

EMULATOR_OWN inline void thread_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &state.scheduler_stack, &state.scheduler_stack_size);
#endif
  acquire(&state.start);
  state.kernel(state.arguments);
  Thread* self = state.thread;
  self->done = true;
  --state.live;
  self->warp->live &= ~(1u << self->number % WARP);
  ++state.progress;
  give_way(true);
  std::abort();
}

EMULATOR_OWN inline void* shared() { return state.shared; }

// Memory of its own for each block. ThreadSanitizer forgets what is unmapped, order included, so
// that blocks that follow each other here count as concurrent; AddressSanitizer knows where a
// malloc ends.
constexpr size_t BARRIERS = 2 + 2 * WARP * (1024 / WARP);
EMULATOR_OWN inline void new_shared(size_t size) {
#if defined(__SANITIZE_THREAD__)
  state.shared = static_cast<char*>(mmap(nullptr, size + BARRIERS, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  state.order = state.shared + size;
#else
  static char order[BARRIERS];
  state.shared = static_cast<char*>(std::malloc(size));
  state.order = order;
#endif
  if (size) std::memset(state.shared, 0xff, size);  // NaN, to any floating type
}

EMULATOR_OWN inline void free_shared(size_t size) {
#if defined(__SANITIZE_THREAD__)
  munmap(state.shared, size + BARRIERS);
#else
  (void)size;
  std::free(state.shared);
#endif
}

EMULATOR_OWN inline void new_fiber(Fiber& fiber) {
  if (!fiber.stack) {
    void* memory = mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mprotect(memory, GUARD, PROT_NONE);
    fiber.stack = static_cast<char*>(memory) + GUARD;
#if defined(__SANITIZE_THREAD__)
    fiber.tsan = __tsan_create_fiber(0);
#endif
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack, STACK);  // a launch that failed left its frames here
#endif
  fiber.fake_stack = nullptr;
  prepare(fiber.context, fiber.stack, thread_main);
}

EMULATOR_OWN inline void start_block(unsigned block, Fiber* fibers) {
  State& s = state;
  s.block_index = {block % s.grid.x, block / s.grid.x % s.grid.y, block / s.grid.x / s.grid.y};
  s.arrived = 0;
  s.votes = 0;
  s.live = s.count;
  for (unsigned i = 0; i < s.count; i += WARP) s.warps[i / WARP].live = s.warps[i / WARP].masks = 0;
  for (unsigned i = 0; i < s.count; ++i) {
    Thread& t = s.threads[i];
    t.index = {i % s.block.x, i / s.block.x % s.block.y, i / s.block.x / s.block.y};
    t.number = i;
    t.warp = &s.warps[i / WARP];
    t.warp->live |= 1u << i % WARP;
    t.done = false;
    t.waits_in = nullptr;
    new_fiber(fibers[i]);
  }
  release(&s.start);
}

EMULATOR_OWN inline void report_deadlock() {
  const Thread *waiting = nullptr, *other = nullptr;
  for (unsigned i = 0; i < state.count; ++i) {
    const Thread& t = state.threads[i];
    if (!waiting && !t.done) waiting = &t;
  }
  for (unsigned i = 0; i < state.count; ++i) {
    const Thread& t = state.threads[i];
    if (t.done || t.waits_in != waiting->waits_in || t.line != waiting->line) other = &t;
  }
  report("deadlock: " + describe(*waiting) + (other ? ", " + describe(*other) : ""));
}

struct Random {  // a linear congruential generator (Knuth's MMIX)
  uint64_t state;
  uint32_t next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state >> 32);
  }
};
inline void shuffle(std::vector<unsigned>& sequence, Random& random) {
  for (size_t left = sequence.size(); left > 1; --left)
    std::swap(sequence[left - 1], sequence[random.next() % left]);
}

// Round after round, every thread goes on until it waits; a round without progress is the last.
EMULATOR_OWN inline void run_block(unsigned block, Fiber* fibers, std::vector<unsigned>& sequence,
                                   Order order, Random& random) {
  State& s = state;
  start_block(block, fibers);
  while (s.live) {
    const long before = s.progress;
    if (order == SHUFFLED) shuffle(sequence, random);
    for (unsigned i : sequence) {
      if (!s.threads[i].done) resume(s.threads[i], fibers[(i + block) % s.count]);
      if (*s.error) return;
    }
    if (s.live && s.progress == before) return report_deadlock();
  }
}

EMULATOR_OWN inline void launch(void (*kernel)(void**), void** arguments, dim3 grid, dim3 block,
                                size_t shared_size, Order order, unsigned seed) {
  static std::vector<Fiber> fibers;
  State& s = state;
  s.kernel = kernel;
  s.arguments = arguments;
  s.grid = grid;
  s.block = block;
  s.count = block.x * block.y * block.z;
  *s.error = 0;
  if (fibers.size() < s.count) fibers.resize(s.count);
#if defined(__SANITIZE_THREAD__)
  s.scheduler_tsan = __tsan_get_current_fiber();
#endif
  Random random{seed};
  std::vector<unsigned> blocks(grid.x * grid.y * grid.z), threads(s.count);
  for (unsigned i = 0; i < blocks.size(); ++i) blocks[i] = i;
  for (unsigned i = 0; i < threads.size(); ++i) threads[i] = i;
  if (order == REVERSED) {
    std::reverse(blocks.begin(), blocks.end());
    std::reverse(threads.begin(), threads.end());
  }
  if (order == SHUFFLED) shuffle(blocks, random);
  for (unsigned i : blocks) {
    new_shared(shared_size);
    run_block(i, fibers.data(), threads, order, random);
    free_shared(shared_size);
    if (*s.error) break;
  }
  acquire(&s.finish);  // what the kernel wrote, the host reads
}

// ---------------------------------------------------------------- waiting for each other

// All threads of the block, at the same place in the source; the votes of all are added up.
EMULATOR_OWN inline int barrier(const char* operation, int line, int vote) {
  State& s = state;
  Thread* self = s.thread;
  self->waits_in = operation;
  self->line = line;
  if (!s.arrived) s.first_arrival = self;
  const Thread& first = *s.first_arrival;
  if (first.waits_in != operation || first.line != line)
    fail("divergent barrier: " + describe(*self) + ", " + describe(first));
  const long round = s.round;
  s.votes += vote;
  release(s.order + (round & 1));
  if (++s.arrived == s.count) {
    s.result[round & 1] = s.votes;
    s.arrived = 0;
    s.votes = 0;
    ++s.round;
    ++s.progress;
  }
  while (s.round == round) {
    if (s.live < s.count) {
      unsigned gone = 0;
      while (!s.threads[gone].done) ++gone;
      fail("divergent barrier: " + describe(*self) + ", " + describe(s.threads[gone]));
    }
    give_way();
  }
  self->waits_in = nullptr;
  acquire(s.order + (round & 1));
  return s.result[round & 1];
}

// The lanes of `mask`. Returns the values that they brought, by lane.
EMULATOR_OWN inline const uint64_t* meet(const char* operation, int line, unsigned mask,
                                         uint64_t value, bool orders_memory) {
  Thread* self = state.thread;
  Warp& warp = *self->warp;
  const unsigned lane = self->number % WARP;
  self->waits_in = operation;
  self->line = line;
  if (!(mask >> lane & 1)) fail(describe(*self) + ", with a mask that leaves its own lane out");
  unsigned which = 0;
  while (which < warp.masks && warp.meetings[which].mask != mask) ++which;
  if (which == WARP) fail(describe(*self) + ": more than 32 masks in one warp");
  Meeting& here = warp.meetings[which];
  if (which == warp.masks) {
    ++warp.masks;
    here.mask = mask;
    here.arrived = 0;
    here.round = 0;
  }
  if (!here.arrived) here.operation = operation;
  if (here.operation != operation)
    fail(describe(*self) + ", others of its warp in " + here.operation);
  const long round = here.round;
  char* order = state.order + 2 + 2 * (self->number / WARP * WARP + which) + (round & 1);
  here.value[round & 1][lane] = value;
  here.arrived |= 1u << lane;
  if (orders_memory) release(order);
  while (here.round == round) {
    if (here.arrived == (mask & warp.live)) {
      here.arrived = 0;
      ++here.round;
      ++state.progress;
    } else {
      give_way();
    }
  }
  self->waits_in = nullptr;
  if (orders_memory) acquire(order);
  return here.value[round & 1];
}

// The value that lane `source` brought. Shuffles exchange registers; they order no memory.
template <class T>
EMULATOR_OWN inline T shuffle(const char* operation, int line, unsigned mask, T value,
                              unsigned source) {
  static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  const Thread* self = state.thread;
  if (!(mask & self->warp->live & (1u << source)))
    fail("thread " + describe(self->index) + " reads lane " + std::to_string(source) +
         ", which takes no part, in " + operation + " at line " + std::to_string(line));
  bits = meet(operation, line, mask, bits, false)[source];
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Lane `source` as counted inside the caller's group of `width` lanes; one beyond it is the caller.
EMULATOR_OWN inline unsigned in_group(int source, int width, bool wraps) {
  const int lane = static_cast<int>(state.thread->number % WARP);
  if (width <= 0 || width > static_cast<int>(WARP) || width & (width - 1))
    fail("a shuffle's width must be a power of two up to 32, not " + std::to_string(width));
  if (wraps) source &= width - 1;
  const int first = lane & ~(width - 1);
  return source < 0 || source >= width ? lane : first + source;
}
EMULATOR_OWN inline int lane_in_group(int width) { return state.thread->number & (width - 1); }

// ---------------------------------------------------------------- atomics

// Relaxed, as CUDA's are: an atomic next to a plain access of the same place is still a race.
template <class T, class F>
inline T atomically(T* place, F change) {
  T old;
  __atomic_load(place, &old, __ATOMIC_RELAXED);
  T next = change(old);
  while (!__atomic_compare_exchange(place, &old, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    next = change(old);
  return old;
}

// ---------------------------------------------------------------- the table of kernels

template <class T>
std::string code() {  // as NumPy writes a dtype: f4, i8, u1; a pointer ends in *
  if constexpr (std::is_pointer_v<T>) {
    using Target = std::remove_pointer_t<T>;
    return (std::is_const_v<Target> ? "const " : "") + code<std::remove_const_t<Target>>() + "*";
  } else if constexpr (std::is_same_v<T, bool>) {
    return "b1";
  } else {
    static_assert(std::is_arithmetic_v<T>, "kernels take numbers and pointers to numbers");
    const char kind = std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
    return kind + std::to_string(sizeof(T));
  }
}
template <class... A>
std::string signature(void (*)(A...)) {
  std::string all;
  ((all += (all.empty() ? "" : ",") + code<std::remove_cv_t<A>>()), ...);
  return all;
}
template <class... A, size_t... I>
void call(void (*kernel)(A...), void** p, std::index_sequence<I...>) {
  (void)p;
  kernel(*static_cast<std::remove_cv_t<A>*>(p[I])...);
}
template <class... A>
void call(void (*kernel)(A...), void** p) {
  call(kernel, p, std::index_sequence_for<A...>{});
}

struct Entry {
  const char* name;
  std::string signature;
  unsigned bound;  // __launch_bounds__, or 1024
  void (*call)(void**);
};
#define EMULATOR_ENTRY(kernel, bound) \
  {#kernel, emulator::signature(kernel), bound, [](void** p) { emulator::call(kernel, p); }}

}  // namespace emulator

// ---------------------------------------------------------------- CUDA's functions

#define threadIdx (emulator::state.thread->index)
#define blockIdx (emulator::state.block_index)
#define blockDim (emulator::state.block)
#define gridDim (emulator::state.grid)

inline void __syncthreads(int line = __builtin_LINE()) {
  emulator::barrier("__syncthreads", line, 0);
}
inline int __syncthreads_count(int yes, int line = __builtin_LINE()) {
  return emulator::barrier("__syncthreads_count", line, yes ? 1 : 0);
}
inline int __syncthreads_or(int yes, int line = __builtin_LINE()) {
  return emulator::barrier("__syncthreads_or", line, yes ? 1 : 0) > 0;
}
inline int __syncthreads_and(int yes, int line = __builtin_LINE()) {
  return emulator::barrier("__syncthreads_and", line, yes ? 0 : 1) == 0;
}
inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
  emulator::meet("__syncwarp", line, mask, 0, true);
}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32,
                     int line = __builtin_LINE()) {
  return emulator::shuffle("__shfl_sync", line, mask, value,
                           emulator::in_group(source, width, true));
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                         int line = __builtin_LINE()) {
  return emulator::shuffle("__shfl_xor_sync", line, mask, value,
                           emulator::in_group(emulator::lane_in_group(width) ^ bits, width, false));
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                          int line = __builtin_LINE()) {
  const int source = emulator::lane_in_group(width) + static_cast<int>(by);
  return emulator::shuffle("__shfl_down_sync", line, mask, value,
                           emulator::in_group(source, width, false));
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32,
                        int line = __builtin_LINE()) {
  const int source = emulator::lane_in_group(width) - static_cast<int>(by);
  return emulator::shuffle("__shfl_up_sync", line, mask, value,
                           emulator::in_group(source, width, false));
}

template <class T>
inline T atomicAdd(T* place, T value) {
  return emulator::atomically(place, [=](T old) { return static_cast<T>(old + value); });
}
template <class T>
inline T atomicMax(T* place, T value) {
  return emulator::atomically(place, [=](T old) { return std::max(old, value); });
}
template <class T>
inline T atomicMin(T* place, T value) {
  return emulator::atomically(place, [=](T old) { return std::min(old, value); });
}
template <class T>
inline T atomicExch(T* place, T value) {
  return emulator::atomically(place, [=](T) { return value; });
}
template <class T>
inline T atomicCAS(T* place, T compare, T value) {
  return emulator::atomically(place, [=](T old) { return old == compare ? value : old; });
}

using std::max;
using std::min;
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __int_as_float(int bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline int __float_as_int(float x) {
  int bits;
  std::memcpy(&bits, &x, sizeof x);
  return bits;
}
template <class T>
inline T __ldg(const T* place) {
  return *place;
}
