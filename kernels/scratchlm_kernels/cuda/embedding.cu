// Rows of a table, and the gradient of the table; a warp for each id.
//
//   y[n] = W[ids[n]]           dW[ids[n]] += dy[n]
//
// One id may stand at many places, whose warps then add to the same row at the same time: atomically,
// and in an order that nobody knows, so that the last bit of a sum may change from run to run.

#include "common.cuh"

constexpr int WARPS = 4, THREADS = WARPS * WARP;

extern "C" __global__ void __launch_bounds__(THREADS) embedding_forward(
    const long long* __restrict__ ids, const float* __restrict__ weight, float* __restrict__ y,
    long long count, int width) {
  const long long n = (long long)blockIdx.x * WARPS + threadIdx.y;
  if (n >= count) return;
  for (int c = threadIdx.x; c < width; c += WARP) y[n * width + c] = weight[ids[n] * width + c];
}

extern "C" __global__ void __launch_bounds__(THREADS) embedding_backward(
    const long long* __restrict__ ids, const float* __restrict__ dy, float* __restrict__ dweight,
    long long count, int width) {
  const long long n = (long long)blockIdx.x * WARPS + threadIdx.y;
  if (n >= count) return;
  for (int c = threadIdx.x; c < width; c += WARP)
    atomicAdd(&dweight[ids[n] * width + c], dy[n * width + c]);
}
