// Attention, third version: FlashAttention-2, forward and backward, each thread a piece of a tile in
// registers.
//
// THREADS = 16 groups of 8 lanes. For a tile of ROWS x COLUMNS scores, group g owns the rows
// g R ... g R + R - 1, and lane t of it the columns t, t + 8, ...: R x C scores in registers, for
// which it reads R + C numbers instead of 2 R C. The product with the next matrix goes the same way:
// the same rows, and the features t, t + 8, ... So all that one row needs stays inside 8 lanes of one
// warp, and a shuffle reduces it.

#include "common.cuh"
#include "attention.cuh"

constexpr int LANES = 8, GROUPS = 16, THREADS = LANES * GROUPS;
constexpr int STRIDE = HEAD + 1;        // odd: lanes that read down a column meet no bank twice
constexpr int FEATURES = HEAD / LANES;  // of one lane

// Rows first ... first + ROWS - 1 of x [length, width], times `factor`; zeros beyond its edges.
template <int ROWS>
__device__ void load(float* tile, const float* x, int first, int length, int width,
                     float factor = 1.f) {
  for (int n = threadIdx.x; n < ROWS * HEAD; n += THREADS) {
    const int r = n / HEAD, c = n % HEAD;
    const bool inside = first + r < length && c < width;
    tile[r * STRIDE + c] = inside ? x[(size_t)(first + r) * width + c] * factor : 0.f;
  }
}

// s = a bᵀ: this thread's R rows of a against its C rows of b.
template <int R, int C>
__device__ __forceinline__ void product(float (&s)[R][C], const float* a, const float* b) {
  const int group = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  #pragma unroll
  for (int r = 0; r < R; ++r)
    #pragma unroll
    for (int c = 0; c < C; ++c) s[r][c] = 0.f;
  #pragma unroll 4
  for (int f = 0; f < HEAD; ++f) {
    float x[R], z[C];
    #pragma unroll
    for (int r = 0; r < R; ++r) x[r] = a[(group * R + r) * STRIDE + f];
    #pragma unroll
    for (int c = 0; c < C; ++c) z[c] = b[(lane + c * LANES) * STRIDE + f];
    #pragma unroll
    for (int r = 0; r < R; ++r)
      #pragma unroll
      for (int c = 0; c < C; ++c) s[r][c] += x[r] * z[c];
  }
}

// sum += w x: this thread's R rows of w [.., COLUMNS + 1] with its features of x [COLUMNS, STRIDE].
template <int R, int COLUMNS>
__device__ __forceinline__ void accumulate(float (&sum)[R][FEATURES], const float* w,
                                           const float* x) {
  const int group = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  #pragma unroll 2
  for (int j = 0; j < COLUMNS; ++j) {
    float weight[R];
    #pragma unroll
    for (int r = 0; r < R; ++r) weight[r] = w[(group * R + r) * (COLUMNS + 1) + j];
    #pragma unroll
    for (int f = 0; f < FEATURES; ++f) {
      const float feature = x[j * STRIDE + lane + f * LANES];
      #pragma unroll
      for (int r = 0; r < R; ++r) sum[r][f] += weight[r] * feature;
    }
  }
}

// This thread's piece to x [length, width], of which the tile's rows begin at `first`.
template <int R>
__device__ __forceinline__ void store(float* x, const float (&sum)[R][FEATURES], int first,
                                      int length, int width, float factor = 1.f) {
  const int group = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  #pragma unroll
  for (int r = 0; r < R; ++r) {
    const int row = first + group * R + r;
    #pragma unroll
    for (int f = 0; f < FEATURES; ++f) {
      const int c = lane + f * LANES;
      if (row < length && c < width) x[(size_t)row * width + c] = sum[r][f] * factor;
    }
  }
}

// ---------------------------------------------------------------- forward
//
// A block takes 64 queries and walks over the keys, 32 at a time. k and v take turns in one tile.
// Shared memory, in floats: (64 + 32) (HEAD + 1) + 64 * 33.

extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_forward(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
    const bool* __restrict__ allowed, const float* __restrict__ bias, long long mask_batch,
    long long mask_head, long long mask_row, long long mask_column, float* __restrict__ y,
    float* __restrict__ top, float* __restrict__ inverse_sum, int heads, int group, int N, int M,
    int d, int e, float scale, int causal) {
  constexpr int R = 4, C = 4, ROWS = GROUPS * R, COLUMNS = LANES * C;
  DYNAMIC_SHARED(float, shared);
  float* queries = shared;                  // [ROWS, STRIDE]
  float* tile = queries + ROWS * STRIDE;    // [COLUMNS, STRIDE]: keys, then values
  float* weight = tile + COLUMNS * STRIDE;  // [ROWS, COLUMNS + 1]
  const int head = blockIdx.x, first = blockIdx.y * ROWS;
  const int lane = threadIdx.x % LANES, row = threadIdx.x / LANES * R;
  const Mask mask = mask_of_head(allowed, bias, mask_batch, mask_head, mask_row, mask_column, head,
                                 heads, causal, N, M);
  k += (size_t)(head / group) * M * d;
  v += (size_t)(head / group) * M * e;
  load<ROWS>(queries, q + (size_t)head * N * d, first, N, d, scale);

  float m[R], l[R] = {}, sum[R][FEATURES] = {};
  #pragma unroll
  for (int r = 0; r < R; ++r) m[r] = -INFINITY;
  const int end = min(M, first + ROWS + mask.past);  // the last query of the block sees no further
  for (int start = 0; start < end; start += COLUMNS) {
    load<COLUMNS>(tile, k, start, M, d);
    __syncthreads();
    float s[R][C];
    product(s, queries, tile);
    #pragma unroll
    for (int r = 0; r < R; ++r) {
      const int i = first + row + r;
      float m_new = m[r];
      #pragma unroll
      for (int c = 0; c < C; ++c) {
        const int j = start + lane + c * LANES;
        s[r][c] = i < N && j < M ? masked(s[r][c], mask, i, j) : -INFINITY;
        m_new = fmaxf(m_new, s[r][c]);
      }
      m_new = max_of_lanes(m_new, LANES);
      const float shrink = expf(m[r] - origin(m_new));
      float added = 0.f;
      #pragma unroll
      for (int c = 0; c < C; ++c) {
        const float p = expf(s[r][c] - origin(m_new));
        weight[(row + r) * (COLUMNS + 1) + lane + c * LANES] = p;
        added += p;
      }
      l[r] = l[r] * shrink + sum_of_lanes(added, LANES);
      m[r] = m_new;
      #pragma unroll
      for (int f = 0; f < FEATURES; ++f) sum[r][f] *= shrink;
    }
    __syncthreads();  // all are done with the keys
    load<COLUMNS>(tile, v, start, M, e);
    __syncthreads();
    accumulate<R, COLUMNS>(sum, weight, tile);
    __syncthreads();  // and with the values
  }

  #pragma unroll
  for (int r = 0; r < R; ++r) {
    const int i = first + row + r;
    #pragma unroll
    for (int f = 0; f < FEATURES; ++f) sum[r][f] *= inverse(l[r]);
    if (lane == 0 && i < N) {
      top[(size_t)head * N + i] = origin(m[r]);
      inverse_sum[(size_t)head * N + i] = inverse(l[r]);
    }
  }
  store(y + (size_t)head * N * e, sum, first, N, e);
}

// ---------------------------------------------------------------- backward
//
//   P = exp(s - m) / l                formed again, tile by tile
//   dv = Pᵀ dy    dP = dy vᵀ
//   dS = P * (dP - delta)             delta_i = sum_j dP_ij P_ij = dy_i . y_i
//   dq = scale dS k    dk = scale dSᵀ q
//
// dk and dv sum over queries, dq over keys: two passes, so that each block owns what it writes, and
// no sum depends on the order of blocks.

// delta [rows] = sum over features of dy * y; a warp for each row.
extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_delta(
    const float* __restrict__ dy, const float* __restrict__ y, float* __restrict__ delta,
    long long rows, int e) {
  const long long row = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
  if (row >= rows) return;
  float sum = 0.f;
  for (int c = threadIdx.x % WARP; c < e; c += WARP) sum += dy[row * e + c] * y[row * e + c];
  sum = sum_of_lanes(sum);
  if (threadIdx.x % WARP == 0) delta[row] = sum;
}

// Smaller tiles than forward's, as there are four in shared memory, and two pieces in registers.
constexpr int R_BACK = 2, C_BACK = HEAD > 64 ? 2 : 4;
constexpr int ROWS_BACK = GROUPS * R_BACK, COLUMNS_BACK = LANES * C_BACK;

// dk, dv: a block takes 32 keys (the rows) of one head, and walks over the queries of all query
// heads that share them.
// Shared memory, in floats: 2 (32 + C) (HEAD + 1) + 2 * 32 (C + 1) + 3 C, with C = COLUMNS_BACK.
extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_backward_keys(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
    const bool* __restrict__ allowed, const float* __restrict__ bias, long long mask_batch,
    long long mask_head, long long mask_row, long long mask_column, const float* __restrict__ dy,
    const float* __restrict__ top, const float* __restrict__ inverse_sum,
    const float* __restrict__ delta, float* __restrict__ dk,
    float* __restrict__ dv, int heads, int group, int N, int M, int d, int e, float scale,
    int causal) {
  constexpr int R = R_BACK, C = C_BACK, ROWS = ROWS_BACK, COLUMNS = COLUMNS_BACK;
  DYNAMIC_SHARED(float, shared);
  float* keys = shared;                             // [ROWS, STRIDE]
  float* values = keys + ROWS * STRIDE;             // [ROWS, STRIDE]
  float* queries = values + ROWS * STRIDE;          // [COLUMNS, STRIDE]
  float* cotangents = queries + COLUMNS * STRIDE;   // [COLUMNS, STRIDE]: dy
  float* p_tile = cotangents + COLUMNS * STRIDE;    // [ROWS, COLUMNS + 1]: Pᵀ
  float* ds_tile = p_tile + ROWS * (COLUMNS + 1);   // [ROWS, COLUMNS + 1]: dSᵀ
  float* top_tile = ds_tile + ROWS * (COLUMNS + 1);  // [COLUMNS]
  float* inverse_tile = top_tile + COLUMNS;          // [COLUMNS]
  float* delta_tile = inverse_tile + COLUMNS;        // [COLUMNS]
  const int shared_head = blockIdx.x, first = blockIdx.y * ROWS;
  const int lane = threadIdx.x % LANES, row = threadIdx.x / LANES * R;
  load<ROWS>(keys, k + (size_t)shared_head * M * d, first, M, d);
  load<ROWS>(values, v + (size_t)shared_head * M * e, first, M, e);

  float sum_dk[R][FEATURES] = {}, sum_dv[R][FEATURES] = {};
  for (int head = shared_head * group; head < (shared_head + 1) * group; ++head) {
    const Mask mask = mask_of_head(allowed, bias, mask_batch, mask_head, mask_row, mask_column,
                                   head, heads, causal, N, M);
    // the first query that sees the first key of the block
    for (int start = max(0, first - mask.past); start < N; start += COLUMNS) {
      load<COLUMNS>(queries, q + (size_t)head * N * d, start, N, d, scale);
      load<COLUMNS>(cotangents, dy + (size_t)head * N * e, start, N, e);
      if (threadIdx.x < COLUMNS) {
        const int i = start + threadIdx.x;
        const size_t place = (size_t)head * N + i;
        top_tile[threadIdx.x] = i < N ? top[place] : 0.f;
        inverse_tile[threadIdx.x] = i < N ? inverse_sum[place] : 0.f;
        delta_tile[threadIdx.x] = i < N ? delta[place] : 0.f;
      }
      __syncthreads();
      float s[R][C], dp[R][C];
      product(s, keys, queries);
      product(dp, values, cotangents);
      #pragma unroll
      for (int r = 0; r < R; ++r) {
        #pragma unroll
        for (int c = 0; c < C; ++c) {
          const int column = lane + c * LANES, i = start + column, j = first + row + r;
          const float score = i < N && j < M ? masked(s[r][c], mask, i, j) : -INFINITY;
          const float p = expf(score - top_tile[column]) * inverse_tile[column];
          p_tile[(row + r) * (COLUMNS + 1) + column] = p;
          ds_tile[(row + r) * (COLUMNS + 1) + column] = p * (dp[r][c] - delta_tile[column]);
        }
      }
      __syncwarp();  // what a row needs was written by the lanes of its own group
      accumulate<R, COLUMNS>(sum_dv, p_tile, cotangents);
      accumulate<R, COLUMNS>(sum_dk, ds_tile, queries);  // the queries carry the scale
      __syncthreads();
    }
  }
  store(dk + (size_t)shared_head * M * d, sum_dk, first, M, d);
  store(dv + (size_t)shared_head * M * e, sum_dv, first, M, e);
}

// dq: a block takes 32 queries (the rows), and walks over the keys.
// Shared memory, in floats: 2 (32 + C) (HEAD + 1) + 32 (C + 1), with C = COLUMNS_BACK.
extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_backward_queries(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
    const bool* __restrict__ allowed, const float* __restrict__ bias, long long mask_batch,
    long long mask_head, long long mask_row, long long mask_column, const float* __restrict__ dy,
    const float* __restrict__ top, const float* __restrict__ inverse_sum,
    const float* __restrict__ delta, float* __restrict__ dq,
    int heads, int group, int N, int M, int d, int e, float scale, int causal) {
  constexpr int R = R_BACK, C = C_BACK, ROWS = ROWS_BACK, COLUMNS = COLUMNS_BACK;
  DYNAMIC_SHARED(float, shared);
  float* queries = shared;                        // [ROWS, STRIDE]
  float* cotangents = queries + ROWS * STRIDE;    // [ROWS, STRIDE]: dy
  float* keys = cotangents + ROWS * STRIDE;       // [COLUMNS, STRIDE]
  float* values = keys + COLUMNS * STRIDE;        // [COLUMNS, STRIDE]
  float* ds_tile = values + COLUMNS * STRIDE;     // [ROWS, COLUMNS + 1]: dS
  const int head = blockIdx.x, first = blockIdx.y * ROWS;
  const int lane = threadIdx.x % LANES, row = threadIdx.x / LANES * R;
  const Mask mask = mask_of_head(allowed, bias, mask_batch, mask_head, mask_row, mask_column, head,
                                 heads, causal, N, M);
  k += (size_t)(head / group) * M * d;
  v += (size_t)(head / group) * M * e;
  load<ROWS>(queries, q + (size_t)head * N * d, first, N, d, scale);
  load<ROWS>(cotangents, dy + (size_t)head * N * e, first, N, e);
  float top_row[R], inverse_row[R], delta_row[R], sum[R][FEATURES] = {};
  #pragma unroll
  for (int r = 0; r < R; ++r) {
    const int i = first + row + r;
    const size_t place = (size_t)head * N + i;
    top_row[r] = i < N ? top[place] : 0.f;
    inverse_row[r] = i < N ? inverse_sum[place] : 0.f;
    delta_row[r] = i < N ? delta[place] : 0.f;
  }

  const int end = min(M, first + ROWS + mask.past);
  for (int start = 0; start < end; start += COLUMNS) {
    load<COLUMNS>(keys, k, start, M, d);
    load<COLUMNS>(values, v, start, M, e);
    __syncthreads();
    float s[R][C], dp[R][C];
    product(s, queries, keys);
    product(dp, cotangents, values);
    #pragma unroll
    for (int r = 0; r < R; ++r) {
      #pragma unroll
      for (int c = 0; c < C; ++c) {
        const int column = lane + c * LANES, i = first + row + r, j = start + column;
        const float score = i < N && j < M ? masked(s[r][c], mask, i, j) : -INFINITY;
        const float p = expf(score - top_row[r]) * inverse_row[r];
        ds_tile[(row + r) * (COLUMNS + 1) + column] = p * (dp[r][c] - delta_row[r]);
      }
    }
    __syncwarp();  // what a row needs was written by the lanes of its own group
    accumulate<R, COLUMNS>(sum, ds_tile, keys);
    __syncthreads();
  }
  store(dq + (size_t)head * N * d, sum, first, N, d, scale);
}
