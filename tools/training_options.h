#pragma once

#include "duet/tools/commands.h"
#include "duet/train/strategies.h"

namespace duet::tools {

// The options that all training commands share, bound to the command line.
struct TrainingCommand {
  train::StageConfig stage;
  std::string size = "mini", fit = "pad", device = "cpu", on_bad_sample = "stop", interpolation = "hf",
              text_pooling = "pooler";
  std::string vision_config, text_config;  // JSON files in Hugging Face's format
  std::string trace;
  int threads = 0;
  int64_t max_pixels = 0;
  bool deterministic = true;
  CLI::Option *fit_option = nullptr, *size_option = nullptr;  // to tell a choice from the default

  // Adds the options; `defaults` are shown in --help.
  void add_to(CLI::App& command);
  // After parsing: checks everything, applies the size, and prints which device and kernels are used.
  void prepare();

 private:
  void check_values() const;
};

}  // namespace duet::tools
