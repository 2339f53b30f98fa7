#pragma once

#include <optional>

#include "duet/train/strategies.h"

namespace duet::train {

// The one question: whole against component, with their baselines, over seeds and label fractions.
struct CompareConfig {
  StageConfig finetune;  // data = the task; its options are the budget of every method
  std::string out;
  std::vector<std::string> methods;  // empty = all five
  int64_t seeds = 3;                 // seeds options.seed, options.seed + 1, ...
  std::vector<double> fractions{1};
  bool share_pretraining = false;  // pretrain once, with the first seed, instead of once per seed
  // Stage 1. An empty data directory means the task's own training split.
  std::string vision_data, text_data, joint_data;
  std::string text_objective = "label";
  // Model directories that take the place of a first stage; empty = pretrain.
  std::string vision_from, text_from, joint_from;
  TrainOptions vision, text, joint;
  // Dropout of a first stage; none = that of fine-tuning. Scarce labels often want more of it than plentiful ones.
  std::optional<double> vision_dropout, text_dropout, joint_dropout;
  bool keep_checkpoints = false;
  std::string machine, size_name, version;  // for the report

  Json to_json() const;
};

inline const std::vector<std::string> all_methods{"whole", "component", "image-only", "text-only", "concat-scratch"};

// Runs what is not yet done under config.out and returns the report (see report.h). Each finished cell is kept, so that
// an interrupted comparison goes on where it stopped.
Json compare(const CompareConfig& config, bool resume);

}  // namespace duet::train
