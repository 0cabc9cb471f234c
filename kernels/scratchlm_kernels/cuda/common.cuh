// What every kernel here shares. Sources are compiled by NVRTC, which has no system headers, and for
// the tests by a C++ compiler behind the emulator's header.

#ifndef DYNAMIC_SHARED  // the emulator gives its own
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// The sum, or the greatest, of `x` over neighboring groups of `width` lanes; every lane gets it.
// Each step adds the partner's, so all lanes form the same sum in the same shape of a tree.
__device__ __forceinline__ float sum_of_lanes(float x, int width = WARP) {
  for (int step = width / 2; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step, width);
  return x;
}
__device__ __forceinline__ float max_of_lanes(float x, int width = WARP) {
  for (int step = width / 2; step > 0; step /= 2)
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step, width));
  return x;
}
