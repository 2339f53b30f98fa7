#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "duet/core/parallel.h"
#include "duet/ops/attention.h"
#include "duet/ops/dropout.h"
#include "duet/ops/gemm.h"
#include "duet/ops/vector_math.h"

namespace duet::ops {
namespace {

// In-place softmax of scores * scale over the keys. A masked key takes the lowest finite score, so that it gets
// probability zero beside any unmasked key and an even share when all are masked.
template <class T>
void masked_softmax(T* scores, int64_t n, T scale, const uint8_t* mask) {
  if (mask != nullptr) {
    for (int64_t j = 0; j < n; ++j) scores[j] = mask[j] ? scores[j] * scale : std::numeric_limits<T>::lowest();
  } else {
    for (int64_t j = 0; j < n; ++j) scores[j] *= scale;
  }
  T top = std::numeric_limits<T>::lowest();
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < n; ++j) top = scores[j] > top ? scores[j] : top;
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; ++j) {
    scores[j] = vexp(scores[j] - top);
    sum += scores[j];
  }
  const T inverse = T(1) / sum;
  for (int64_t j = 0; j < n; ++j) scores[j] *= inverse;
}

// A matrix as an operand of products in T: itself, or rounded into `room`.
template <class T>
const T* operand(const Wide<T>* x, std::vector<T>& room, int64_t count) {
  if constexpr (std::is_same_v<T, Wide<T>>) {
    return x;
  } else {
    room.resize(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) room[static_cast<size_t>(i)] = static_cast<T>(x[i]);
    return room.data();
  }
}

}  // namespace

Shape attention_saved(CpuContext, AttentionShape s) {
  return {s.batch, s.heads, s.tokens, s.tokens};
}

// One thread per (sample, head): the matrices are small, so parallel heads beat a parallel matmul.
template <class T>
void attention_forward(CpuContext context, AttentionShape s, const T* qkv, const uint8_t* key_mask, float dropout,
                       RandomKey random, Wide<T>* probabilities, T* y) {
  using W = Wide<T>;
  const int64_t n = s.tokens, d = s.head_size, width = s.heads * d, stride = 3 * width;
  const W scale = W(1) / std::sqrt(static_cast<W>(d));
  parallel_for(s.batch * s.heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<W> dropped(dropout > 0 ? static_cast<size_t>(n * n) : 0);
    std::vector<T> room;
    for (int64_t bh = begin; bh < end; ++bh) {
      const int64_t b = bh / s.heads, h = bh % s.heads;
      const T* q = qkv + b * n * stride + h * d;
      W* p = probabilities + bh * n * n;
      gemm<T, W>(context, n, n, d, 1, {q, stride}, {q + width, stride, true}, 0, {p, n});
      const uint8_t* mask = key_mask ? key_mask + b * n : nullptr;
      for (int64_t i = 0; i < n; ++i) masked_softmax(p + i * n, n, scale, mask);
      const W* used = p;
      if (dropout > 0) {
        dropout_span<W>(p, dropped.data(), n * n, dropout, random, bh * n * n);
        used = dropped.data();
      }
      gemm<T>(context, n, d, n, 1, {operand(used, room, n * n), n}, {q + 2 * width, stride}, 0,
              {y + b * n * width + h * d, width});
    }
  });
}

template <class T>
void attention_backward(CpuContext context, AttentionShape s, const T* qkv, const uint8_t* key_mask,
                        const Wide<T>* probabilities, const T*, const T* dy, float dropout, RandomKey random, T* dqkv) {
  using W = Wide<T>;
  const int64_t n = s.tokens, d = s.head_size, width = s.heads * d, stride = 3 * width;
  const W scale = W(1) / std::sqrt(static_cast<W>(d));
  parallel_for(s.batch * s.heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<W> dp(static_cast<size_t>(n * n)), dropped(dropout > 0 ? dp.size() : 0);
    std::vector<T> room;
    for (int64_t bh = begin; bh < end; ++bh) {
      const int64_t b = bh / s.heads, h = bh % s.heads;
      const T *q = qkv + b * n * stride + h * d, *k = q + width, *v = k + width;
      T *dq = dqkv + b * n * stride + h * d, *dk = dq + width, *dv = dk + width;
      const W* p = probabilities + bh * n * n;
      const T* g = dy + b * n * width + h * d;
      const W* used = p;
      if (dropout > 0) {
        dropout_span<W>(p, dropped.data(), n * n, dropout, random, bh * n * n);
        used = dropped.data();
      }
      gemm<T>(context, n, d, n, 1, {operand(used, room, n * n), n, true}, {g, width}, 0, {dv, stride});
      if (key_mask != nullptr &&
          std::all_of(key_mask + b * n, key_mask + (b + 1) * n, [](uint8_t m) { return m == 0; })) {
        // All keys are padding: the even probabilities come from the mask, not from query and key.
        for (int64_t i = 0; i < n; ++i) {
          std::fill_n(dq + i * stride, d, T(0));
          std::fill_n(dk + i * stride, d, T(0));
        }
        continue;
      }
      gemm<T, W>(context, n, n, d, 1, {g, width}, {v, stride, true}, 0, {dp.data(), n});
      if (dropout > 0) dropout_span<W>(dp.data(), dp.data(), n * n, dropout, random, bh * n * n);
      // Softmax backward: ds = p * (dp - sum(p * dp)), times the score scale.
      for (int64_t i = 0; i < n; ++i) {
        const W* pi = p + i * n;
        W* di = dp.data() + i * n;
        W sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; ++j) sum += pi[j] * di[j];
        for (int64_t j = 0; j < n; ++j) di[j] = pi[j] * (di[j] - sum) * scale;
      }
      const T* ds = operand(static_cast<const W*>(dp.data()), room, n * n);
      gemm<T>(context, n, d, n, 1, {ds, n}, {k, stride}, 0, {dq, stride});
      gemm<T>(context, n, d, n, 1, {ds, n, true}, {q, stride}, 0, {dk, stride});
    }
  });
}

#define DUET_INSTANTIATE(T)                                                                                            \
  template void attention_forward<T>(CpuContext, AttentionShape, const T*, const uint8_t*, float, RandomKey, Wide<T>*, \
                                     T*);                                                                              \
  template void attention_backward<T>(CpuContext, AttentionShape, const T*, const uint8_t*, const Wide<T>*, const T*,  \
                                      const T*, float, RandomKey, T*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
