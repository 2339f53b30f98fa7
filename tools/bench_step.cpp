#include "duet/tools/bench_step.h"

#include <algorithm>
#include <cmath>
#include <iomanip>

#include "duet/autograd/engine.h"
#include "duet/autograd/grad_mode.h"
#include "duet/core/backend.h"
#include "duet/core/memory.h"
#include "duet/core/parallel.h"
#include "duet/core/trace.h"
#include "duet/ops/matmul.h"
#include "duet/tools/arguments.h"
#include "duet/tools/bench_peak.h"
#include "duet/tools/bench_profile.h"
#include "duet/train/loader.h"
#include "duet/train/optimizer.h"
#include "duet/train/processors.h"
#include "duet/train/progress.h"
#include "duet/train/strategies.h"
#include "duet/train/tasks.h"
#include "duet/train/training_step.h"

namespace duet::tools {
namespace {

constexpr int64_t label_count = 10, head_size = 64;
constexpr double sustained_share = 0.1;  // of the steps' time, in which the machine's peak is measured between them
constexpr int64_t traced_steps = 3;      // their mean evens out what else the machine does

template <class Encoder>
void set_dropout(Encoder& encoder, std::optional<double> dropout) {
  if (dropout) encoder.hidden_dropout_prob = encoder.attention_probs_dropout_prob = *dropout;
}

template <class Encoder>
void set_width(Encoder& encoder, int64_t width) {
  if (width == 0) return;
  encoder.hidden_size = width;
  encoder.intermediate_size = 4 * width;
  encoder.num_attention_heads = width / head_size;
}

models::ClassifierConfig model_config(const StepBenchmark& b) {
  const models::DualEncoderConfig encoders = train::preset_size(b.size);
  models::ClassifierConfig config;
  config.vision = encoders.vision;
  config.text = encoders.text;
  set_width(*config.vision, b.width);
  set_width(*config.text, b.width);
  set_dropout(*config.vision, b.dropout);
  set_dropout(*config.text, b.dropout);
  for (int64_t i = 0; i < label_count; ++i) config.labels.push_back("label " + std::to_string(i));
  return config;
}

// The mask of texts whose lengths, in random order, are spread evenly around their mean.
Tensor mask_of(int64_t batch, int64_t seq, double padding, Random& random) {
  const double room = 2 * std::min(padding, 1 - padding), lowest = std::max(0.0, 1 - 2 * padding);
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < batch; ++i) {
    const double share = lowest + room * (static_cast<double>(i) + 0.5) / static_cast<double>(batch);
    lengths.push_back(std::max<int64_t>(1, std::llrint(share * static_cast<double>(seq))));
  }
  random.shuffle(lengths);
  const Tensor mask = Tensor::zeros({batch, seq}, DType::u8);
  for (int64_t i = 0; i < batch; ++i)
    std::fill_n(mask.data<uint8_t>() + i * seq, lengths[static_cast<size_t>(i)], uint8_t{1});
  return mask;
}

// The work does not depend on the values, only on the shapes and the lengths of the texts.
train::Batch fixed_batch(const models::ClassifierConfig& config, int64_t batch, int64_t seq, double padding) {
  Random random(RandomKey{0, 0}.child("bench"));
  train::Batch b;
  const int64_t side = config.vision->image_size;
  b.images = Tensor::empty({batch, config.vision->num_channels, side, side}, DType::f32);
  for (float& x : b.images.values<float>()) x = static_cast<float>(2 * random.uniform() - 1);
  b.text.ids = Tensor::empty({batch, seq}, DType::i32);
  const auto words = static_cast<uint64_t>(config.text->vocab_size - 1);
  for (int32_t& id : b.text.ids.values<int32_t>()) id = static_cast<int32_t>(1 + random.below(words));
  b.labels = Tensor::empty({batch}, DType::i64);
  for (int64_t& label : b.labels.values<int64_t>()) label = static_cast<int64_t>(random.below(label_count));
  for (int64_t i = 0; i < batch; ++i) b.samples.push_back(static_cast<size_t>(i));
  b.text.mask = mask_of(batch, seq, padding, random);
  return b;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace

void check_step(const StepBenchmark& b) {
  check_usage(b.dtype == "float32" || b.dtype == "bfloat16", "bench", "--dtype ", b.dtype,
              " is not available; use float32 or bfloat16");
  check_usage(b.batch >= 1, "bench", "--batch ", b.batch, " must be positive");
  check_usage(b.steps >= 1, "bench", "--steps ", b.steps, " must be positive");
  check_usage(b.warmup_steps >= 0, "bench", "--warmup-steps ", b.warmup_steps, " must not be negative");
  check_usage(b.width >= 0 && b.width % head_size == 0, "bench", "--width ", b.width, " must be a multiple of ",
              head_size);
  check_usage(b.data.empty() == b.vocab.empty(), "bench", "--data and --vocab go together");
  check_usage(b.data.empty() || b.device.kind == DeviceKind::cpu, "bench", "--data is measured on the CPU only");
  check_usage(!b.dropout || (*b.dropout >= 0 && *b.dropout < 1), "bench",
              "--dropout must be at least 0 and below 1, got ", b.dropout.value_or(0));
  check_usage(b.padding == 0 || b.data.empty(), "bench", "--padding is for random texts, not for those of --data");
  check_usage(b.padding >= 0 && b.padding < 1, "bench", "--padding must be at least 0 and below 1, got ", b.padding);
  const int64_t longest = train::preset_size(b.size).text.max_position_embeddings;
  check_usage(b.seq >= 1 && b.seq <= longest, "bench", "--seq ", b.seq, ": size ", b.size, " takes 1 to ", longest,
              " tokens");
}

namespace {

// Seconds of one step's parts.
struct StepTimes {
  double forward, backward, clip, optimizer, whole;
};

// Runs steps as training does.
class StepRunner {
 public:
  StepRunner(train::ClassifyTask& task, train::Adam& adam, const train::TrainOptions& options, const StepBenchmark& b)
      : device_(task.store().device()),
        step_(task, adam, {.clip = options.clip, .recompute = b.recompute, .graphs = b.graphs}),
        phased_step_(task, adam,
                     {.clip = options.clip, .recompute = b.recompute, .graphs = false, .after_phase = [this] {
                        synchronize(device_);
                        ends_.push_back(watch_.seconds());
                      }}) {}
  StepRunner(const StepRunner&) = delete;  // its steps call it
  StepRunner& operator=(const StepRunner&) = delete;

  double whole(const train::Batch& batch, int64_t step) {
    const train::Stopwatch watch;
    check_finite(step_.run(batch, step, 1), step);
    return watch.seconds();
  }
  // A step whose parts are timed; a GPU is waited for after each, which a real step does not do.
  StepTimes in_phases(const train::Batch& batch, int64_t step) {
    const OpScope scope("step", ScopeKind::phase);
    ends_.clear();
    watch_.restart();
    check_finite(phased_step_.run(batch, step, 1), step);
    return {ends_[0], ends_[1] - ends_[0], ends_[2] - ends_[1], ends_[3] - ends_[2], watch_.seconds()};
  }

 private:
  static void check_finite(const train::StepOutcome& outcome, int64_t step) {
    const double loss = outcome.loss.item(), norm = outcome.norm.item();
    check(std::isfinite(loss) && std::isfinite(norm), "bench", "loss ", loss, " and gradient norm ", norm, " of step ",
          step, " must be finite");
  }

  Device device_;
  train::Stopwatch watch_;
  std::vector<double> ends_;  // of the phases
  train::TrainingStep step_, phased_step_;
};

// Batches as training reads them: in its first epoch, where every image is decoded, or in a later one, where all come
// from the cache.
std::shared_ptr<const train::SampleSource> open_data(const StepBenchmark& b, models::ClassifierConfig& config) {
  const train::Dataset dataset = train::Dataset::open(b.data);
  auto tokenizer = std::make_shared<train::Tokenizer>(train::Tokenizer::from_vocab_file(b.vocab));
  train::check_tokenizer(*tokenizer, *config.text, b.vocab);
  config.labels = dataset.labels();
  const auto source = std::make_shared<train::SampleSource>(
      dataset, dataset.split("train"), std::move(tokenizer),
      train::InputConfig{.image_size = static_cast<int>(config.vision->image_size),
                         .max_length = static_cast<int>(b.seq)},
      b.cached ? int64_t{1} << 30 : 0);
  if (b.cached)
    parallel_for(static_cast<int64_t>(source->size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) source->image(static_cast<size_t>(i));
    });
  return source;
}

AllocatorStats allocator_stats(const Device& device) {
  return dispatch_device(device, [](auto context) { return allocator(context).stats(); });
}
int64_t system_allocations(const Device& device) {
  return allocator_stats(device).system_allocations;
}

// Of the measured steps.
struct Measurements {
  std::vector<double> whole, data, forward, backward, clip, optimizer;  // seconds
  std::vector<double> data_costs;                                       // of blocks of steps: share on top
  double flops = 0, flops_of_all_tokens = 0;                            // of all steps
  int64_t allocations = 0;

  void note_phases(const StepTimes& t) {
    forward.push_back(t.forward);
    backward.push_back(t.backward);
    clip.push_back(t.clip);
    optimizer.push_back(t.optimizer);
  }
  // A step and how long it waited for its batch.
  void note(const StepTimes& t, double waited) {
    data.push_back(waited);
    whole.push_back(waited + t.whole);
    note_phases(t);
  }
};

// Blocks of steps are each followed by the same steps on the same batches, so that both meet the same of what else the
// machine does. Before either, a step that does not count fills a loader's queue or lets it end.
void measure_with_data(const StepBenchmark& b, const std::shared_ptr<const train::SampleSource>& source,
                       const train::LoaderConfig& loading, const train::ClassifyTask& task, StepRunner& run,
                       Measurements& measured) {
  const int64_t block = std::clamp<int64_t>(b.steps / 4, 1, 10);
  {
    // Memory for a block's batches at once is nothing that a step asks for.
    train::Loader loader(source, loading);
    std::vector<train::Batch> warm;
    while (std::ssize(warm) < block + loading.prefetch) warm.push_back(loader.next());
  }
  for (int64_t first = 0; first < b.steps; first += block) {
    std::vector<train::Batch> read;
    double with = 0, without = 0;
    {
      train::Loader loader(source, loading, first / block * (block + 1));
      run.in_phases(loader.next(), first);
      for (int64_t i = first; i < std::min(b.steps, first + block); ++i) {
        const int64_t before = system_allocations(b.device);
        const train::Stopwatch waiting;
        read.push_back(loader.next());
        const double waited = waiting.seconds();
        measured.note(run.in_phases(read.back(), i), waited);
        measured.allocations += system_allocations(b.device) - before;
        measured.flops += task.step_flops(read.back());
        measured.flops_of_all_tokens += task.step_flops_of_all_tokens(read.back());
        with += measured.whole.back();
      }
    }
    run.in_phases(read[0], first);
    for (size_t i = 0; i < read.size(); ++i) without += run.in_phases(read[i], first + static_cast<int64_t>(i)).whole;
    measured.data_costs.push_back(with / without - 1);
  }
}

// FLOP/s of a large matrix product, in 1e9: what a GPU can be asked for at best.
double measure_matmul_gflops(const Device& device, DType dtype) {
  const int64_t n = 8192;
  const NoGrad no_grad;
  const auto random = [&] {
    std::vector<float> values(static_cast<size_t>(n * n));
    uint64_t state = 1;
    for (float& v : values) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      v = static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31f;
    }
    return Variable(Tensor::from({n, n}, values).to(device).to(dtype));
  };
  const Variable a = random(), b = random();
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    synchronize(device);
    const train::Stopwatch watch;
    for (int j = 0; j < 10; ++j) ops::matmul(a, b);
    synchronize(device);
    best = std::max(best, 10 * 2e-9 * static_cast<double>(n) * static_cast<double>(n * n) / watch.seconds());
  }
  return best;
}

}  // namespace

Json measure_step(const StepBenchmark& b) {
  check_step(b);
  if (!b.trace.empty()) write_trace({}, b.trace);  // so that a file that cannot be written is an error now
  models::ClassifierConfig config = model_config(b);
  const auto source = b.data.empty() ? nullptr : open_data(b, config);
  const train::LoaderConfig loading{
      .batch = b.batch, .augment = train::Augment::basic, .workers = b.workers.beside(b.device)};
  const bool gpu = b.device.kind == DeviceKind::cuda;
  const DType dtype = b.dtype == "bfloat16" ? DType::bf16 : DType::f32;
  const auto peak_now = [&] { return gpu ? Peak{{}, measure_matmul_gflops(b.device, dtype)} : measure_peak(dtype); };
  const Peak peak_before = peak_now();
  const train::TrainOptions options;
  models::ParamStore store(options.seed);
  models::Classifier model({store, ""}, config);
  store.to(b.device);
  train::ClassifyTask task(store, model, options, {});
  task.set_bfloat16(dtype == DType::bf16);
  task.set_packed(b.packed);
  train::Adam adam(store, {.learning_rate = options.lr, .beta2 = options.beta2, .weight_decay = options.weight_decay});
  const train::Batch host = source ? train::Loader(source, loading).next()
                                   : fixed_batch(config, b.batch, b.seq, b.padding),
                     batch = host.to(b.device);
  StepRunner run(task, adam, options, b);
  Measurements measured;
  std::optional<SustainedPeak> sustained;
  if (!source && !gpu) sustained.emplace(peak_before.kernel);
  // A recording takes two steps on top.
  for (int64_t i = -b.warmup_steps - (gpu ? 2 : 0); i < 0; ++i) run.whole(batch, i);
  if (source) {
    measure_with_data(b, source, loading, task, run, measured);
  } else {
    const int64_t before = system_allocations(b.device);
    double spent = 0;
    for (int64_t i = 0; i < b.steps; ++i) {
      if (gpu) {
        measured.whole.push_back(run.whole(batch, i));
        continue;
      }
      measured.note(run.in_phases(batch, i), 0);
      spent += measured.whole.back();
      sustained->run_up_to(sustained_share * spent);
    }
    measured.allocations = system_allocations(b.device) - before;
    measured.flops = task.step_flops(host) * static_cast<double>(b.steps);
    measured.flops_of_all_tokens = task.step_flops_of_all_tokens(host) * static_cast<double>(b.steps);
  }
  for (int64_t i = -1; gpu && i < b.steps; ++i) {
    const StepTimes t = run.in_phases(batch, i);
    if (i >= 0) measured.note_phases(t);  // after a recording the ordinary memory is cold at first
  }
  const int64_t peak_rss = peak_rss_bytes();
  Trace trace;
  if (b.profile || !b.trace.empty()) {
    start_trace(b.device);
    for (int64_t i = 0; i < traced_steps; ++i) run.in_phases(batch, i);
    trace = stop_trace();
    if (!b.trace.empty()) write_trace(trace, b.trace);
  }
  const double peak = std::max({peak_before.gflops, peak_now().gflops, sustained ? sustained->best_gflops() : 0});
  const double seconds = median(measured.whole), gflop = measured.flops / static_cast<double>(b.steps) * 1e-9;
  Json result{{"size", b.size},
              {"dtype", b.dtype},
              {"batch", b.batch},
              {"seq", b.seq},
              {"threads", threads()},
              {"step_seconds", seconds},
              {"data_seconds", gpu ? 0 : median(measured.data)},
              {"forward_seconds", median(measured.forward)},
              {"backward_seconds", median(measured.backward)},
              {"clip_seconds", median(measured.clip)},
              {"optimizer_seconds", median(measured.optimizer)},
              {"samples_per_second", static_cast<double>(b.batch) / seconds},
              {"gflop_per_step", gflop},
              {"gflop_of_all_tokens", measured.flops_of_all_tokens / static_cast<double>(b.steps) * 1e-9},
              {"gflops", gflop / seconds},
              {"peak_gflops", peak},
              {"fraction_of_peak", gflop / seconds / peak},
              {"peak_rss_bytes", peak_rss},
              {"allocations_per_step", static_cast<double>(measured.allocations) / static_cast<double>(b.steps)}};
  if (source) result["data_cost"] = median(measured.data_costs);
  if (sustained) {
    result["sustained_gflops"] = sustained->gflops();
    result["fraction_of_sustained"] = gflop / seconds / sustained->gflops();
  }
  if (b.padding > 0) {
    const auto seen = host.text.mask.values<uint8_t>();
    const auto padded = static_cast<double>(std::count(seen.begin(), seen.end(), uint8_t{0}));
    result["padding"] = padded / static_cast<double>(seen.size());
    result["packed"] = b.packed && !gpu;
  }
  if (b.profile && gpu) result["kernels"] = profile_kernels(trace, traced_steps);
  if (b.profile && !gpu) {
    const double copy = measure_bandwidth().copy;
    result["copy_gb_per_second"] = copy;
    result["ops"] = profile_ops(trace, traced_steps, peak, copy);
  }
  if (gpu) {
    result["device"] = text(b.device);
    result["peak_device_bytes"] = allocator_stats(b.device).peak_in_use_bytes;
  }
  return result;
}

std::string step_table(const Json& r) {
  std::ostringstream out;
  const auto number = [&](const char* key) { return r[key].get<double>(); };
  out << r["size"].get<std::string>() << ' ' << r["dtype"].get<std::string>() << ", batch " << r["batch"] << ", "
      << r["seq"] << " tokens, " << std::fixed << std::setprecision(2);
  if (r.contains("padding"))
    out << 100 * number("padding") << " % padding " << (r["packed"] ? "left out, " : "computed, ");
  out << r["threads"] << " threads\n";
  const auto phase = [&](const char* name, const char* key) {
    out << std::left << std::setw(14) << name << std::right << std::setw(10) << 1e3 * number(key) << " ms"
        << std::setw(8) << 100 * number(key) / number("step_seconds") << " %\n";
  };
  phase("data", "data_seconds");
  phase("forward", "forward_seconds");
  phase("backward", "backward_seconds");
  phase("clip", "clip_seconds");
  phase("optimizer", "optimizer_seconds");
  phase("step", "step_seconds");
  out << "samples/s     " << std::setw(10) << number("samples_per_second") << "\nGFLOP         " << std::setw(10)
      << number("gflop_per_step") << "  (" << number("gflop_of_all_tokens")
      << " if the last layers computed every token)\nGFLOP/s       " << std::setw(10) << number("gflops") << "  of "
      << number("peak_gflops") << ", " << 100 * number("fraction_of_peak") << " %\n";
  if (r.contains("sustained_gflops"))
    out << std::string(26, ' ') << "of " << number("sustained_gflops") << " kept up between the steps, "
        << 100 * number("fraction_of_sustained") << " %\n";
  out << "peak memory   " << std::setw(10) << number("peak_rss_bytes") / (1 << 20) << " MiB\nallocations   "
      << std::setw(10) << number("allocations_per_step") << " per step\n";
  if (r.contains("data_cost"))
    out << "data          " << std::setw(10) << 100 * number("data_cost")
        << " % on top of the same batches held ready\n";
  if (r.contains("ops")) {
    out << "copy GB/s     " << std::setw(10) << number("copy_gb_per_second") << '\n'
        << profile_table(r["ops"], number("step_seconds"));
  }
  if (r.contains("kernels")) out << kernel_table(r["kernels"]);
  return out.str();
}

}  // namespace duet::tools
