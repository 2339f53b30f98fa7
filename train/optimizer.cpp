#include "duet/train/optimizer.h"

#include <cmath>

#include "duet/core/dispatch.h"
#include "duet/core/parallel.h"

namespace duet::train {
namespace {

// A stretch of one tensor. Chunks of all tensors form one work list, so that many small tensors share one parallel
// loop; their size does not depend on the thread count.
struct Chunk {
  size_t tensor;
  int64_t begin, end;
};
constexpr int64_t chunk_size = 1 << 14;

void append_chunks(std::vector<Chunk>& chunks, size_t tensor, int64_t n) {
  for (int64_t begin = 0; begin < n; begin += chunk_size)
    chunks.push_back({tensor, begin, std::min(n, begin + chunk_size)});
}

}  // namespace

ParameterGroup default_group(const models::Parameter& parameter) {
  return {1, parameter.value.rank() >= 2};
}

Adam::Adam(models::ParamStore& store, AdamConfig config,
           const std::function<ParameterGroup(const models::Parameter&)>& group)
    : config_(config) {
  check(config.learning_rate >= 0 && config.eps > 0 && config.weight_decay >= 0 && config.beta1 >= 0 &&
            config.beta1 < 1 && config.beta2 >= 0 && config.beta2 < 1,
        "adam", "impossible settings: learning rate ", config.learning_rate, ", betas ", config.beta1, " ",
        config.beta2, ", eps ", config.eps, ", weight decay ", config.weight_decay);
  for (models::Parameter& p : store.parameters()) {
    if (!p.value.requires_grad()) continue;
    slots_.push_back({&p, group ? group(p) : default_group(p), zeros_like(p.value.data()), zeros_like(p.value.data())});
  }
  check(!slots_.empty(), "adam", "nothing to train: every parameter is frozen");
}

std::vector<std::pair<std::string, Tensor>> Adam::state() const {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Slot& slot : slots_) {
    tensors.emplace_back("exp_avg." + slot.parameter->name, slot.exp_avg);
    tensors.emplace_back("exp_avg_sq." + slot.parameter->name, slot.exp_avg_sq);
  }
  return tensors;
}

template <class T>
void Adam::update(double schedule) {
  const double t = static_cast<double>(steps_);
  const double correction1 = 1 - std::pow(config_.beta1, t), correction2 = std::sqrt(1 - std::pow(config_.beta2, t));
  std::vector<Chunk> chunks;
  for (size_t i = 0; i < slots_.size(); ++i) append_chunks(chunks, i, slots_[i].exp_avg.numel());
  parallel_for(static_cast<int64_t>(chunks.size()), 1, [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      const Chunk chunk = chunks[static_cast<size_t>(c)];
      const Slot& slot = slots_[chunk.tensor];
      const double rate = config_.learning_rate * schedule * slot.group.learning_rate_scale;
      const double decay = slot.group.decay ? config_.weight_decay : 0;
      // 1 - beta from the doubles: in float, 1 - 0.999f is off by 5e-5 of itself.
      const T rest1 = static_cast<T>(1 - config_.beta1), rest2 = static_cast<T>(1 - config_.beta2);
      const T b2 = static_cast<T>(config_.beta2);
      const T shrink = static_cast<T>(config_.decoupled ? 1 - rate * decay : 1.0);
      const T l2 = static_cast<T>(config_.decoupled ? 0.0 : decay);
      const T step_size = static_cast<T>(rate / correction1), root = static_cast<T>(1 / correction2);
      const T eps = static_cast<T>(config_.eps);
      T *theta = slot.parameter->value.data().data<T>(), *m = slot.exp_avg.data<T>(), *v = slot.exp_avg_sq.data<T>();
      const T* gradient = slot.parameter->value.gradient().data<T>();
      for (int64_t i = chunk.begin; i < chunk.end; ++i) {
        const T g = gradient[i] + l2 * theta[i];
        m[i] += rest1 * (g - m[i]);
        v[i] = b2 * v[i] + rest2 * g * g;
        theta[i] = theta[i] * shrink - step_size * m[i] / (std::sqrt(v[i]) * root + eps);
      }
    }
  });
}

void Adam::step(double schedule) {
  for (const Slot& slot : slots_)
    check(slot.parameter->value.gradient().defined(), "adam", "trainable parameter ", slot.parameter->name,
          " received no gradient; freeze it or use it in the loss");
  ++steps_;
  dispatch(slots_[0].exp_avg, [&]<class T>(CpuContext, Type<T>) { update<T>(schedule); });
}

double clip_gradient_norm(models::ParamStore& store, double max_norm) {
  std::vector<Tensor> gradients;
  std::vector<Chunk> chunks;
  for (const models::Parameter& p : store.parameters()) {
    if (!p.value.requires_grad() || !p.value.gradient().defined()) continue;
    append_chunks(chunks, gradients.size(), p.value.gradient().numel());
    gradients.push_back(p.value.gradient());
  }
  if (gradients.empty()) return 0;
  double norm = 0;
  dispatch(gradients[0], [&]<class T>(CpuContext, Type<T>) {
    std::vector<double> squares(chunks.size());
    const auto for_chunks = [&](auto&& f) {
      parallel_for(static_cast<int64_t>(chunks.size()), 1, [&](int64_t first, int64_t last) {
        for (int64_t c = first; c < last; ++c) f(static_cast<size_t>(c), chunks[static_cast<size_t>(c)]);
      });
    };
    for_chunks([&](size_t index, Chunk chunk) {
      const T* g = gradients[chunk.tensor].template data<T>();
      double total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t i = chunk.begin; i < chunk.end; ++i) total += static_cast<double>(g[i]) * static_cast<double>(g[i]);
      squares[index] = total;
    });
    for (const double s : squares) norm += s;  // in chunk order, whatever the thread count
    norm = std::sqrt(norm);
    const double factor = max_norm / (norm + 1e-6);
    if (max_norm == 0 || !std::isfinite(norm) || factor >= 1) return;
    for_chunks([&](size_t, Chunk chunk) {
      T* g = gradients[chunk.tensor].template data<T>();
      for (int64_t i = chunk.begin; i < chunk.end; ++i) g[i] *= static_cast<T>(factor);
    });
  });
  return norm;
}

}  // namespace duet::train
