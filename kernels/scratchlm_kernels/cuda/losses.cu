// Softmax and cross-entropy in one; a block for each row of logits.
//
//   loss = m + ln l - x_t,  m = max x,  l = sum exp(x - m)      dx = g (exp(x - m) / l - [c = t])
//
// Forward reads the row once: each thread keeps a running m and l of its share of the classes, as
// attention does, and the threads' pairs are put together. Saved are m and 1 / l of each row; the
// probabilities are never stored.

#include "common.cuh"

constexpr int THREADS = 128;

// exp(-inf - -inf) would be NaN: a share without classes has l = 0 whatever m is
__device__ __forceinline__ float shrink(float m, float m_new) {
  return m == m_new ? 1.f : expf(m - m_new);
}

extern "C" __global__ void __launch_bounds__(THREADS) cross_entropy_forward(
    const float* __restrict__ logits, const long long* __restrict__ target,
    float* __restrict__ loss, float* __restrict__ top, float* __restrict__ inverse_sum, int classes,
    long long ignored) {
  DYNAMIC_SHARED(float, shared);
  float* tops = shared;                 // [THREADS / WARP]
  float* sums = tops + THREADS / WARP;  // [THREADS / WARP]
  const size_t row = blockIdx.x;
  const float* x = logits + row * classes;

  float m = -INFINITY, l = 0.f;
  for (int c = threadIdx.x; c < classes; c += THREADS) {
    const float m_new = fmaxf(m, x[c]);
    l = l * shrink(m, m_new) + shrink(x[c], m_new);
    m = m_new;
  }
  const float m_warp = max_of_lanes(m);
  l = sum_of_lanes(l * shrink(m, m_warp));
  if (threadIdx.x % WARP == 0) {
    tops[threadIdx.x / WARP] = m_warp;
    sums[threadIdx.x / WARP] = l;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  m = tops[0];
  for (int w = 1; w < THREADS / WARP; ++w) m = fmaxf(m, tops[w]);
  l = 0.f;
  for (int w = 0; w < THREADS / WARP; ++w) l += sums[w] * shrink(tops[w], m);
  const long long t = target[row];
  loss[row] = t == ignored ? 0.f : logf(l) - (x[t] - m);
  top[row] = m;
  inverse_sum[row] = 1.f / l;
}

// `each` says whether g has a number for every row, or one for all.
extern "C" __global__ void __launch_bounds__(THREADS) cross_entropy_backward(
    const float* __restrict__ logits, const long long* __restrict__ target,
    const float* __restrict__ top, const float* __restrict__ inverse_sum,
    const float* __restrict__ g, float* __restrict__ dlogits, int classes, long long ignored,
    int each) {
  const size_t row = blockIdx.x;
  const long long t = target[row];
  const float factor = t == ignored ? 0.f : g[each ? row : 0];
  for (int c = threadIdx.x; c < classes; c += THREADS) {
    const float p = expf(logits[row * classes + c] - top[row]) * inverse_sum[row];
    dlogits[row * classes + c] = factor * (p - (c == t ? 1.f : 0.f));
  }
}
