#include "duet/train/tasks.h"

#include <gtest/gtest.h>

#include <cmath>

#include "duet/autograd/engine.h"
#include "duet/core/parallel.h"
#include "duet/core/trace.h"
#include "duet/ops/gather_rows.h"
#include "duet/ops/reshape.h"
#include "duet/tests/train/tiny_data.h"

namespace duet::train {
namespace {

using Matrix = std::vector<std::vector<double>>;

Matrix matrix_of(const Tensor& t) {
  Matrix m(static_cast<size_t>(t.dim(0)), std::vector<double>(static_cast<size_t>(t.dim(1))));
  for (size_t i = 0; i < m.size(); ++i)
    for (size_t k = 0; k < m[i].size(); ++k) m[i][k] = t.at(static_cast<int64_t>(i * m[i].size() + k));
  return m;
}

// -log softmax(row)[k]
double surprise(const std::vector<double>& row, size_t k) {
  double total = 0;
  for (const double v : row) total += std::exp(v - row[k]);
  return std::log(total);
}

size_t largest(const std::vector<double>& row) {
  return static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

class Tasks : public ::testing::Test {
 protected:
  Tasks() {
    set_threads(1);
    write_tiny_dataset(directory_.path(), 12, 17, 0);
  }
  std::shared_ptr<const SampleSource> source(const std::string& split, const InputConfig& input = {}) {
    return tiny_source(directory_.path(), split, input);
  }
  Batch batch(const std::shared_ptr<const SampleSource>& from, int64_t size, double mask_probability = 0) {
    return Loader(from, {.batch = size, .shuffle = false, .mask_probability = mask_probability, .workers = 0}).next();
  }

  TemporaryDirectory directory_;
  models::ParamStore store_{7, DType::f64};
  models::DualEncoderConfig size_ = tiny_size();
};

class Classify : public Tasks {
 protected:
  Matrix logits(const Batch& b) { return matrix_of(model_(Variable(b.images.to(DType::f64)), b.text, {}).data()); }

  models::ClassifierConfig config_{size_.vision, size_.text, {"a", "b", "c"}};
  models::Classifier model_{{store_, ""}, config_};
};

TEST_F(Classify, LossIsTheMeanCrossEntropy) {
  const auto training = source("train");
  ClassifyTask task(store_, model_, {}, training->samples());
  const Batch b = batch(training, 7);
  double expected = 0;
  const Matrix rows = logits(b);
  for (size_t i = 0; i < 7; ++i)
    expected += surprise(rows[i], static_cast<size_t>(b.labels.at(static_cast<int64_t>(i))));
  EXPECT_NEAR(task.loss(b, {}).data().item(), expected / 7, 1e-12);
  EXPECT_EQ(task.weight(b), 7);
}

TEST_F(Classify, SmoothingAndClassWeights) {
  const auto training = source("train");
  TrainOptions options;
  options.label_smoothing = 0.2;
  options.class_weights = true;
  ClassifyTask task(store_, model_, options, training->samples());
  // Of 12 training samples a has 5, b 5 and c 2; inverse frequency with a mean of one.
  const std::vector<double> weights{12 / (3 * 5.0), 12 / (3 * 5.0), 12 / (3 * 2.0)};
  const Batch b = batch(training, 8);
  const Matrix rows = logits(b);
  double sharp = 0, smooth = 0, total = 0;
  for (size_t i = 0; i < 8; ++i) {
    const auto y = static_cast<size_t>(b.labels.at(static_cast<int64_t>(i)));
    sharp += weights[y] * surprise(rows[i], y);
    for (size_t k = 0; k < 3; ++k) smooth += weights[k] * surprise(rows[i], k);
    total += weights[y];
  }
  EXPECT_NEAR(task.loss(b, {}).data().item(), (0.8 * sharp + 0.2 / 3 * smooth) / total, 1e-12);
  EXPECT_NEAR(task.weight(b), total, 1e-12);
  double all = 0;
  for (const Batch& part : split_batch(batch(training, 12), 5)) all += task.weight(part);
  EXPECT_NEAR(all, 12, 1e-12);
}

TEST_F(Classify, AClassWithoutTrainingSamplesWeighsNothing) {
  std::vector<Sample> samples = source("train")->samples();
  std::erase_if(samples, [](const Sample& s) { return s.label == 2; });
  TrainOptions options;
  options.class_weights = true;
  ClassifyTask task(store_, model_, options, samples);
  Batch b = batch(source("train"), 3);
  b.labels = Tensor::from<int64_t>({3}, {0, 1, 2});
  EXPECT_NEAR(task.weight(b), 2, 1e-12);
}

TEST_F(Classify, EvaluatesOverRaggedBatches) {
  const auto validation = source("val");
  ClassifyTask task(store_, model_, {}, source("train")->samples());
  double loss = 0, hits = 0;
  Matrix confusion(3, std::vector<double>(3));
  const Batch all = batch(validation, 17);
  const Matrix rows = logits(all);
  for (size_t i = 0; i < 17; ++i) {
    const auto y = static_cast<size_t>(all.labels.at(static_cast<int64_t>(i)));
    loss += surprise(rows[i], y) / 17;
    hits += largest(rows[i]) == y;
    ++confusion[y][largest(rows[i])];
  }
  double f1 = 0;
  for (size_t c = 0; c < 3; ++c) {
    double sum = 0;
    for (size_t k = 0; k < 3; ++k) sum += confusion[c][k] + confusion[k][c];
    f1 += 2 * confusion[c][c] / sum / 3;
  }
  Loader loader(validation, {.batch = 5, .shuffle = false});
  const Evaluation evaluation = task.evaluate(loader);
  EXPECT_NEAR(evaluation.loss, loss, 1e-12);
  EXPECT_NEAR(evaluation.score, hits / 17, 1e-12);
  EXPECT_NEAR(evaluation.metrics.at("accuracy").get<double>(), hits / 17, 1e-12);
  EXPECT_NEAR(evaluation.metrics.at("macro_f1").get<double>(), f1, 1e-12);
  EXPECT_NEAR(evaluation.metrics.at("loss").get<double>(), loss, 1e-12);
}

TEST_F(Classify, PredictsWithoutLabels) {
  ClassifyTask task(store_, model_, {}, source("train")->samples());
  const auto unlabelled = source("val", {.use_labels = false});
  Loader loader(unlabelled, {.batch = 5, .shuffle = false});
  const ClassifyTask::Predictions p = task.predict(loader);
  ASSERT_EQ(p.samples.size(), 17u);
  EXPECT_EQ(p.labels, std::vector<int64_t>(17, -1));
  const Matrix rows = logits(batch(unlabelled, 17));
  for (size_t i = 0; i < 17; ++i) {
    EXPECT_EQ(p.samples[i], i);
    for (size_t k = 0; k < 3; ++k) EXPECT_NEAR(p.probabilities[i * 3 + k], std::exp(-surprise(rows[i], k)), 1e-6);
  }
}

// A batch whose texts have from one token to all of them.
Batch of_many_lengths(Batch b) {
  b.text.mask.fill(0);
  for (int64_t i = 0; i < b.size(); ++i)
    std::fill_n(b.text.mask.data<uint8_t>() + i * b.tokens(), i % b.tokens() + 1, uint8_t{1});
  return b;
}

TEST_F(Classify, CountsFlops) {
  ClassifyTask task(store_, model_, {}, source("train")->samples());
  const Batch b = of_many_lengths(batch(source("train"), 6));
  constexpr auto wanted = models::Wanted::class_token;
  constexpr auto cpu = DeviceKind::cpu;
  double texts = 0;
  for (int64_t i = 0; i < 6; ++i) texts += size_.text.forward_flops(i % b.tokens() + 1, wanted, cpu);
  EXPECT_DOUBLE_EQ(task.step_flops(b), 3 * (6 * size_.vision.forward_flops(wanted, cpu) + texts));
  const double whole =
      3 * 6 * (size_.vision.forward_flops(wanted, cpu) + size_.text.forward_flops(b.tokens(), wanted, cpu));
  EXPECT_LT(task.step_flops(b), whole);
  task.set_packed(false);
  EXPECT_DOUBLE_EQ(task.step_flops(b), whole);
}

// What padding is said to save is what it saves.
TEST_F(Classify, CountsTheFlopsThatAStepComputes) {
  ClassifyTask task(store_, model_, {}, source("train")->samples());
  const Batch b = of_many_lengths(batch(source("train"), 6));
  double counted[2], computed[2];
  for (const bool packed : {false, true}) {
    task.set_packed(packed);
    start_trace({});
    backward(task.loss(b, task.training_run({}, false)));
    int64_t flops = 0;
    for (const TraceEvent& e : stop_trace().events) flops += e.flops;
    counted[packed] = task.step_flops(b);
    computed[packed] = static_cast<double>(flops);
  }
  EXPECT_LT(computed[1], computed[0]);
  EXPECT_DOUBLE_EQ(computed[0] - computed[1], counted[0] - counted[1]);
}

class Contrast : public Tasks {
 protected:
  // Scaled cosine similarities of texts (rows) and images, from the unit vectors.
  Matrix similarities(const Batch& b) {
    const Matrix texts = matrix_of(model_.text_features(b.text, {}).data());
    const Matrix images = matrix_of(model_.image_features(Variable(b.images.to(DType::f64)), {}).data());
    const double scale = std::exp(store_.at("logit_scale").data().item());
    Matrix m(texts.size(), std::vector<double>(images.size()));
    for (size_t i = 0; i < texts.size(); ++i)
      for (size_t k = 0; k < images.size(); ++k)
        for (size_t d = 0; d < texts[i].size(); ++d) m[i][k] += scale * texts[i][d] * images[k][d];
    return m;
  }
  static double info_nce(const Matrix& m) {
    double loss = 0;
    for (size_t i = 0; i < m.size(); ++i) {
      std::vector<double> column;
      for (const auto& row : m) column.push_back(row[i]);
      loss += (surprise(m[i], i) + surprise(column, i)) / 2;
    }
    return loss / static_cast<double>(m.size());
  }

  models::DualEncoder model_{{store_, ""}, size_};
  ContrastiveTask task_{store_, model_};
};

TEST_F(Contrast, LossIsSymmetricInfoNce) {
  const Batch b = batch(source("train", {.use_labels = false}), 6);
  EXPECT_NEAR(task_.loss(b, {}).data().item(), info_nce(similarities(b)), 1e-10);
  EXPECT_EQ(task_.weight(b), 6);
}

TEST_F(Contrast, EvaluatesLossAndRecall) {
  const auto validation = source("val", {.use_labels = false});
  double loss = 0, hits = 0;
  for (const Batch& b : split_batch(batch(validation, 17), 5)) {
    const Matrix m = similarities(b);
    loss += info_nce(m) * static_cast<double>(b.size()) / 17;
    for (size_t i = 0; i < m.size(); ++i) hits += largest(m[i]) == i;
  }
  Loader loader(validation, {.batch = 5, .shuffle = false});
  const Evaluation evaluation = task_.evaluate(loader);
  EXPECT_NEAR(evaluation.loss, loss, 1e-10);
  EXPECT_NEAR(evaluation.score, -loss, 1e-10);
  EXPECT_NEAR(evaluation.metrics.at("in_batch_recall_at_1").get<double>(), hits / 17, 1e-12);
}

TEST_F(Contrast, ClampsTheLogitScaleAfterEachStep) {
  store_.at("logit_scale").data().fill(9);
  task_.after_step();
  EXPECT_DOUBLE_EQ(store_.at("logit_scale").data().item(), std::log(100.0));
  store_.at("logit_scale").data().fill(-1);
  task_.after_step();
  EXPECT_EQ(store_.at("logit_scale").data().item(), 0);
}

class Mlm : public Tasks {
 protected:
  static constexpr InputConfig input{.use_images = false, .use_labels = false};
  Matrix logits(const Batch& b) {
    const Variable hidden = bert_(b.text, {});
    const Variable flat = ops::reshape(hidden, {hidden.dim(0) * hidden.dim(1), hidden.dim(2)});
    const Matrix all = matrix_of(head_(flat).data());  // of every position; the task only computes the masked ones
    Matrix masked;
    for (const int64_t p : b.masked_positions.values<int64_t>()) masked.push_back(all[static_cast<size_t>(p)]);
    return masked;
  }

  models::Bert bert_{{store_, "text_model"}, size_.text, false};
  models::MlmHead head_{{store_, "cls.predictions"}, bert_};
  MlmTask task_{store_, bert_, head_};
};

TEST_F(Mlm, LossIsTheCrossEntropyAtMaskedPositions) {
  const Batch b = batch(source("train", input), 12, 0.5);
  const Matrix rows = logits(b);
  ASSERT_GT(rows.size(), 4u);
  double expected = 0;
  for (size_t i = 0; i < rows.size(); ++i)
    expected += surprise(rows[i], static_cast<size_t>(b.labels.at(static_cast<int64_t>(i))));
  EXPECT_NEAR(task_.loss(b, {}).data().item(), expected / static_cast<double>(rows.size()), 1e-10);
  EXPECT_EQ(task_.weight(b), static_cast<double>(rows.size()));
}

TEST_F(Mlm, EvaluatesOverBatchesWithAndWithoutMasks) {
  const auto validation = source("val", input);
  const LoaderConfig config{.batch = 1, .shuffle = false, .mask_probability = 0.3, .workers = 0};
  Loader direct(validation, config);
  double loss = 0, hits = 0, count = 0;
  int empty = 0;
  for (int i = 0; i < 17; ++i) {
    const Batch b = direct.next();
    empty += b.labels.numel() == 0;
    const Matrix rows = b.labels.numel() > 0 ? logits(b) : Matrix();
    for (size_t k = 0; k < rows.size(); ++k) {
      const auto y = static_cast<size_t>(b.labels.at(static_cast<int64_t>(k)));
      loss += surprise(rows[k], y);
      hits += largest(rows[k]) == y;
      ++count;
    }
  }
  ASSERT_GT(empty, 0);
  ASSERT_GT(count, 0);
  Loader loader(validation, config);
  const Evaluation evaluation = task_.evaluate(loader);
  EXPECT_NEAR(evaluation.loss, loss / count, 1e-10);
  EXPECT_NEAR(evaluation.score, -loss / count, 1e-10);
  EXPECT_NEAR(evaluation.metrics.at("masked_accuracy").get<double>(), hits / count, 1e-12);
}

TEST_F(Mlm, ABatchWithoutMasksHasNoLossAndNoGradient) {
  const Batch b = batch(source("train", input), 3, 1e-9);
  ASSERT_EQ(b.labels.numel(), 0);
  EXPECT_EQ(task_.weight(b), 0);
  const Variable loss = task_.loss(b, {});
  EXPECT_EQ(loss.data().item(), 0);
  backward(loss);
  for (const auto& p : store_.parameters())
    for (int64_t i = 0; p.value.gradient().defined() && i < p.value.gradient().numel(); ++i)
      ASSERT_EQ(p.value.gradient().at(i), 0) << p.name;
  Loader loader(source("train", input), {.batch = 3, .shuffle = false, .mask_probability = 1e-9});
  EXPECT_CONTAINS(message_of([&] { task_.evaluate(loader); }), "no token of the 12 validation texts was masked");
}

}  // namespace
}  // namespace duet::train
