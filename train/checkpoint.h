#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "duet/core/json.h"
#include "duet/core/tensor.h"

namespace duet::train {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// A run's checkpoints: DIR/step-N/ with tensors.safetensors and state.json, which holds the CRC-32C of both. They are
// written aside, flushed, and renamed into place, so a kill at any moment leaves whole checkpoints only.
class CheckpointDirectory {
 public:
  explicit CheckpointDirectory(std::string path);

  void save(int64_t step, const NamedTensors& tensors, Json state);
  // Removes all but the newest `keep` and those in `also_keep`.
  void prune(int64_t keep, const std::vector<int64_t>& also_keep);
  std::vector<int64_t> steps() const;  // ascending
  // Renames checkpoints after `step` to damaged-step-N: a run that resumed before them must neither find them again
  // nor count them among its newest.
  void set_aside_after(int64_t step);

  struct Loaded {
    int64_t step;
    Json state;
    NamedTensors tensors;
  };
  // The newest checkpoint that passes its checks; each bad one is named through `warn` and passed over.
  std::optional<Loaded> load_newest(const std::function<void(const std::string&)>& warn) const;
  // Throws Error naming what is wrong.
  Loaded load(int64_t step) const;

 private:
  std::string step_path(int64_t step) const;
  std::string path_;
};

}  // namespace duet::train
