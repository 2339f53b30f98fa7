#pragma once

#include "duet/core/trace.h"
#include "duet/train/optimizer.h"
#include "duet/train/tasks.h"

namespace duet::train {

// What a stage cost and how it went.
struct StageResult {
  std::vector<double> loss_per_epoch;  // mean training loss
  std::vector<Json> evaluations;       // {step, epoch, loss, accuracy, ...} of each validation pass
  int64_t best_step = 0;
  double best_score = 0;
  int64_t steps = 0;
  int64_t samples_seen = 0;
  double flops = 0;    // matmul FLOPs of the training steps
  double seconds = 0;  // wall time, evaluations and checkpoints included, summed over resumed parts
  int64_t peak_rss_bytes = 0;
  bool stopped_early = false;

  Json to_json() const;
  static StageResult from_json(const Json& json);
};

// Where a run writes and how it starts.
struct RunOptions {
  std::string directory;  // config.json, metrics.jsonl, tensorboard/, checkpoints/
  std::string label;      // shown with the progress
  bool resume = false;    // continue from the newest good checkpoint, if there is one
  Json config;            // everything needed to repeat the run; written to config.json
  std::vector<std::pair<std::string, std::string>> example_images;  // caption and PNG, for TensorBoard
  bool graphs = true;                                               // on a GPU: record steps and repeat them
  std::shared_ptr<TraceFile> trace;                                 // if set, takes the second to fifth step
};

// Trains the task's parameters, but for those that --freeze names, and leaves them at the best validation result (at
// the last step without validation). Parameters under one of `heads` take --head-lr.
// Writes checkpoints with each evaluation, on save-every, and on SIGINT or SIGTERM, after which it throws Interrupted.
// A resumed run goes on as if it had never stopped, to the bit.
StageResult train(Task& task, const std::shared_ptr<const SampleSource>& training,
                  const std::shared_ptr<const SampleSource>& validation, const TrainOptions& options,
                  const RunOptions& run, const std::vector<std::string>& heads = {"classifier"});

// What a resumed run must share with its beginning; throws Error naming what differs. `config` is a RunOptions::config.
void check_same_run(const Json& before, const Json& config, const std::string& directory);

}  // namespace duet::train
