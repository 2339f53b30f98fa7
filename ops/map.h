#pragma once

#include "duet/core/parallel.h"
#include "duet/core/tensor.h"

namespace duet::ops {

// y[i] = f(x[i]...) over whole tensors on the CPU, f computing in Wide<T>; the tensors have the same element count, y
// may alias an input.
template <class T, class F, class... In>
void map_elements(Tensor y, F f, const In&... in) {
  T* out = y.data<T>();
  [&](const auto*... x) {
    parallel_for(y.numel(), 1 << 14, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = static_cast<T>(f(static_cast<Wide<T>>(x[i])...));
    });
  }(static_cast<const T*>(in.template data<T>())...);
}

// The same with a span kernel of vector_math.h: f(x..., y, count).
template <class T, class F, class... In>
void map_spans(Tensor y, F f, const In&... in) {
  T* out = y.data<T>();
  [&](const auto*... x) {
    parallel_for(y.numel(), 1 << 14, [=](int64_t begin, int64_t end) { f((x + begin)..., out + begin, end - begin); });
  }(static_cast<const T*>(in.template data<T>())...);
}

}  // namespace duet::ops
