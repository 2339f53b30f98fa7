#pragma once

#include <optional>

#include "duet/core/device.h"
#include "duet/core/json.h"
#include "duet/train/workers.h"

namespace duet::tools {

struct StepBenchmark {
  std::string size = "mini", dtype = "float32";
  Device device;
  int64_t batch = 32, seq = 32;
  int64_t steps = 10, warmup_steps = 2;
  int64_t width = 0;              // hidden size of both encoders, in heads of 64; 0: as the preset's encoders have it
  std::optional<double> dropout;  // else as the preset's encoders have it
  // Batches of a data set's training split instead of a random one: every image is decoded, resized and augmented anew.
  std::string data, vocab;
  train::Workers workers;  // who makes them
  bool cached = false;     // images are decoded before the measured steps, as in all epochs but the first
  double padding = 0;      // share of the texts' tokens that is padding: texts are of many lengths then
  bool packed = true;      // on the CPU: leave padding out
  bool recompute = false;
  bool graphs = true;    // on a GPU: record a step and repeat it
  bool profile = false;  // also the time of every op, or on a GPU of every kernel
  std::string trace;     // file to write a trace of some steps to
};

// Throws UsageError when no step could have these settings.
void check_step(const StepBenchmark& benchmark);
// Times whole training steps (forward with loss, backward, clip and AdamW) of the image+text classifier on a fixed
// random batch, on threads() threads. Times are medians over the steps after the warm-up; the peak that they are
// compared with is measured before and after, and on the CPU what is kept up of it between them. Profile and trace
// come from steps of their own after the measured ones.
Json measure_step(const StepBenchmark& benchmark);
std::string step_table(const Json& result);

}  // namespace duet::tools
