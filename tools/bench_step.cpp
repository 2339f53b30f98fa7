#include "duet/tools/bench_step.h"

#include <algorithm>
#include <cmath>
#include <iomanip>

#include "duet/autograd/engine.h"
#include "duet/core/allocator.h"
#include "duet/core/memory.h"
#include "duet/core/parallel.h"
#include "duet/tools/arguments.h"
#include "duet/tools/bench_peak.h"
#include "duet/train/optimizer.h"
#include "duet/train/progress.h"
#include "duet/train/strategies.h"
#include "duet/train/tasks.h"

namespace duet::tools {
namespace {

constexpr int64_t label_count = 10;

template <class Encoder>
void set_dropout(Encoder& encoder, double dropout) {
  if (dropout >= 0) encoder.hidden_dropout_prob = encoder.attention_probs_dropout_prob = dropout;
}

models::ClassifierConfig model_config(const StepBenchmark& b) {
  const models::DualEncoderConfig encoders = train::preset_size(b.size);
  models::ClassifierConfig config;
  config.vision = encoders.vision;
  config.text = encoders.text;
  set_dropout(*config.vision, b.dropout);
  set_dropout(*config.text, b.dropout);
  for (int64_t i = 0; i < label_count; ++i) config.labels.push_back("label " + std::to_string(i));
  return config;
}

// Texts of full length: the work does not depend on the values, only on the shapes.
train::Batch fixed_batch(const models::ClassifierConfig& config, int64_t batch, int64_t seq) {
  Random random(RandomKey{0, 0}.child("bench"));
  train::Batch b;
  const int64_t side = config.vision->image_size;
  b.images = Tensor::empty({batch, config.vision->num_channels, side, side}, DType::f32);
  for (float& x : b.images.values<float>()) x = static_cast<float>(2 * random.uniform() - 1);
  b.text.ids = Tensor::empty({batch, seq}, DType::i32);
  const auto words = static_cast<uint64_t>(config.text->vocab_size - 1);
  for (int32_t& id : b.text.ids.values<int32_t>()) id = static_cast<int32_t>(1 + random.below(words));
  b.text.mask = Tensor::full({batch, seq}, DType::u8, 1);
  b.labels = Tensor::empty({batch}, DType::i64);
  for (int64_t& label : b.labels.values<int64_t>()) label = static_cast<int64_t>(random.below(label_count));
  for (int64_t i = 0; i < batch; ++i) b.samples.push_back(static_cast<size_t>(i));
  return b;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace

void check_step(const StepBenchmark& b) {
  check_usage(b.dtype == "float32", "bench", "--dtype ", b.dtype,
              " is not available for training in this build; float32 is");
  check_usage(b.batch >= 1 && b.steps >= 1 && b.warmup_steps >= 0, "bench", "--batch ", b.batch, " and --steps ",
              b.steps, " must be positive, --warmup-steps ", b.warmup_steps, " not negative");
  check_usage(b.dropout < 1, "bench", "--dropout must be below 1, got ", b.dropout);
  const int64_t longest = train::preset_size(b.size).text.max_position_embeddings;
  check_usage(b.seq >= 1 && b.seq <= longest, "bench", "--seq ", b.seq, ": size ", b.size, " takes 1 to ", longest,
              " tokens");
}

Json measure_step(const StepBenchmark& b) {
  check_step(b);
  const models::ClassifierConfig config = model_config(b);
  const double peak_before = measure_peak_gflops(float32_peak_kernel());
  const train::TrainOptions options;
  models::ParamStore store(options.seed);
  models::Classifier model({store, ""}, config);
  train::ClassifyTask task(store, model, options, {});
  train::Adam adam(store, {.learning_rate = options.lr, .beta2 = options.beta2, .weight_decay = options.weight_decay});
  const train::Batch batch = fixed_batch(config, b.batch, b.seq);

  std::vector<double> whole, forward, backward_pass, optimizer;
  int64_t allocations_before = 0;
  for (int64_t i = -b.warmup_steps; i < b.steps; ++i) {
    if (i == 0) allocations_before = cpu_allocator().stats().system_allocations;
    const train::Stopwatch step;
    const Variable loss = task.loss(batch, {true, RandomKey{0, 2}.child(static_cast<uint64_t>(i)), b.recompute});
    const double loss_value = loss.data().item(), after_forward = step.seconds();
    backward(loss);
    const double after_backward = step.seconds();
    const double norm = train::clip_gradient_norm(store, options.clip);
    adam.step();
    store.clear_gradients();
    task.after_step();
    const double end = step.seconds();
    check(std::isfinite(loss_value) && std::isfinite(norm), "bench", "loss ", loss_value, " and gradient norm ", norm,
          " must be finite");
    if (i < 0) continue;
    whole.push_back(end);
    forward.push_back(after_forward);
    backward_pass.push_back(after_backward - after_forward);
    optimizer.push_back(end - after_backward);
  }
  const int64_t allocations = cpu_allocator().stats().system_allocations - allocations_before;
  const double peak = std::max(peak_before, measure_peak_gflops(float32_peak_kernel()));
  const double seconds = median(whole), gflop = task.step_flops(batch) * 1e-9;
  return {{"size", b.size},
          {"dtype", b.dtype},
          {"batch", b.batch},
          {"seq", b.seq},
          {"threads", threads()},
          {"step_seconds", seconds},
          {"forward_seconds", median(forward)},
          {"backward_seconds", median(backward_pass)},
          {"optimizer_seconds", median(optimizer)},
          {"samples_per_second", static_cast<double>(b.batch) / seconds},
          {"gflop_per_step", gflop},
          {"gflops", gflop / seconds},
          {"peak_gflops", peak},
          {"fraction_of_peak", gflop / seconds / peak},
          {"peak_rss_bytes", peak_rss_bytes()},
          {"allocations_per_step", static_cast<double>(allocations) / static_cast<double>(b.steps)}};
}

std::string step_table(const Json& r) {
  std::ostringstream out;
  const auto number = [&](const char* key) { return r[key].get<double>(); };
  out << r["size"].get<std::string>() << ' ' << r["dtype"].get<std::string>() << ", batch " << r["batch"] << ", "
      << r["seq"] << " tokens, " << r["threads"] << " threads\n"
      << std::fixed << std::setprecision(2);
  const auto phase = [&](const char* name, const char* key) {
    out << std::left << std::setw(14) << name << std::right << std::setw(10) << 1e3 * number(key) << " ms"
        << std::setw(8) << 100 * number(key) / number("step_seconds") << " %\n";
  };
  phase("forward", "forward_seconds");
  phase("backward", "backward_seconds");
  phase("optimizer", "optimizer_seconds");
  phase("step", "step_seconds");
  out << "samples/s     " << std::setw(10) << number("samples_per_second") << "\nGFLOP         " << std::setw(10)
      << number("gflop_per_step") << "\nGFLOP/s       " << std::setw(10) << number("gflops") << "  of "
      << number("peak_gflops") << ", " << 100 * number("fraction_of_peak") << " %\npeak memory   " << std::setw(10)
      << number("peak_rss_bytes") / (1 << 20) << " MiB\nallocations   " << std::setw(10)
      << number("allocations_per_step") << " per step\n";
  return out.str();
}

}  // namespace duet::tools
