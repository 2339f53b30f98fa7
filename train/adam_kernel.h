#pragma once

#include <vector>

#include "duet/core/tensor.h"

// The arithmetic of the optimizer over many tensors at once. Tensors are cut into chunks, which form one work list, so
// that many small tensors share one parallel loop; the cut does not depend on the backend's thread count.
namespace duet::train {

// One parameter's update. All have `count` elements.
template <class T>
struct AdamSlot {
  T *theta, *exp_avg, *exp_avg_sq;
  const T* gradient;
  int64_t count;
  double rate_scale;  // of the step's learning rate
  double decay;       // weight decay
};

struct AdamConstants {
  double beta1, beta2, eps;
  bool decoupled;
};

// What changes from step to step. It lies in the device's memory, so that a recorded step can be repeated.
struct AdamStep {
  double rate;                      // learning rate
  double correction1, correction2;  // 1 - beta1^t and sqrt(1 - beta2^t)
};

// Gradients count as multiplied by min(1, max_norm / (norm + 1e-6)), without a pass over memory of its own. `norm` lies
// in the device's memory. Without it, with max_norm 0, or when the norm is not finite they count as they are.
struct Clip {
  const double* norm = nullptr;
  double max_norm = 0;
};

// With rate = step.rate rate_scale: theta = theta (1 - rate decay) - rate / correction1 * m / (sqrt(v) / correction2 +
// eps), after m and v took the gradient in; with decoupled false the decay is added to the gradient instead.
template <class T>
void adam_update(CpuContext, const std::vector<AdamSlot<T>>& slots, const AdamConstants& constants,
                 const AdamStep* step, const Clip& clip);
template <class T>
void adam_update(CudaContext, const std::vector<AdamSlot<T>>& slots, const AdamConstants& constants,
                 const AdamStep* step, const Clip& clip);

template <class T>
struct GradientSpan {
  const T* data;
  int64_t count;
};

// norm = L2 norm over all spans, in double. `norm` is one element in the device's memory.
template <class T>
void gradient_norm(CpuContext, const std::vector<GradientSpan<T>>& spans, double* norm);
template <class T>
void gradient_norm(CudaContext, const std::vector<GradientSpan<T>>& spans, double* norm);

}  // namespace duet::train
