// Attention forward, second version: tiles, and the online softmax.
//
// A block takes ROWS queries, a warp for each, and walks over k and v in tiles of 32 keys that all
// its warps share. In a warp, a lane first owns one key of the tile (its score), then some features
// (columns lane, lane + 32, ... of the output); the weights go from lane to lane by shuffles. The
// N x M scores are never together anywhere, so memory is linear in length.
//
// Each number of a tile is read from shared memory for one product. Version 3 reads it for four.

#include "common.cuh"
#include "attention.cuh"

constexpr int ROWS = 8, KEYS = WARP, THREADS = ROWS * WARP;
constexpr int STRIDE = HEAD + 1;  // odd: lanes that read down a column meet no bank twice
constexpr int FEATURES = (HEAD + WARP - 1) / WARP;

__device__ void load(float* tile, const float* x, int rows, int first, int length, int width,
                     float factor = 1.f) {
  for (int n = threadIdx.y * WARP + threadIdx.x; n < rows * HEAD; n += THREADS) {
    const int r = n / HEAD, c = n % HEAD;
    const bool inside = first + r < length && c < width;
    tile[r * STRIDE + c] = inside ? x[(size_t)(first + r) * width + c] * factor : 0.f;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_forward_v2(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
    const bool* __restrict__ allowed, const float* __restrict__ bias, long long mask_batch,
    long long mask_head, long long mask_row, long long mask_column, float* __restrict__ y,
    float* __restrict__ top, float* __restrict__ inverse_sum, int heads, int group, int N, int M,
    int d, int e, float scale, int causal) {
  DYNAMIC_SHARED(float, shared);
  float* queries = shared;                  // [ROWS, STRIDE]
  float* keys = queries + ROWS * STRIDE;    // [KEYS, STRIDE]
  float* values = keys + KEYS * STRIDE;     // [KEYS, STRIDE]
  const int head = blockIdx.x, first = blockIdx.y * ROWS;
  const int lane = threadIdx.x, i = first + threadIdx.y;
  const Mask mask = mask_of_head(allowed, bias, mask_batch, mask_head, mask_row, mask_column, head,
                                 heads, causal, N, M);
  q += (size_t)head * N * d;
  k += (size_t)(head / group) * M * d;
  v += (size_t)(head / group) * M * e;
  load(queries, q, ROWS, first, N, d, scale);

  float m = -INFINITY, l = 0.f, sum[FEATURES] = {};
  const int end = min(M, first + ROWS + mask.past);  // the last query of the block sees no further
  for (int start = 0; start < end; start += KEYS) {
    load(keys, k, KEYS, start, M, d);
    load(values, v, KEYS, start, M, e);
    __syncthreads();

    // this lane's key
    const int j = start + lane;
    float s = 0.f;
    for (int c = 0; c < HEAD; ++c) s += queries[threadIdx.y * STRIDE + c] * keys[lane * STRIDE + c];
    s = i < N && j < M ? masked(s, mask, i, j) : -INFINITY;

    // the row's softmax goes on
    const float m_new = fmaxf(m, max_of_lanes(s));
    const float p = expf(s - origin(m_new)), shrink = expf(m - origin(m_new));
    l = l * shrink + sum_of_lanes(p);
    m = m_new;

    // this lane's features
    #pragma unroll
    for (int f = 0; f < FEATURES; ++f) sum[f] *= shrink;
    for (int t = 0; t < KEYS; ++t) {
      const float weight = __shfl_sync(ALL_LANES, p, t);
      #pragma unroll
      for (int f = 0; f < FEATURES; ++f) {
        const int c = lane + f * WARP;
        if (c < HEAD) sum[f] += weight * values[t * STRIDE + c];
      }
    }
    __syncthreads();  // all warps are done with this tile
  }

  if (i >= N) return;
  #pragma unroll
  for (int f = 0; f < FEATURES; ++f) {
    const int c = lane + f * WARP;
    if (c < e) y[((size_t)head * N + i) * e + c] = sum[f] * inverse(l);
  }
  if (lane == 0) {
    top[(size_t)head * N + i] = origin(m);
    inverse_sum[(size_t)head * N + i] = inverse(l);
  }
}
