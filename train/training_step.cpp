#include "duet/train/training_step.h"

#include <algorithm>

#include "duet/autograd/engine.h"
#include "duet/core/op_scope.h"

namespace duet::train {
namespace {

std::array<Tensor*, 6> tensors_of(Batch& batch) {
  return {&batch.images,    &batch.text.ids, &batch.text.type_ids,
          &batch.text.mask, &batch.labels,   &batch.masked_positions};
}

std::string shapes_of(Batch batch) {
  std::string result = batch.text.padding_at_end ? "padding at end;" : "";
  for (const Tensor* tensor : tensors_of(batch)) result += text(*tensor, ';');
  return result;
}

}  // namespace

StepOutcome TrainingStep::work(const Batch& batch, RandomKey key, bool apply_only, double schedule) {
  task_.store().clear_gradients();
  const Variable loss = [&] {
    const OpScope scope("forward", ScopeKind::phase);
    return task_.loss(batch, task_.training_run(key, settings_.recompute));
  }();
  end_phase();
  {
    const OpScope scope("backward", ScopeKind::phase);
    backward(loss);
  }
  end_phase();
  const Tensor norm = [&] {
    const OpScope scope("clip", ScopeKind::phase);
    return gradient_norm(task_.store());
  }();
  end_phase();
  const OpScope scope("optimizer", ScopeKind::phase);
  if (!apply_only) adam_.advance(schedule);
  adam_.apply({norm, settings_.clip});
  task_.store().clear_gradients();
  end_phase();
  return {loss.data(), norm};
}

TrainingStep::Recording& TrainingStep::recording_of(const Batch& batch) {
  if (recordings_.size() > 1000)
    std::erase_if(recordings_, [](const auto& entry) { return entry.second.graph == nullptr; });
  Recording& recording = recordings_[shapes_of(batch)];
  recording.last_used = ++clock_;
  const auto recorded = [](const auto& entry) { return entry.second.graph != nullptr; };
  if (recording.graph == nullptr && recording.seen > 0 &&
      std::count_if(recordings_.begin(), recordings_.end(), recorded) >= static_cast<std::ptrdiff_t>(most_recordings)) {
    auto oldest = recordings_.end();
    for (auto it = recordings_.begin(); it != recordings_.end(); ++it)
      if (it->second.graph != nullptr &&
          (oldest == recordings_.end() || it->second.last_used < oldest->second.last_used))
        oldest = it;
    recordings_.erase(oldest);
    if (++evictions_ > 8 && evictions_ > replays_) settings_.graphs = false;
  }
  return recording;
}

StepOutcome TrainingStep::run(const Batch& batch, int64_t step, double schedule) {
  if constexpr (cuda_built) {
    const Device device = task_.store().device();
    if (settings_.graphs && device.kind == DeviceKind::cuda && !tracing()) {  // a trace shows what a graph would hide
      const CudaContext context{device.index};
      Recording& recording = recording_of(batch);
      // The first time in the usual way: libraries choose and load their kernels then.
      if (recording.seen++ > 0) {
        if (recording.graph == nullptr) {
          recording.inputs = batch;
          for (Tensor* tensor : tensors_of(recording.inputs))
            if (tensor->defined()) *tensor = tensor->clone();
          RandomKey salted{settings_.seed, stream, true};
          if (pool_ == nullptr) pool_ = make_graph_pool(context);
          recording.graph = DeviceGraph::record(
              context, pool_, [&] { recording.outcome = work(recording.inputs, salted.child(uint64_t{0}), true, 0); });
        } else {
          ++replays_;
          Batch from = batch;
          const auto to = tensors_of(recording.inputs), source = tensors_of(from);
          for (size_t i = 0; i < to.size(); ++i)
            if (to[i]->defined()) to[i]->copy_from(*source[i]);
        }
        set_step_salt(context, RandomKey::step_salt(static_cast<uint64_t>(step)));
        adam_.advance(schedule);
        recording.graph->launch();
        return recording.outcome;
      }
    }
  }
  return work(batch, key(step, 0), false, schedule);
}

}  // namespace duet::train
