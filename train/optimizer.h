#pragma once

#include <functional>
#include <vector>

#include "duet/models/param_store.h"

namespace duet::train {

struct AdamConfig {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  bool decoupled = true;  // AdamW (Loshchilov & Hutter 2019); false adds the decay to the gradient (Kingma & Ba 2015)
};

// What one parameter does differently.
struct ParameterGroup {
  double learning_rate_scale = 1;
  bool decay = true;
};

// What an update does to gradients before it uses them: scales them by min(1, max_norm / (norm + 1e-6)), as PyTorch's
// clip_grad_norm_ does. max_norm 0 leaves them alone, and so does a norm that is not finite: the caller decides.
struct Clipping {
  Tensor norm;  // from gradient_norm
  double max_norm = 0;
};

// Adam over all trainable parameters of a store in one fused pass. Update, with t from 1 and bias corrections in
// double:
//   m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,
//   theta -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps).
class Adam {
 public:
  // `group` tells each parameter's group; without it biases, norms and scalars (rank < 2) do not decay.
  Adam(models::ParamStore& store, AdamConfig config,
       const std::function<ParameterGroup(const models::Parameter&)>& group = {});

  // One update with the learning rate multiplied by `schedule`. Throws Error naming a trainable parameter without
  // gradient.
  void step(double schedule = 1, const Clipping& clipping = {});
  // The two halves of a step, for one that a device graph repeats: the numbers that change, then the update itself.
  void advance(double schedule);
  void apply(const Clipping& clipping = {});

  int64_t steps() const { return steps_; }
  const AdamConfig& config() const { return config_; }
  // State for checkpoints: exp_avg.NAME and exp_avg_sq.NAME, sharing memory with the optimizer.
  std::vector<std::pair<std::string, Tensor>> state() const;
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  struct Slot {
    models::Parameter* parameter;
    ParameterGroup group;
    Tensor exp_avg, exp_avg_sq;
  };
  void check_gradients() const;

  AdamConfig config_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
  Tensor step_;  // an AdamStep (adam_kernel.h) where the parameters are
};

// The usual rule: no decay below rank 2.
ParameterGroup default_group(const models::Parameter& parameter);

// L2 norm over all gradients: a float64 scalar where they are, 0 if there are none.
Tensor gradient_norm(const models::ParamStore& store);

}  // namespace duet::train
