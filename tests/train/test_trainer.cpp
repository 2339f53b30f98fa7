#include "duet/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "duet/core/file.h"
#include "duet/core/parallel.h"
#include "duet/ops/elementwise.h"
#include "duet/tests/device.h"
#include "duet/tests/train/tiny_data.h"
#include "duet/train/checkpoint.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

constexpr int train_size = 29, val_size = 10;  // ragged for every batch size used here

// What a test changes about a task.
struct Meddling {
  int64_t die_at = 0;          // the loss call, from 1, that throws, like a killed process
  int64_t nan_at = 0;          // the loss call that returns NaN
  std::vector<double> scores;  // validation scores to report, one after the other
  int64_t loss_calls = 0;
  std::vector<std::vector<size_t>> seen;           // samples of each loss call
  std::vector<std::vector<Tensor>> at_evaluation;  // copies of all parameters
};

template <class Base>
class Meddled : public Base {
 public:
  template <class... Arguments>
  Meddled(Meddling& meddling, Arguments&&... arguments)
      : Base(std::forward<Arguments>(arguments)...), meddling_(meddling) {}

  Variable loss(const Batch& batch, const models::Run& run) override {
    ++meddling_.loss_calls;
    if (meddling_.loss_calls == meddling_.die_at) fail("test", "the power went off");
    meddling_.seen.push_back(batch.samples);
    const Variable loss = Base::loss(batch, run);
    return meddling_.loss_calls == meddling_.nan_at ? ops::scale(loss, std::nan("")) : loss;
  }
  Evaluation evaluate(Loader& loader) override {
    Evaluation evaluation = Base::evaluate(loader);
    if (meddling_.at_evaluation.size() < meddling_.scores.size())
      evaluation.score = meddling_.scores[meddling_.at_evaluation.size()];
    std::vector<Tensor> copies;
    for (const auto& p : this->store().parameters()) copies.push_back(p.value.data().to(Device{}).clone());
    meddling_.at_evaluation.push_back(copies);
    return evaluation;
  }

 private:
  Meddling& meddling_;
};

enum class Kind { classify, mlm };

struct Outcome {
  StageResult result;
  std::vector<std::pair<std::string, Tensor>> weights;
  std::vector<std::string> metrics;  // the lines of metrics.jsonl without their times
  Meddling meddling;
};

std::vector<std::string> read_metrics(const std::string& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    Json json = parse_json(line, path);
    json.erase("time");
    lines.push_back(json.dump());
  }
  return lines;
}

class Trainer : public ::testing::Test {
 protected:
  Trainer() {
    set_threads(1);  // models this small only wait for a second thread
    write_tiny_dataset(data(), train_size, val_size, 0);
    options_.epochs = 3;
    options_.batch = 6;
    options_.lr = 3e-3;
    options_.warmup = 2;
    options_.workers = 0;
    options_.augment = "basic";
  }
  std::string data() const { return directory_ / "data"; }

  Outcome run(const std::string& name, bool resume = false, Meddling meddling = {}) {
    Outcome outcome{.meddling = std::move(meddling)};
    models::ParamStore store(options_.seed, dtype_);
    const InputConfig input{
        .use_images = kind_ == Kind::classify, .use_labels = kind_ == Kind::classify, .on_bad_sample = on_bad_sample_};
    const auto training = tiny_source(data(), "train", input);
    const auto validation = validate_ ? tiny_source(data(), "val", input) : nullptr;
    RunOptions run{.directory = directory_ / name,
                   .label = name,
                   .resume = resume,
                   .config = {{"stage", "test"}},
                   .graphs = graphs_,
                   .trace = trace_};
    ::testing::internal::CaptureStderr();
    const auto finish = [&](Task& task) {
      try {
        outcome.result = train(task, training, validation, options_, run);
      } catch (...) {
        log_ = ::testing::internal::GetCapturedStderr();
        outcome_of_failure_ = outcome.meddling;
        throw;
      }
      log_ = ::testing::internal::GetCapturedStderr();
    };
    models::DualEncoderConfig size = tiny_size();
    size.text.hidden_dropout_prob = size.text.attention_probs_dropout_prob = dropout_;
    size.vision.hidden_dropout_prob = size.vision.attention_probs_dropout_prob = dropout_;
    if (kind_ == Kind::classify) {
      models::Classifier model({store, ""}, {size.vision, size.text, {"a", "b", "c"}, dropout_});
      store.to(testing::device());
      Meddled<ClassifyTask> task(outcome.meddling, store, model, options_, training->samples());
      finish(task);
    } else {
      models::Bert bert({store, "text_model"}, size.text, false);
      models::MlmHead head({store, "cls.predictions"}, bert);
      store.to(testing::device());
      Meddled<MlmTask> task(outcome.meddling, store, bert, head);
      finish(task);
    }
    for (const auto& p : store.parameters()) outcome.weights.emplace_back(p.name, p.value.data().to(Device{}));
    outcome.metrics = read_metrics(run.directory + "/metrics.jsonl");
    return outcome;
  }
  // Runs into the failure that `meddling` provokes and returns its message.
  std::string run_failing(const std::string& name, bool resume, Meddling meddling) {
    return message_of([&] { run(name, resume, std::move(meddling)); });
  }
  std::vector<int64_t> checkpoints(const std::string& name) {
    return CheckpointDirectory(directory_ / (name + "/checkpoints")).steps();
  }

  static void expect_same_weights(const Outcome& a, const Outcome& b, double tolerance = 0) {
    ASSERT_EQ(a.weights.size(), b.weights.size());
    for (size_t i = 0; i < a.weights.size(); ++i) {
      const auto& [name, tensor] = a.weights[i];
      if (tolerance == 0) {
        EXPECT_TRUE(same_bits(tensor, b.weights[i].second)) << name;
        continue;
      }
      double worst = 0;
      for (int64_t k = 0; k < tensor.numel(); ++k)
        worst = std::max(worst, std::abs(tensor.at(k) - b.weights[i].second.at(k)));
      EXPECT_LE(worst, tolerance) << name;
    }
  }
  static void expect_same_run(const Outcome& a, const Outcome& b) {
    expect_same_weights(a, b);
    EXPECT_EQ(a.metrics, b.metrics);
    Json first = a.result.to_json(), second = b.result.to_json();
    for (Json* json : {&first, &second}) {
      json->erase("seconds");
      json->erase("peak_rss_bytes");
    }
    EXPECT_EQ(first, second);
  }
  // Stops a run at some loss call, goes on with it, and compares with the run that nothing stopped.
  void expect_resumes_to_the_bit(int64_t die_at, int64_t resumed_from) {
    const Outcome whole = run("whole");
    EXPECT_CONTAINS(run_failing("halves", true, {.die_at = die_at}), "the power went off");
    const std::vector<std::vector<size_t>> before = outcome_of_failure_.seen;
    const Outcome halves = run("halves", true);
    EXPECT_CONTAINS(log_, text("resuming after step ", resumed_from, " of ", whole.result.steps));
    expect_same_run(whole, halves);
    // What was seen up to the checkpoint and after it is what the whole run saw.
    std::vector<std::vector<size_t>> order(before.begin(),
                                           before.begin() + (before.size() - (die_at - 1 - resumed_calls_)));
    order.insert(order.end(), halves.meddling.seen.begin(), halves.meddling.seen.end());
    EXPECT_EQ(order, whole.meddling.seen);
  }

  TemporaryDirectory directory_;
  TrainOptions options_;
  Kind kind_ = Kind::classify;
  DType dtype_ = DType::f32;
  bool graphs_ = false;  // repeated steps would not pass through Meddled::loss
  double dropout_ = 0.1;
  bool validate_ = true;
  BadSample on_bad_sample_ = BadSample::stop;
  std::shared_ptr<TraceFile> trace_;
  int64_t resumed_calls_ = 0;  // loss calls that the checkpoint to resume from contains
  std::string log_;
  Meddling outcome_of_failure_;
};

TEST_F(Trainer, LearnsTheTinyTask) {
  options_.epochs = 12;
  options_.lr = 1e-2;
  options_.augment = "none";
  dropout_ = 0;
  for (const char* dtype : {"float32", "bfloat16"}) {
    options_.dtype = dtype;
    const Outcome outcome = run(dtype);
    EXPECT_EQ(outcome.result.steps, 12 * 5);
    EXPECT_EQ(outcome.result.samples_seen, 12 * train_size);
    ASSERT_EQ(outcome.result.loss_per_epoch.size(), 12u);
    EXPECT_GT(outcome.result.loss_per_epoch.front(), 0.8);
    EXPECT_LT(outcome.result.loss_per_epoch.back(), 0.1);
    EXPECT_EQ(outcome.result.best_score, 1);  // of the validation accuracy
    EXPECT_EQ(outcome.metrics.size(), 12u * 6);
    EXPECT_GT(outcome.result.flops, 0);
  }
}

TEST_F(Trainer, ResumesAtAnEpochsEndToTheBit) {
  resumed_calls_ = 5;
  expect_resumes_to_the_bit(6, 5);
}

TEST_F(Trainer, ResumesMidEpochToTheBit) {
  options_.save_every = 4;
  resumed_calls_ = 8;
  expect_resumes_to_the_bit(11, 8);
}

TEST_F(Trainer, ResumesWithMicroBatchesToTheBit) {
  options_.batch = 2;
  options_.accumulate = 3;
  options_.save_every = 2;
  options_.workers = 3;
  resumed_calls_ = 6;  // two steps of three micro-batches
  expect_resumes_to_the_bit(9, 2);
}

TEST_F(Trainer, ResumesBfloat16ToTheBit) {
  const Outcome wide = run("float32");
  options_.dtype = "bfloat16";
  options_.save_every = 4;
  resumed_calls_ = 8;
  expect_resumes_to_the_bit(11, 8);
  EXPECT_FALSE(same_bits(run("bfloat16").weights[0].second, wide.weights[0].second));
}

// With so few masked tokens some steps have nothing to learn from; the optimizer does not count them.
TEST_F(Trainer, ResumesMaskedLanguageModellingToTheBit) {
  kind_ = Kind::mlm;
  options_.mask_probability = 0.15;
  options_.batch = 4;
  options_.save_every = 1;
  const Outcome whole = run("whole");
  const auto idle = std::count_if(whole.metrics.begin(), whole.metrics.end(),
                                  [](const std::string& line) { return line.find("\"loss\":null") != line.npos; });
  ASSERT_GT(idle, 0);
  ASSERT_LT(idle, whole.result.steps / 2);
  EXPECT_EQ(whole.meddling.loss_calls, whole.result.steps - idle);
  for (const std::string& line : whole.metrics)
    EXPECT_EQ(line.find("\"loss\":null") != line.npos, line.find("\"gradient_norm\":0.0,") != line.npos) << line;
  for (const int64_t die_at : {3, 6}) {
    EXPECT_CONTAINS(run_failing(text("halves", die_at), true, {.die_at = die_at}), "the power went off");
    expect_same_run(whole, run(text("halves", die_at), true));
  }
}

TEST_F(Trainer, ResumingAFinishedRunChangesNothing) {
  const Outcome whole = run("run");
  const std::vector<int64_t> kept = checkpoints("run");
  const Outcome again = run("run", true);
  EXPECT_EQ(again.meddling.loss_calls, 0);
  expect_same_run(whole, again);
  EXPECT_EQ(checkpoints("run"), kept);
}

TEST_F(Trainer, ADamagedCheckpointCostsOnlyTheStepsSinceTheOneBefore) {
  options_.save_every = 2;
  const Outcome whole = run("whole");
  run_failing("damaged", true, {.die_at = 10});
  ASSERT_EQ(checkpoints("damaged"), (std::vector<int64_t>{5, 6, 8}));
  fs::remove(directory_ / "damaged/checkpoints/step-8/state.json");
  // It dies again right after its first new checkpoint, which must survive beside the damaged newer one.
  run_failing("damaged", true, {.die_at = 2});
  EXPECT_CONTAINS(log_, "step-8 cannot be used");
  EXPECT_CONTAINS(log_, "resuming after step 6");
  EXPECT_EQ(checkpoints("damaged"), (std::vector<int64_t>{5, 6}));
  const Outcome rest = run("damaged", true);
  expect_same_run(whole, rest);
}

TEST_F(Trainer, RefusesToResumeWithOtherSettings) {
  run("run");
  const std::string config = read_file(directory_ / "run/config.json");
  options_.lr = 0.5;
  EXPECT_CONTAINS(run_failing("run", true, {}), "was started with another options/lr: 0.003, now 0.5");
  options_.lr = 3e-3;
  options_.freeze = {"vision_model.*"};
  EXPECT_CONTAINS(run_failing("run", true, {}), "options/freeze");
  options_.freeze.clear();
  EXPECT_CONTAINS(run_failing("run", false, {}), "already holds checkpoints; pass --resume");
  EXPECT_EQ(read_file(directory_ / "run/config.json"), config);
}

TEST_F(Trainer, TheSameSeedGivesTheSameRun) {
  const Outcome first = run("first");
  expect_same_run(first, run("second"));
  options_.workers = 3;
  const Outcome threaded = run("threaded");
  expect_same_weights(first, threaded);
  EXPECT_EQ(first.metrics, threaded.metrics);
  options_.seed = 1;
  EXPECT_NE(run("other").metrics, first.metrics);
}

TEST_F(Trainer, MicroBatchesEqualTheFullBatch) {
  if (testing::on_cuda()) GTEST_SKIP() << "float64 is for the CPU";
  dtype_ = DType::f64;
  dropout_ = 0;
  for (const bool class_weights : {false, true}) {
    options_.class_weights = class_weights;
    options_.label_smoothing = 0.1;
    options_.batch = 12;
    options_.accumulate = 1;
    const Outcome full = run(text("full", class_weights));
    EXPECT_EQ(full.result.steps, 9);
    for (const int64_t accumulate : {3, 4}) {
      options_.accumulate = accumulate;
      options_.batch = 12 / accumulate;
      const Outcome parts = run(text("parts", accumulate, class_weights));
      EXPECT_EQ(parts.result.steps, 9);  // 12, 12 and 5 samples an epoch
      expect_same_weights(full, parts, 1e-9);
      for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(full.result.loss_per_epoch[i], parts.result.loss_per_epoch[i], 1e-10);
      EXPECT_DOUBLE_EQ(full.result.flops, parts.result.flops);
    }
  }
}

TEST_F(Trainer, MicroBatchesOfMaskedTextEqualTheFullBatch) {
  kind_ = Kind::mlm;
  if (testing::on_cuda()) GTEST_SKIP() << "float64 is for the CPU";
  dtype_ = DType::f64;
  dropout_ = 0;
  options_.mask_probability = 0.3;
  options_.batch = 12;
  const Outcome full = run("full");
  options_.accumulate = 6;
  options_.batch = 2;
  const Outcome parts = run("parts");
  EXPECT_GT(parts.meddling.loss_calls, full.meddling.loss_calls);
  expect_same_weights(full, parts, 1e-9);
}

TEST_F(Trainer, EndsAtTheBestValidationResult) {
  const Outcome outcome = run("run", false, {.scores = {0.1, 0.9, 0.3}});
  EXPECT_EQ(outcome.result.best_step, 10);
  EXPECT_EQ(outcome.result.best_score, 0.9);
  ASSERT_EQ(outcome.meddling.at_evaluation.size(), 3u);
  for (size_t i = 0; i < outcome.weights.size(); ++i)
    EXPECT_TRUE(same_bits(outcome.weights[i].second, outcome.meddling.at_evaluation[1][i])) << outcome.weights[i].first;
  EXPECT_FALSE(same_bits(outcome.weights[0].second, outcome.meddling.at_evaluation[2][0]));
  EXPECT_EQ(checkpoints("run"), (std::vector<int64_t>{10, 15}));
}

TEST_F(Trainer, SkippedValidationSamplesAreNamedOnce) {
  on_bad_sample_ = BadSample::skip;
  for (const int sample : {3, train_size + 2})  // one of each split
    write_file_atomically(data() + text("/images/s", sample, ".png"), "no image");
  EXPECT_EQ(run("run").result.evaluations.size(), 3u);
  EXPECT_CONTAINS(log_, "skipped 2 bad samples:");
  EXPECT_CONTAINS(log_, "s3");
  const std::string id = text("/s", train_size + 2, ".png");
  EXPECT_NE(log_.find(id), log_.npos) << log_;
  EXPECT_EQ(log_.find(id), log_.rfind(id)) << log_;
}

TEST_F(Trainer, WithADamagedBestCheckpointTheLastWeightsCount) {
  const Outcome outcome = run("run", false, {.scores = {0.1, 0.9, 0.3}});
  fs::resize_file(directory_ / "run/checkpoints/step-10/tensors.safetensors", 100);
  const Outcome again = run("run", true);
  EXPECT_CONTAINS(log_, "warning: the best checkpoint, of step 10, cannot be used");
  for (size_t i = 0; i < again.weights.size(); ++i)
    EXPECT_TRUE(same_bits(again.weights[i].second, outcome.meddling.at_evaluation[2][i])) << again.weights[i].first;
}

TEST_F(Trainer, LostMetricsDoNotStopARun) {
  const Outcome whole = run("whole");
  run_failing("run", false, {.die_at = 12});
  const std::string path = directory_ / "run/metrics.jsonl";
  const std::string metrics = read_file(path);
  const size_t second = metrics.find('\n', metrics.find('\n') + 1) + 1;
  fs::resize_file(path, second + 5);  // two lines and a piece
  const Outcome rest = run("run", true);
  EXPECT_CONTAINS(log_, "metrics.jsonl is shorter than");
  expect_same_weights(whole, rest);
  std::vector<std::string> expected(whole.metrics.begin(), whole.metrics.begin() + 2);
  expected.insert(expected.end(), whole.metrics.begin() + 12, whole.metrics.end());  // after the second evaluation
  EXPECT_EQ(rest.metrics, expected);
}

TEST_F(Trainer, AnEpochWithoutAnyUsableSampleIsAnError) {
  on_bad_sample_ = BadSample::skip;
  validate_ = false;
  for (int i = 0; i < train_size; ++i) write_file_atomically(data() + text("/images/s", i, ".png"), "no image");
  EXPECT_CONTAINS(run_failing("run", false, {}), text("no usable training sample, ", train_size, " skipped"));
}

TEST_F(Trainer, WithoutValidationTheLastStepCounts) {
  validate_ = false;
  const Outcome outcome = run("run");
  EXPECT_TRUE(outcome.meddling.at_evaluation.empty());
  EXPECT_TRUE(outcome.result.evaluations.empty());
  EXPECT_EQ(outcome.metrics.size(), 15u);
  EXPECT_EQ(checkpoints("run"), (std::vector<int64_t>{15}));
}

TEST_F(Trainer, KeepsTheBestCheckpointBesideTheNewest) {
  options_.epochs = 6;
  options_.keep = 1;
  run("run", false, {.scores = {0.9, 0.1, 0.2, 0.3, 0.2, 0.1}});
  EXPECT_EQ(checkpoints("run"), (std::vector<int64_t>{5, 30}));
}

TEST_F(Trainer, StopsEarlyWhenNothingImproves) {
  options_.epochs = 10;
  options_.patience = 2;
  const Outcome outcome = run("run", false, {.scores = {0.1, 0.2, 0.2, 0.15, 0.9}});
  EXPECT_TRUE(outcome.result.stopped_early);
  EXPECT_EQ(outcome.result.steps, 20);
  EXPECT_EQ(outcome.result.best_step, 10);
  const Outcome again = run("run", true);  // a stopped run stays stopped
  EXPECT_EQ(again.meddling.loss_calls, 0);
  expect_same_run(outcome, again);
}

TEST_F(Trainer, PatienceOutlastsAResume) {
  options_.epochs = 10;
  options_.patience = 2;
  run_failing("run", false, {.die_at = 12, .scores = {0.9, 0.1}});
  const Outcome rest = run("run", true, {.scores = {0.2}});
  EXPECT_TRUE(rest.result.stopped_early);
  EXPECT_EQ(rest.result.steps, 15);
  EXPECT_EQ(rest.result.best_step, 5);
}

TEST_F(Trainer, ANanLossStopsAndLeavesTheLastGoodCheckpoint) {
  const std::string message = run_failing("run", false, {.nan_at = 8});
  EXPECT_CONTAINS(message, "the loss became nan at step 8; try a smaller --lr");
  EXPECT_EQ(checkpoints("run"), (std::vector<int64_t>{5}));
  for (const auto& [name, tensor] : CheckpointDirectory(directory_ / "run/checkpoints").load(5).tensors)
    for (int64_t i = 0; i < tensor.numel(); ++i) ASSERT_TRUE(std::isfinite(tensor.at(i))) << name;
  const Outcome rest = run("run", true);
  expect_same_run(run("whole"), rest);
}

TEST_F(Trainer, FrozenParametersStay) {
  options_.freeze = {"text_model.*", "vision_model.embeddings.*"};
  const Outcome outcome = run("run");
  models::ParamStore fresh(options_.seed);
  const models::DualEncoderConfig size = tiny_size();
  models::Classifier model({fresh, ""}, {size.vision, size.text, {"a", "b", "c"}});
  size_t frozen = 0;
  for (const auto& [name, tensor] : outcome.weights) {
    const bool stays = name.starts_with("text_model.") || name.starts_with("vision_model.embeddings.");
    EXPECT_EQ(same_bits(tensor, fresh.at(name).data()), stays) << name;
    frozen += stays;
  }
  EXPECT_GT(frozen, 10u);
  EXPECT_LT(frozen, outcome.weights.size());
  options_.freeze = {"txt_model.*"};
  EXPECT_CONTAINS(run_failing("typo", false, {}), "no parameter matches \"txt_model.*\"");
}

TEST_F(Trainer, TheHeadHasItsOwnLearningRate) {
  options_.steps = 1;
  options_.warmup = 0;
  options_.weight_decay = 0;
  options_.clip = 0;
  options_.head_lr = 30 * options_.lr;
  const Outcome outcome = run("run");
  models::ParamStore fresh(options_.seed);
  const models::DualEncoderConfig size = tiny_size();
  models::Classifier model({fresh, ""}, {size.vision, size.text, {"a", "b", "c"}});
  const auto change = [&](const std::string& name) {
    double largest = 0;
    for (const auto& [n, tensor] : outcome.weights)
      if (n == name)
        for (int64_t i = 0; i < tensor.numel(); ++i)
          largest = std::max(largest, std::abs(tensor.at(i) - fresh.at(name).data().at(i)));
    return largest;
  };
  // Adam's first step moves every parameter by about its rate.
  EXPECT_NEAR(change("classifier.weight"), options_.head_lr, 0.01 * options_.head_lr);
  EXPECT_NEAR(change("text_model.pooler.dense.weight"), options_.lr, 0.01 * options_.lr);
}

TEST_F(Trainer, RecomputingActivationsChangesNothing) {
  const Outcome kept = run("kept");
  options_.recompute = true;
  const Outcome recomputed = run("recomputed");
  expect_same_weights(kept, recomputed);
  EXPECT_EQ(kept.metrics, recomputed.metrics);
}

TEST_F(Trainer, RepeatingRecordedStepsChangesNothing) {
  for (const double dropout : {0.0, 0.2}) {
    dropout_ = dropout;
    graphs_ = false;
    const Outcome asked = run(text("asked", dropout));
    graphs_ = true;
    const Outcome repeated = run(text("repeated", dropout));
    expect_same_run(asked, repeated);
    if (testing::on_cuda()) {
      EXPECT_LT(repeated.meddling.loss_calls, asked.meddling.loss_calls);
    }
  }
}

// The last batch of an epoch is smaller: recordings of two shapes take turns over the same memory.
TEST_F(Trainer, RecordingsOfSeveralShapesShareTheirMemory) {
  options_.epochs = 6;
  options_.batch = 4;
  const Outcome asked = run("asked");
  graphs_ = true;
  const Outcome repeated = run("repeated");
  expect_same_run(asked, repeated);
}

TEST_F(Trainer, WritesItsConfigAndOneEventFile) {
  models::ParamStore store(0);
  const models::DualEncoderConfig size = tiny_size();
  models::Classifier model({store, ""}, {size.vision, std::nullopt, {"a", "b", "c"}});
  const auto source = tiny_source(data(), "train", {.use_text = false});
  ClassifyTask task(store, model, options_, source->samples());
  options_.steps = 2;
  ::testing::internal::CaptureStderr();
  train(task, source, nullptr, options_, {.directory = directory_ / "run"});
  ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(read_json(directory_ / "run/config.json").at("options"), options_.to_json());
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_ / "run/tensorboard"), fs::directory_iterator()), 1);
}

TEST(StageResult, RoundTripsThroughJson) {
  StageResult r;
  r.loss_per_epoch = {1.0 / 3, 0.25};
  r.evaluations = {{{"step", 5}, {"validation_loss", 0.1}}};
  r.best_step = 5;
  r.best_score = -0.1;
  r.steps = 10;
  r.samples_seen = 100;
  r.flops = 1e18;
  r.seconds = 1.5;
  r.peak_rss_bytes = 1 << 30;
  r.stopped_early = true;
  const Json json = r.to_json();
  EXPECT_EQ(StageResult::from_json(parse_json(json.dump(), "test")).to_json(), json);
}

// How many complete events a trace has of each name, those of the device under "kernel".
std::map<std::string, int> traced(const std::string& path) {
  std::map<std::string, int> counts;
  const Json trace = read_json(path);
  for (const Json& e : trace.at("traceEvents"))
    if (e.at("ph") == "X") ++counts[e.at("cat") == "kernel" ? "kernel" : e.at("name").get<std::string>()];
  return counts;
}

// On a GPU the traced steps are not repeated from graphs, the others are.
TEST_F(Trainer, ATraceChangesNothing) {
  graphs_ = true;
  options_.augment = "none";
  const Outcome untraced = run("untraced");
  const std::string path = directory_ / "trace.json";
  trace_ = std::make_shared<TraceFile>(path, testing::device());
  expect_same_run(run("traced"), untraced);
  const auto counts = traced(path);
  for (const char* name : {"step", "forward", "backward", "clip", "optimizer", "adam"})
    EXPECT_EQ(counts.at(name), 4) << name;
  EXPECT_EQ(counts.contains("kernel"), testing::on_cuda());
}

TEST_F(Trainer, ATraceHoldsWhatWasDoneBeforeAFailure) {
  const std::string path = directory_ / "trace.json";
  trace_ = std::make_shared<TraceFile>(path, testing::device());
  EXPECT_CONTAINS(run_failing("run", false, {.die_at = 4}), "the power went off");
  trace_.reset();
  EXPECT_FALSE(tracing());
  const auto counts = traced(path);
  EXPECT_EQ(counts.at("step"), 3);
  EXPECT_EQ(counts.at("adam"), 2);
}

TEST(CheckSameRun, IgnoresWhereFilesLieButNotWhatTheyHold) {
  const Json before{
      {"command", "duet a"}, {"data", {{{"directory", "x"}, {"fingerprint", "1"}}}}, {"model", {{"d", 1}}}};
  Json now = before;
  now["command"] = "duet a --resume";
  now["data"][0]["directory"] = "./x";
  check_same_run(before, now, "run");
  check_same_run({{"options", {{"workers", 2}, {"lr", 1}}}}, {{"options", {{"workers", "auto"}, {"lr", 1}}}}, "run");
  now["data"][0]["fingerprint"] = "2";
  EXPECT_CONTAINS(message_of([&] { check_same_run(before, now, "run"); }),
                  "run was started with another data/0/fingerprint: \"1\", now \"2\"");
  check_same_run(before, {{"model", {{"d", 1}}}}, "run");
  EXPECT_CONTAINS(message_of([&] {
                    check_same_run(before, {{"fraction", 0.5}}, "run");
                  }),
                  "another fraction: null, now 0.5");
}

}  // namespace
}  // namespace duet::train
