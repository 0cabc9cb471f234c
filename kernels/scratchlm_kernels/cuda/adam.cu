// One step of AdamW, in place and in one pass; a thread for each parameter.
//
//   p ← p - η λ p
//   m ← β1 m + (1 - β1) g        v ← β2 v + (1 - β2) g²
//   p ← p - step m / (√v + ε')   step = η √(1 - β2ᵗ) / (1 - β1ᵗ),  ε' = ε √(1 - β2ᵗ)
//
// Composed of array operations, the same step goes over memory a dozen times.

#include "common.cuh"

constexpr int THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS) adam_step(
    float* __restrict__ p, const float* __restrict__ g, float* __restrict__ m,
    float* __restrict__ v, long long n, float keep, float beta1, float one_less_beta1, float beta2,
    float one_less_beta2, float step, float eps) {
  const long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i >= n) return;
  const float slope = g[i];
  const float m_new = beta1 * m[i] + one_less_beta1 * slope;
  const float v_new = beta2 * v[i] + one_less_beta2 * slope * slope;
  m[i] = m_new;
  v[i] = v_new;
  p[i] = keep * p[i] - step * m_new / (sqrtf(v_new) + eps);
}
