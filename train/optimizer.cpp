#include "duet/train/optimizer.h"

#include <array>
#include <bit>
#include <cmath>

#include "duet/core/backend.h"
#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/train/adam_kernel.h"

namespace duet::train {
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
  step_ = Tensor::empty({3}, DType::f64, slots_[0].exp_avg.device());
}

std::vector<std::pair<std::string, Tensor>> Adam::state() const {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Slot& slot : slots_) {
    tensors.emplace_back("exp_avg." + slot.parameter->name, slot.exp_avg);
    tensors.emplace_back("exp_avg_sq." + slot.parameter->name, slot.exp_avg_sq);
  }
  return tensors;
}

void Adam::advance(double schedule) {
  ++steps_;
  const double t = static_cast<double>(steps_);
  const AdamStep step{config_.learning_rate * schedule, 1 - std::pow(config_.beta1, t),
                      std::sqrt(1 - std::pow(config_.beta2, t))};
  static_assert(sizeof(AdamStep) == 3 * sizeof(uint64_t));
  const auto words = std::bit_cast<std::array<uint64_t, 3>>(step);
  dispatch_device(step_.device(), [&](auto context) {
    write_words(context, reinterpret_cast<uint64_t*>(step_.data<double>()), words.data(), 3);
  });
}

void Adam::check_gradients() const {
  for (const Slot& slot : slots_)
    check(slot.parameter->value.gradient().defined(), "adam", "trainable parameter ", slot.parameter->name,
          " received no gradient; freeze it or use it in the loss");
}

void Adam::apply(const Clipping& clipping) {
  const OpScope scope("adam", ScopeKind::update);
  check_gradients();
  check(clipping.max_norm >= 0, "adam", "the largest gradient norm must not be negative, got ", clipping.max_norm);
  if (clipping.max_norm > 0)
    check(clipping.norm.defined() && clipping.norm.numel() == 1 && clipping.norm.dtype() == DType::f64 &&
              clipping.norm.device() == step_.device(),
          "adam", "clipping needs the gradients' norm, one float64 on ", step_.device(), ", got ", clipping.norm);
  const AdamConstants constants{config_.beta1, config_.beta2, config_.eps, config_.decoupled};
  const Clip clip{clipping.norm.defined() ? clipping.norm.data<double>() : nullptr, clipping.max_norm};
  const auto* step = reinterpret_cast<const AdamStep*>(step_.data<double>());
  dispatch("adam", slots_[0].exp_avg, [&]<class T>(auto context, Type<T>) {
    if constexpr (std::is_same_v<T, bf16>) {
      fail("adam", "parameters must be float32 or float64, got ", slots_[0].exp_avg);
    } else {
      std::vector<AdamSlot<T>> slots;
      for (const Slot& s : slots_) {
        const Tensor theta = s.parameter->value.data(), gradient = s.parameter->value.gradient();
        OpScope::touches(theta, theta, s.exp_avg, s.exp_avg, s.exp_avg_sq, s.exp_avg_sq, gradient);
        slots.push_back({theta.data<T>(), s.exp_avg.data<T>(), s.exp_avg_sq.data<T>(), gradient.data<T>(),
                         s.exp_avg.numel(), s.group.learning_rate_scale, s.group.decay ? config_.weight_decay : 0});
      }
      adam_update<T>(context, slots, constants, step, clip);
    }
  });
}

void Adam::step(double schedule, const Clipping& clipping) {
  check_gradients();  // before anything changes
  advance(schedule);
  apply(clipping);
}

Tensor gradient_norm(const models::ParamStore& store) {
  const OpScope scope("gradient_norm", ScopeKind::update);
  std::vector<Tensor> gradients;
  for (const models::Parameter& p : store.parameters())
    if (p.value.requires_grad() && p.value.gradient().defined()) {
      gradients.push_back(p.value.gradient());
      OpScope::touches(gradients.back());
    }
  if (gradients.empty()) return Tensor::zeros({}, DType::f64);
  const Tensor norm = Tensor::empty({}, DType::f64, gradients[0].device());
  dispatch("gradient_norm", gradients[0], [&]<class T>(auto context, Type<T>) {
    if constexpr (std::is_same_v<T, bf16>) {
      fail("gradient_norm", "gradients must be float32 or float64, got ", gradients[0]);
    } else {
      std::vector<GradientSpan<T>> spans;
      for (const Tensor& g : gradients) spans.push_back({g.data<T>(), g.numel()});
      gradient_norm<T>(context, spans, norm.data<double>());
    }
  });
  return norm;
}

}  // namespace duet::train
