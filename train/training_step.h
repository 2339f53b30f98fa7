#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "duet/core/backend.h"
#include "duet/train/optimizer.h"
#include "duet/train/tasks.h"

namespace duet::train {

// What a step leaves behind, on the device: read only when it is needed, since that waits for the device.
struct StepOutcome {
  Tensor loss, norm;  // scalars; the norm is float64
};

// One optimizer step over one batch: forward, backward, clip, Adam. On a GPU steps whose batches have the same shapes
// are recorded the second time and repeated from then on, which costs the CPU next to nothing. The numbers are the
// same.
class TrainingStep {
 public:
  struct Settings {
    uint64_t seed = 0;
    double clip = 1;
    bool recompute = false;
    bool graphs = true;
    std::function<void()> after_phase;  // called behind forward, backward, clip and optimizer; wants graphs = false
  };
  TrainingStep(Task& task, Adam& adam, Settings settings) : task_(task), adam_(adam), settings_(std::move(settings)) {
    check(!settings_.after_phase || !settings_.graphs, "train", "the phases of a recorded step have no ends");
  }

  // The batch is on the device. Step numbers, from 0, choose the random numbers.
  StepOutcome run(const Batch& batch, int64_t step, double schedule);
  // The key of a step's micro-batch, for steps that are put together by hand.
  RandomKey key(int64_t step, uint64_t part) const {
    return RandomKey::of_step(settings_.seed, static_cast<uint64_t>(step), stream).child(part);
  }

 private:
  static constexpr uint64_t stream = 2;
  static constexpr size_t most_recordings = 4;  // they share memory, but hold their inputs

  struct Recording {
    int64_t seen = 0, last_used = 0;
    Batch inputs;
    StepOutcome outcome;
    std::unique_ptr<DeviceGraph> graph;
  };
  void end_phase() const {
    if (settings_.after_phase) settings_.after_phase();
  }
  StepOutcome work(const Batch& batch, RandomKey key, bool apply_only, double schedule);
  Recording& recording_of(const Batch& batch);

  Task& task_;
  Adam& adam_;
  Settings settings_;
  int64_t clock_ = 0, replays_ = 0, evictions_ = 0;
  std::shared_ptr<CachingAllocator> pool_;       // of all recordings
  std::map<std::string, Recording> recordings_;  // by the batch's shapes
};

}  // namespace duet::train
