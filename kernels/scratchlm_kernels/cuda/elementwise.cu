// GELU, exact and by tanh, forward and backward; a thread for each element. Nothing but x is saved.
//
//   exact   y = x F(x),  F(x) = (1 + erf(x / sqrt 2)) / 2      y' = F(x) + x exp(-x² / 2) / sqrt(2π)
//   tanh    y = x (1 + t) / 2,  t = tanh(u),  u = a (x + b x³)  y' = (1 + t) / 2 + x (1 - t²) u' / 2

#include "common.cuh"

constexpr int THREADS = 256;
constexpr float A = 0.7978845608028654f, B = 0.044715f;  // A = sqrt(2 / π)

__device__ __forceinline__ long long element() {
  return (long long)blockIdx.x * THREADS + threadIdx.x;
}

extern "C" __global__ void __launch_bounds__(THREADS) gelu_forward(
    const float* __restrict__ x, float* __restrict__ y, long long n, int by_tanh) {
  const long long i = element();
  if (i >= n) return;
  const float z = x[i];
  const float u = A * (z + B * z * z * z);
  // erfc keeps what 1 + erf would lose for x far below 0
  const float F = by_tanh ? 0.5f * (1.f + tanhf(u)) : 0.5f * erfcf(-z * 0.70710678f);
  y[i] = z * F;
}

extern "C" __global__ void __launch_bounds__(THREADS) gelu_backward(
    const float* __restrict__ dy, const float* __restrict__ x, float* __restrict__ dx, long long n,
    int by_tanh) {
  const long long i = element();
  if (i >= n) return;
  const float z = x[i];
  float slope;
  if (by_tanh) {
    const float t = tanhf(A * (z + B * z * z * z));
    slope = 0.5f * (1.f + t) + 0.5f * z * (1.f - t * t) * A * (1.f + 3.f * B * z * z);
  } else {
    slope = 0.5f * erfcf(-z * 0.70710678f) + z * expf(-0.5f * z * z) * 0.39894228f;
  }
  dx[i] = dy[i] * slope;
}
