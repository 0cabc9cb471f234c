// What the attention kernels share: the shapes, the mask, and tiles in shared memory.
//
//   q [B, H, N, d]   k [B, Hkv, M, d]   v [B, Hkv, M, e]   ->   y [B, H, N, e]
//
// contiguous; a "head" below is one of the B * H (or B * Hkv) together. `group` query heads share
// one head of k and v. HEAD, given to the compiler, is at least d and e; what lies beyond them is
// zero in the tiles and is never written out.

// The mask of one query head: what is added to a score. Strides in elements, 0 along an axis where
// the mask is broadcast. At most one of the pointers is not null.
struct Mask {
  const bool* allowed;  // true where the query may attend
  const float* bias;    // a number to add, or -inf
  long long row, column;
  int past;  // query i sees keys up to i + past; all of them where `past` is M
};

__device__ __forceinline__ Mask mask_of_head(const bool* allowed, const float* bias,
                                             long long batch, long long head, long long row,
                                             long long column, int index, int heads, int causal,
                                             int N, int M) {
  const long long start = index / heads * batch + index % heads * head;
  return {allowed ? allowed + start : allowed, bias ? bias + start : bias, row, column,
          causal ? M - N : M};
}

// The score of query i and key j under the mask. `score` is the sum of (scale q_c) k_c in the order of
// c, in every version and in backward: what backward forms again must be rounded as forward's was,
// or weights of large scores would no longer add up to 1.
__device__ __forceinline__ float masked(float score, const Mask& mask, int i, int j) {
  if (j > i + mask.past) return -INFINITY;
  const long long place = i * mask.row + j * mask.column;
  if (mask.allowed && !mask.allowed[place]) return -INFINITY;
  return mask.bias ? score + mask.bias[place] : score;
}

// One row's running softmax is (m, l): the greatest score so far and the sum of exp(score - m). When
// a greater one comes, what was summed up is multiplied by exp(m_old - m_new). A row that has seen
// nothing has m = -inf, where exp(-inf - -inf) would be NaN: it is measured from 0 instead.
__device__ __forceinline__ float origin(float m) { return m == -INFINITY ? 0.f : m; }

// What backward keeps of a row: m, and 1 / l, with P = exp(score - m) / l. (Their sum in logarithms,
// m + ln l, would be one number, but beside an m of 1e4 a float32 keeps two digits of ln l.) A query
// that may attend to nothing has l = 0; its P are 0, as its output is.
__device__ __forceinline__ float inverse(float l) { return l > 0.f ? 1.f / l : 0.f; }
