#pragma once

#include <string>
#include <vector>

#include "duet/core/json.h"
#include "duet/train/schedule.h"
#include "duet/train/workers.h"

namespace duet::train {

// Everything about how a stage trains; one value per command-line option of the same name.
struct TrainOptions {
  uint64_t seed = 0;
  double epochs = 10;
  int64_t steps = 0;  // optimizer steps; 0 = from epochs
  int64_t batch = 32;
  int64_t accumulate = 1;  // micro-batches of `batch` samples per optimizer step
  double lr = 1e-3;
  double head_lr = 0;  // of the new head; 0 = lr
  double weight_decay = 0.01;
  double beta2 = 0.999;
  double warmup = 0.1;  // below 1 a fraction of all steps, else a number of steps
  std::string schedule = "linear";
  double clip = 1;  // gradient norm; 0 = off
  double label_smoothing = 0;
  bool class_weights = false;  // weigh classes by inverse frequency
  std::vector<std::string> freeze;
  std::string augment = "none";
  bool shuffle = true;
  Workers workers;
  int64_t save_every = 0;  // steps; 0 = with each evaluation
  int64_t keep = 2;        // newest checkpoints to keep, besides the best
  int64_t eval_every = 0;  // steps; 0 = each epoch
  int64_t patience = 0;    // evaluations without improvement before stopping; 0 = never
  bool recompute = false;
  double mask_probability = 0.15;  // masked-language modelling
  std::string dtype = "float32";   // of activations: float32 or bfloat16

  Json to_json() const;
  // Sets the keys present; throws Error naming an unknown key, a wrong type or an impossible value.
  void update(const Json& json);
  void validate() const;
};

}  // namespace duet::train
