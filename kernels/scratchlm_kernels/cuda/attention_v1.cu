// Attention forward, first version: the formula, one block for each query.
//
//   1. s_j = scale * (q . k_j) + mask      each thread takes some keys; all M scores stay on chip
//   2. m = max s, l = sum exp(s - m)       over the block
//   3. y = sum_j exp(s_j - m) v_j / l      each thread takes some features
//
// Every block reads all of k and v from global memory, N times in all, and M may be no longer than
// shared memory. Version 2 reads them once for a tile of queries.

#include "common.cuh"
#include "attention.cuh"

constexpr int THREADS = 128;

// Over the whole block; `scratch` holds a number for each warp.
__device__ float over_block(float x, bool greatest, float* scratch) {
  x = greatest ? max_of_lanes(x) : sum_of_lanes(x);
  if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = x;
  __syncthreads();
  x = scratch[0];
  for (int w = 1; w < THREADS / WARP; ++w) x = greatest ? fmaxf(x, scratch[w]) : x + scratch[w];
  __syncthreads();  // the next call writes scratch
  return x;
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_forward_v1(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
    const bool* __restrict__ allowed, const float* __restrict__ bias, long long mask_batch,
    long long mask_head, long long mask_row, long long mask_column, float* __restrict__ y,
    float* __restrict__ top, float* __restrict__ inverse_sum, int heads, int group, int N, int M,
    int d, int e, float scale, int causal) {
  DYNAMIC_SHARED(float, shared);
  float* weight = shared;       // [M]
  float* scratch = weight + M;  // [THREADS / WARP]
  const int head = blockIdx.x, i = blockIdx.y;
  const Mask mask = mask_of_head(allowed, bias, mask_batch, mask_head, mask_row, mask_column, head,
                                 heads, causal, N, M);
  q += ((size_t)head * N + i) * d;
  k += (size_t)(head / group) * M * d;
  v += (size_t)(head / group) * M * e;
  y += ((size_t)head * N + i) * e;

  float m = -INFINITY;
  for (int j = threadIdx.x; j < M; j += THREADS) {
    float s = 0.f;
    for (int c = 0; c < d; ++c) s += q[c] * scale * k[(size_t)j * d + c];
    weight[j] = masked(s, mask, i, j);
    m = fmaxf(m, weight[j]);
  }
  m = over_block(m, true, scratch);

  float l = 0.f;
  for (int j = threadIdx.x; j < M; j += THREADS) {
    weight[j] = expf(weight[j] - origin(m));
    l += weight[j];
  }
  l = over_block(l, false, scratch);  // and its barrier lets all threads see all weights

  for (int c = threadIdx.x; c < e; c += THREADS) {
    float sum = 0.f;
    for (int j = 0; j < M; ++j) sum += weight[j] * v[(size_t)j * e + c];
    y[c] = sum * inverse(l);
  }
  if (threadIdx.x == 0) {
    top[(size_t)head * N + i] = origin(m);
    inverse_sum[(size_t)head * N + i] = inverse(l);
  }
}
