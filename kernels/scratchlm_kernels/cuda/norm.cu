// Layer norm over the last axis, forward and backward; a warp for each row.
//
//   n = (x - mean) r,  r = 1 / sqrt(var + eps)        y = n w + b
//   g = dy w                                          dx = r (g - mean(g) - n mean(g n))
//   dw = sum over rows of dy n                        db = sum over rows of dy
//
// Saved for backward are mean and r of each row, two numbers; n is formed again from x.

#include "common.cuh"

constexpr int WARPS = 4, THREADS = WARPS * WARP;

extern "C" __global__ void __launch_bounds__(THREADS) layer_norm_forward(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    float* __restrict__ y, float* __restrict__ mean, float* __restrict__ r, long long rows,
    int width, float eps) {
  const int lane = threadIdx.x;
  const long long row = (long long)blockIdx.x * WARPS + threadIdx.y;
  if (row >= rows) return;  // all lanes of a warp together
  x += row * width;
  y += row * width;

  float sum = 0.f;
  for (int c = lane; c < width; c += WARP) sum += x[c];
  const float mu = sum_of_lanes(sum) / width;
  // once more over the row: the mean of squares less the square of the mean would cancel
  sum = 0.f;
  for (int c = lane; c < width; c += WARP) sum += (x[c] - mu) * (x[c] - mu);
  const float scale = 1.f / sqrtf(sum_of_lanes(sum) / width + eps);

  for (int c = lane; c < width; c += WARP) {
    const float n = (x[c] - mu) * scale;
    y[c] = (weight ? n * weight[c] : n) + (bias ? bias[c] : 0.f);
  }
  if (lane == 0) {
    mean[row] = mu;
    r[row] = scale;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) layer_norm_backward(
    const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ weight,
    const float* __restrict__ mean, const float* __restrict__ r, float* __restrict__ dx,
    long long rows, int width) {
  const int lane = threadIdx.x;
  const long long row = (long long)blockIdx.x * WARPS + threadIdx.y;
  if (row >= rows) return;
  x += row * width;
  dy += row * width;
  dx += row * width;
  const float mu = mean[row], scale = r[row];

  float sum = 0.f, dot = 0.f;
  for (int c = lane; c < width; c += WARP) {
    const float g = weight ? dy[c] * weight[c] : dy[c];
    sum += g;
    dot += g * (x[c] - mu) * scale;
  }
  sum = sum_of_lanes(sum) / width;
  dot = sum_of_lanes(dot) / width;
  for (int c = lane; c < width; c += WARP) {
    const float g = weight ? dy[c] * weight[c] : dy[c];
    dx[c] = scale * (g - sum - (x[c] - mu) * scale * dot);
  }
}

// Sums over rows: a block takes 32 columns and every `gridDim.y`-th stretch of 8 rows, so that the
// 32 lanes of a warp read neighbors. Its 8 warps are added up in shared memory, and the blocks'
// parts, dw and db [gridDim.y, width], by the caller: in one order always, which atomics would not
// keep.
constexpr int ROWS = 8;

extern "C" __global__ void __launch_bounds__(ROWS * WARP) layer_norm_backward_weights(
    const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ mean,
    const float* __restrict__ r, float* __restrict__ dw, float* __restrict__ db, long long rows,
    int width) {
  DYNAMIC_SHARED(float, shared);
  float* of_weight = shared;                // [ROWS, WARP]
  float* of_bias = of_weight + ROWS * WARP;  // [ROWS, WARP]
  const int c = blockIdx.x * WARP + threadIdx.x, place = threadIdx.y * WARP + threadIdx.x;
  float sum_w = 0.f, sum_b = 0.f;
  if (c < width) {
    for (long long row = (long long)blockIdx.y * ROWS + threadIdx.y; row < rows;
         row += (long long)gridDim.y * ROWS) {
      const float g = dy[row * width + c];
      sum_w += g * (x[row * width + c] - mean[row]) * r[row];
      sum_b += g;
    }
  }
  of_weight[place] = sum_w;
  of_bias[place] = sum_b;
  __syncthreads();
  if (threadIdx.y != 0 || c >= width) return;
  for (int t = 1; t < ROWS; ++t) {
    sum_w += of_weight[t * WARP + threadIdx.x];
    sum_b += of_bias[t * WARP + threadIdx.x];
  }
  dw[(size_t)blockIdx.y * width + c] = sum_w;
  db[(size_t)blockIdx.y * width + c] = sum_b;
}
