#include "duet/train/trainer.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>

#include "duet/autograd/engine.h"
#include "duet/core/allocator.h"
#include "duet/core/file.h"
#include "duet/core/memory.h"
#include "duet/ops/elementwise.h"
#include "duet/train/checkpoint.h"
#include "duet/train/device_batches.h"
#include "duet/train/interrupt.h"
#include "duet/train/progress.h"
#include "duet/train/tensorboard.h"
#include "duet/train/training_step.h"

namespace duet::train {
namespace {

// metrics.jsonl: one JSON object a line. Wall-clock values sit under "time", so that two runs with the same seed differ
// nowhere else.
class MetricsLog {
 public:
  // Keeps the first `bytes` of an earlier run's file and goes on after them.
  MetricsLog(const std::string& path, int64_t bytes) : path_(path) {
    if (!std::filesystem::exists(path)) std::ofstream(path).flush();
    if (static_cast<int64_t>(std::filesystem::file_size(path)) < bytes) {
      // Only the log has a gap then; its last line may be half a line.
      std::fprintf(stderr, "warning: %s is shorter than the %lld bytes that the checkpoint knows: lines are missing\n",
                   path.c_str(), static_cast<long long>(bytes));
      bytes = static_cast<int64_t>(read_file(path).rfind('\n') + 1);
    }
    std::filesystem::resize_file(path, static_cast<uintmax_t>(bytes));
    out_.open(path, std::ios::app | std::ios::ate);
  }
  void write(const Json& line) {
    out_ << line.dump() << '\n' << std::flush;
    check(out_.good(), "metrics", "cannot write ", path_, "; is the disk full?");
  }
  // A checkpoint refers to what was written before it, so that must reach the disk first.
  void sync() const { sync_path(path_); }
  int64_t bytes() { return static_cast<int64_t>(out_.tellp()); }

 private:
  std::string path_;
  std::ofstream out_;
};

class Run {
 public:
  Run(Task& task, std::shared_ptr<const SampleSource> training, std::shared_ptr<const SampleSource> validation,
      const TrainOptions& options, const RunOptions& run, const std::vector<std::string>& heads)
      : task_(task),
        training_(std::move(training)),
        validation_(std::move(validation)),
        options_(options),
        run_(run),
        adam_(task.store(), {.learning_rate = options.lr, .beta2 = options.beta2, .weight_decay = options.weight_decay},
              [&](const models::Parameter& p) {
                ParameterGroup group = default_group(p);
                const auto is_under = [&](const std::string& head) { return p.name.starts_with(head + "."); };
                if (options.head_lr > 0 && options.lr > 0 && std::any_of(heads.begin(), heads.end(), is_under))
                  group.learning_rate_scale = options.head_lr / options.lr;
                return group;
              }),
        training_step_(
            task, adam_,
            {.seed = options.seed, .clip = options.clip, .recompute = options.recompute, .graphs = run.graphs}),
        device_batches_(task.store().device()),
        checkpoints_(run.directory + "/checkpoints") {
    task.set_bfloat16(options.dtype == "bfloat16");
    const auto samples = static_cast<int64_t>(training_->size());
    const int64_t step_samples = options.batch * options.accumulate;
    steps_per_epoch_ = (samples + step_samples - 1) / step_samples;
    total_steps_ = options.steps > 0
                       ? options.steps
                       : std::max<int64_t>(1, std::llround(options.epochs * static_cast<double>(steps_per_epoch_)));
    eval_every_ = options.eval_every > 0 ? options.eval_every : steps_per_epoch_;
    schedule_ = {parse_schedule(options.schedule),
                 options.warmup < 1 ? std::llround(options.warmup * static_cast<double>(total_steps_))
                                    : static_cast<int64_t>(options.warmup),
                 total_steps_};
  }

  StageResult go();

 private:
  void resume();
  void save();
  void evaluate(Progress& progress);
  // A batch of the loader: its micro-batches, and the first of them on the device.
  struct Prepared {
    Batch batch;
    std::vector<Batch> parts;
    Batch first;
  };
  Prepared prepare(Loader& loader);
  std::optional<double> step(Loader& loader, bool last);
  void finish_epoch(const std::vector<std::string>& skipped);
  void use_best();
  NamedTensors tensors() const;
  Json config() const;
  LoaderConfig loader_config(bool training) const;

  Task& task_;
  std::shared_ptr<const SampleSource> training_, validation_;
  const TrainOptions& options_;
  const RunOptions& run_;
  Adam adam_;
  TrainingStep training_step_;
  DeviceBatches device_batches_;
  std::optional<Prepared> next_;
  std::exception_ptr next_failure_;
  CheckpointDirectory checkpoints_;
  Schedule schedule_;
  int64_t steps_per_epoch_, total_steps_, eval_every_;

  // Everything below is saved in checkpoints.
  StageResult result_;
  double epoch_loss_ = 0, epoch_weight_ = 0;
  int64_t evaluations_without_gain_ = 0;
  int64_t last_saved_ = -1;
  bool has_best_ = false;

  double gradient_norm_ = 0;
  std::vector<std::string> validation_skipped_;  // bad samples, each once however often the split was evaluated
  std::unique_ptr<MetricsLog> metrics_;
  std::unique_ptr<TensorBoardWriter> tensorboard_;
  Stopwatch watch_;
  double seconds_before_ = 0;
};

LoaderConfig Run::loader_config(bool training) const {
  LoaderConfig config;
  config.batch = training ? options_.batch * options_.accumulate : std::max<int64_t>(options_.batch, 64);
  config.shuffle = training && options_.shuffle;
  config.seed = options_.seed;
  config.augment = training ? parse_augment(options_.augment) : Augment::none;
  config.mask_probability =
      training_->config().use_labels || training_->config().use_images ? 0 : options_.mask_probability;
  config.workers = options_.workers.beside(task_.store().device());
  return config;
}

NamedTensors Run::tensors() const {
  NamedTensors all;
  for (const models::Parameter& p : task_.store().parameters()) all.emplace_back("parameter." + p.name, p.value.data());
  for (auto& entry : adam_.state()) all.push_back(std::move(entry));
  return all;
}

Json Run::config() const {
  Json config = run_.config.is_object() ? run_.config : Json::object();
  config["options"] = options_.to_json();
  return config;
}

void Run::save() {
  if (last_saved_ == result_.steps) return;
  const OpScope scope("checkpoint", ScopeKind::phase);
  result_.seconds = seconds_before_ + watch_.seconds();
  result_.peak_rss_bytes = std::max(result_.peak_rss_bytes, peak_rss_bytes());
  metrics_->sync();
  checkpoints_.save(result_.steps, tensors(),
                    {{"result", result_.to_json()},
                     {"epoch_loss", epoch_loss_},
                     {"epoch_weight", epoch_weight_},
                     {"evaluations_without_gain", evaluations_without_gain_},
                     {"has_best", has_best_},
                     {"adam_steps", adam_.steps()},
                     {"metrics_bytes", metrics_->bytes()},
                     {"config", config()}});
  last_saved_ = result_.steps;
  checkpoints_.prune(options_.keep, has_best_ ? std::vector<int64_t>{result_.best_step} : std::vector<int64_t>{});
}

namespace {

void restore(const NamedTensors& saved, const NamedTensors& into) {
  std::map<std::string, Tensor> by_name(saved.begin(), saved.end());
  for (const auto& [name, tensor] : into) {
    const auto it = by_name.find(name);
    check(it != by_name.end(), "checkpoint", "has no tensor ", name, "; it belongs to another model");
    tensor.copy_from(it->second);
  }
}

}  // namespace

void Run::resume() {
  int64_t metrics_bytes = 0;
  if (run_.resume) {
    const auto warn = [](const std::string& line) { std::fprintf(stderr, "warning: %s\n", line.c_str()); };
    if (const auto loaded = checkpoints_.load_newest(warn)) {
      check_same_run(loaded->state.at("config"), config(), run_.directory);
      restore(loaded->tensors, tensors());
      result_ = StageResult::from_json(loaded->state.at("result"));
      epoch_loss_ = loaded->state.at("epoch_loss");
      epoch_weight_ = loaded->state.at("epoch_weight");
      evaluations_without_gain_ = loaded->state.at("evaluations_without_gain");
      has_best_ = loaded->state.at("has_best");
      metrics_bytes = loaded->state.at("metrics_bytes");
      adam_.set_steps(loaded->state.at("adam_steps"));
      seconds_before_ = result_.seconds;
      last_saved_ = result_.steps;
      std::fprintf(stderr, "%s: resuming after step %lld of %lld\n", run_.label.c_str(),
                   static_cast<long long>(result_.steps), static_cast<long long>(total_steps_));
    }
    checkpoints_.set_aside_after(result_.steps);
  } else {
    check(checkpoints_.steps().empty(), "train", run_.directory,
          " already holds checkpoints; pass --resume to continue them, or another --out");
  }
  metrics_ = std::make_unique<MetricsLog>(run_.directory + "/metrics.jsonl", metrics_bytes);
  tensorboard_ = std::make_unique<TensorBoardWriter>(run_.directory + "/tensorboard");
  if (result_.steps > 0) tensorboard_->session_start(result_.steps + 1);
}

Run::Prepared Run::prepare(Loader& loader) {
  const OpScope scope("data", ScopeKind::phase);
  Prepared prepared{loader.next(), {}, {}};
  if (prepared.batch.size() == 0) return prepared;
  prepared.parts = split_batch(prepared.batch, options_.batch);
  prepared.first = device_batches_.upload(prepared.parts[0]);
  return prepared;
}

// One optimizer step: micro-batches, each loss weighted by its share, so that they add up to the full batch's mean.
// Returns it, or nothing when there is nothing to learn from: every sample was bad and skipped, or no token masked.
std::optional<double> Run::step(Loader& loader, bool last) {
  const OpScope scope("step", ScopeKind::phase);
  gradient_norm_ = 0;
  if (next_failure_) std::rethrow_exception(std::exchange(next_failure_, nullptr));
  const Prepared now = next_ ? std::move(*next_) : prepare(loader);
  next_.reset();
  if (now.batch.size() == 0) return std::nullopt;
  double total_weight = 0, loss_sum = 0;
  for (const Batch& part : now.parts) total_weight += task_.weight(part);
  task_.store().clear_gradients();
  if (total_weight == 0) return std::nullopt;
  std::vector<std::pair<Tensor, double>> losses;
  Tensor norm;
  if (now.parts.size() == 1) {
    const StepOutcome outcome = training_step_.run(now.first, result_.steps, schedule_.at(result_.steps));
    device_batches_.used();
    losses.emplace_back(outcome.loss, 1);
    norm = outcome.norm;
    result_.flops += task_.step_flops(now.parts[0]);
  } else {
    for (size_t i = 0; i < now.parts.size(); ++i) {
      const double share = task_.weight(now.parts[i]) / total_weight;
      if (share == 0) continue;
      const Batch part = i == 0 ? now.first : device_batches_.upload(now.parts[i]);
      const Variable loss = [&] {
        const OpScope forward("forward", ScopeKind::phase);
        return task_.loss(part, task_.training_run(training_step_.key(result_.steps, i), options_.recompute));
      }();
      {
        const OpScope back("backward", ScopeKind::phase);
        backward(ops::scale(loss, share));
      }
      device_batches_.used();
      losses.emplace_back(loss.data(), share);
      result_.flops += task_.step_flops(now.parts[i]);
    }
    {
      const OpScope clip("clip", ScopeKind::phase);
      norm = gradient_norm(task_.store());
    }
    const OpScope optimizer("optimizer", ScopeKind::phase);
    adam_.step(schedule_.at(result_.steps), {norm, options_.clip});
  }
  // While a GPU works, the next batch is decoded and sent. Only then is it waited for. Parameters that a bad gradient
  // spoiled are not saved: the checks end the run.
  if (!last && task_.store().device().kind == DeviceKind::cuda) try {
      next_ = prepare(loader);
    } catch (...) {
      next_failure_ = std::current_exception();  // this step still counts, and may be saved
    }
  for (const auto& [loss, share] : losses) {
    const double value = loss.item();
    check(std::isfinite(value), "train", "the loss became ", value, " at step ", result_.steps + 1,
          "; try a smaller --lr, a longer --warmup or --clip 1");
    loss_sum += value * share;
  }
  gradient_norm_ = norm.item();
  check(std::isfinite(gradient_norm_), "train", "the gradient became ", gradient_norm_, " at step ", result_.steps + 1,
        "; try a smaller --lr or a longer --warmup");
  task_.store().clear_gradients();
  task_.after_step();
  result_.samples_seen += now.batch.size();
  epoch_loss_ += loss_sum * total_weight;
  epoch_weight_ += total_weight;
  return loss_sum;
}

void Run::finish_epoch(const std::vector<std::string>& skipped) {
  check(epoch_weight_ > 0 || skipped.empty(), "train", "no usable training sample, ", skipped.size(),
        " skipped: ", skipped.empty() ? "" : skipped.front());
  result_.loss_per_epoch.push_back(epoch_weight_ > 0 ? epoch_loss_ / epoch_weight_ : 0);
  epoch_loss_ = epoch_weight_ = 0;
}

void Run::evaluate(Progress& progress) {
  const OpScope scope("evaluation", ScopeKind::phase);
  Loader loader(validation_, loader_config(false));
  const Evaluation evaluation = task_.evaluate(loader);
  for (const std::string& reason : loader.skipped())
    if (std::find(validation_skipped_.begin(), validation_skipped_.end(), reason) == validation_skipped_.end())
      validation_skipped_.push_back(reason);
  check(std::isfinite(evaluation.loss), "train", "the validation loss became ", evaluation.loss, " at step ",
        result_.steps, "; try a smaller --lr or --clip 1");
  const double epoch = static_cast<double>(result_.steps) / static_cast<double>(steps_per_epoch_);
  Json line{{"step", result_.steps}, {"epoch", epoch}};
  for (const auto& [name, value] : evaluation.metrics.items()) {
    line["validation_" + name] = value;
    tensorboard_->scalar("validation/" + name, result_.steps, value.get<double>());
  }
  result_.evaluations.push_back(line);
  const bool better = !has_best_ || evaluation.score > result_.best_score;
  if (better) {
    has_best_ = true;
    result_.best_score = evaluation.score;
    result_.best_step = result_.steps;
    evaluations_without_gain_ = 0;
  } else {
    ++evaluations_without_gain_;
  }
  line["best"] = better;
  metrics_->write(line);
  std::string shown = text(run_.label, "  epoch ", std::round(epoch * 100) / 100);
  if (!result_.loss_per_epoch.empty()) shown += text("  training loss ", result_.loss_per_epoch.back());
  for (const auto& [name, value] : evaluation.metrics.items())
    shown += text("  validation ", name, " ", value.get<double>());
  progress.note(shown + (better ? "  (best)" : ""));
}

void Run::use_best() {
  if (!has_best_ || result_.best_step == result_.steps) return;
  try {
    restore(checkpoints_.load(result_.best_step).tensors, tensors());
  } catch (const Error& e) {
    // Training again would be the only other way on, and the last weights are whole.
    std::fprintf(
        stderr,
        "warning: the best checkpoint, of step %lld, cannot be used; the model is that of the last step, %lld: "
        "%s\n",
        static_cast<long long>(result_.best_step), static_cast<long long>(result_.steps), e.what());
  }
}

StageResult Run::go() {
  make_directories(run_.directory);
  remove_temporaries(run_.directory);
  // What earlier stages of this process freed and the allocators kept is not this stage's memory.
  cpu_allocator().trim();
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  reset_peak_rss();
  resume();
  const std::string description = config().dump(2);
  write_file_atomically(run_.directory + "/config.json", description + "\n");
  if (result_.steps == 0) {
    tensorboard_->text("config", 0, "```\n" + description + "\n```");
    for (const auto& [caption, png] : run_.example_images) tensorboard_->image(caption, 0, png);
    tensorboard_->hparams_start(options_.to_json(), {"train/loss", "validation/loss", "validation/accuracy"});
  }
  Progress progress(run_.label, result_.steps, total_steps_);
  Loader loader(training_, loader_config(true), result_.steps);
  const int64_t first = result_.steps;
  while (result_.steps < total_steps_ && !result_.stopped_early) {
    if (run_.trace && result_.steps == first + 1) run_.trace->start();
    if (run_.trace && result_.steps == first + 5) run_.trace->finish();
    const int64_t seen = result_.samples_seen;
    const double rate = schedule_.at(result_.steps);
    const std::optional<double> loss = step(loader, result_.steps + 1 == total_steps_);
    ++result_.steps;
    metrics_->write(
        {{"step", result_.steps},
         {"loss", loss ? Json(*loss) : Json()},
         {"lr", rate * options_.lr},
         {"gradient_norm", gradient_norm_},
         {"samples_seen", result_.samples_seen},
         {"time",
          {{"seconds", seconds_before_ + watch_.seconds()}, {"samples_per_second", progress.samples_per_second()}}}});
    if (loss) tensorboard_->scalar("train/loss", result_.steps, *loss);
    tensorboard_->scalar("train/lr", result_.steps, rate * options_.lr);
    progress.update(result_.steps, result_.samples_seen - seen, loss.value_or(0), rate * options_.lr);
    const bool last = result_.steps == total_steps_;
    if (result_.steps % steps_per_epoch_ == 0 || last) finish_epoch(loader.skipped());
    if (validation_ && (result_.steps % eval_every_ == 0 || last)) {
      evaluate(progress);
      result_.stopped_early = options_.patience > 0 && evaluations_without_gain_ >= options_.patience;
      if (options_.save_every == 0 || result_.best_step == result_.steps) save();
    }
    if (options_.save_every > 0 && result_.steps % options_.save_every == 0) save();
    if (interrupt_requested()) {
      save();
      throw Interrupted(text("interrupted at step ", result_.steps, " of ", total_steps_,
                             "; continue with --resume --out ", run_.directory));
    }
  }
  if (run_.trace) run_.trace->finish();  // of a run of fewer steps
  save();
  std::vector<std::string> skipped = loader.skipped();
  skipped.insert(skipped.end(), validation_skipped_.begin(), validation_skipped_.end());
  for (const std::string& line : describe_skipped(skipped)) progress.note(line);
  use_best();
  tensorboard_->hparams_end(true);
  return result_;
}

}  // namespace

Json StageResult::to_json() const {
  return {{"loss_per_epoch", loss_per_epoch},
          {"evaluations", evaluations},
          {"best_step", best_step},
          {"best_score", best_score},
          {"steps", steps},
          {"samples_seen", samples_seen},
          {"flops", flops},
          {"seconds", seconds},
          {"peak_rss_bytes", peak_rss_bytes},
          {"stopped_early", stopped_early}};
}

StageResult StageResult::from_json(const Json& json) {
  StageResult r;
  r.loss_per_epoch = json.at("loss_per_epoch").get<std::vector<double>>();
  r.evaluations = json.at("evaluations").get<std::vector<Json>>();
  r.best_step = json.at("best_step");
  r.best_score = json.at("best_score");
  r.steps = json.at("steps");
  r.samples_seen = json.at("samples_seen");
  r.flops = json.at("flops");
  r.seconds = json.at("seconds");
  r.peak_rss_bytes = json.at("peak_rss_bytes");
  r.stopped_early = json.at("stopped_early");
  return r;
}

void check_same_run(const Json& before, const Json& config, const std::string& directory) {
  // How the program was called and where its files lie does not matter; the data's fingerprint does. Nor does it who
  // makes the batches.
  const auto identity = [](const Json& json, const std::string& key) {
    Json part = json.value(key, Json());
    if (key == "command" || key == "vocab" || key == "from") return Json();
    if (key == "data" && part.is_array())
      for (Json& dataset : part) dataset.erase("directory");
    if (key == "options" && part.is_object()) part.erase("workers");
    return part;
  };
  for (const auto& [key, unused] : config.items()) {
    const Json then = identity(before, key), now = identity(config, key);
    const Json changes = Json::diff(then, now);
    if (changes.empty()) continue;
    const auto path = changes[0].at("path").get<std::string>();
    const Json::json_pointer pointer(path);
    const auto shown = [&](const Json& json) { return json.contains(pointer) ? json[pointer].dump() : "nothing"; };
    fail("resume", directory, " was started with another ", key, path, ": ", shown(then), ", now ", shown(now),
         "; repeat the settings or use another --out");
  }
}

StageResult train(Task& task, const std::shared_ptr<const SampleSource>& training,
                  const std::shared_ptr<const SampleSource>& validation, const TrainOptions& options,
                  const RunOptions& run, const std::vector<std::string>& heads) {
  options.validate();
  for (const std::string& pattern : options.freeze) task.store().freeze(pattern);
  return Run(task, training, validation, options, run, heads).go();
}

}  // namespace duet::train
