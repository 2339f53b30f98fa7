#pragma once

#include <vector>

#include "duet/models/bert.h"

namespace duet::train {

// What one step sees. Parts that the task does not use stay undefined.
struct Batch {
  Tensor images;                // (B, 3, S, S) f32, normalised
  models::TextInput text;       // ids, type ids, mask: (B, T)
  Tensor labels;                // (B) i64; for masked-language modelling the original ids of the masked positions, (M)
  Tensor masked_positions;      // (M) i64 into the flattened (B T) positions, ascending; masked-language modelling only
  std::vector<size_t> samples;  // positions in the split

  int64_t size() const { return static_cast<int64_t>(samples.size()); }
  // The tensors on another device.
  Batch to(Device device) const;
  int64_t tokens() const { return text.ids.defined() ? text.ids.dim(1) : 0; }
};

// Consecutive parts of at most `size` samples each, sharing memory with the whole.
std::vector<Batch> split_batch(const Batch& batch, int64_t size);

}  // namespace duet::train
