#include "duet/train/tasks.h"

#include <algorithm>

#include "duet/autograd/grad_mode.h"
#include "duet/ops/cross_entropy.h"
#include "duet/ops/gather_rows.h"
#include "duet/ops/reshape.h"
#include "duet/ops/softmax.h"
#include "duet/train/metrics.h"

namespace duet::train {
namespace {

// Backward needs two matmuls for each of the forward pass.
constexpr double step_over_forward = 3;

Variable as_input(const Tensor& images, DType dtype) {
  return images.defined() ? Variable(images.to(dtype)) : Variable();
}

double matmul_flops(double m, double k, double n) {
  return 2 * m * k * n;
}

template <class Config>
const Config* pointer(const std::optional<Config>& config) {
  return config ? &*config : nullptr;
}

}  // namespace

double Task::encoder_flops(const Batch& batch, const models::VitConfig* vision, const models::BertConfig* text,
                           models::Wanted of_images, models::Wanted of_text) const {
  const auto size = static_cast<double>(batch.size());
  const DeviceKind on = store_.device().kind;
  double flops = vision ? vision->forward_flops(of_images, on) * size : 0;
  if (text == nullptr) return flops;
  const bool packs = packed_ && on == DeviceKind::cpu;
  const models::Packing packing = packs ? models::Packing::of(batch.text.mask) : models::Packing();
  if (!packing.defined()) return flops + text->forward_flops(batch.tokens(), of_text, on) * size;
  for (int64_t b = 0; b < packing.texts; ++b) flops += text->forward_flops(packing.length(b), of_text, on);
  return flops;
}

ClassifyTask::ClassifyTask(models::ParamStore& store, models::Classifier& model, const TrainOptions& options,
                           const std::vector<Sample>& training_samples)
    : Task(store), model_(model), label_smoothing_(options.label_smoothing) {
  if (!options.class_weights) return;
  // Inverse frequency, normalised to a mean of one over the training samples; absent classes weigh nothing.
  const auto classes = static_cast<int64_t>(model.config().labels.size());
  std::vector<double> counts(static_cast<size_t>(classes));
  for (const Sample& s : training_samples) counts.at(static_cast<size_t>(s.label)) += 1;
  const auto present = static_cast<double>(std::count_if(counts.begin(), counts.end(), [](double c) { return c > 0; }));
  std::vector<double> weights;
  for (const double c : counts)
    weights.push_back(c > 0 ? static_cast<double>(training_samples.size()) / (present * c) : 0);
  class_weights_ = Tensor::from({classes}, weights).to(store.dtype());
  class_weights_there_ = class_weights_.to(store.device());
}

Variable ClassifyTask::loss(const Batch& given, const models::Run& run) {
  const Batch batch = given.to(store().device());
  const Variable logits = model_(as_input(batch.images, store().dtype()), batch.text, run);
  return ops::cross_entropy(logits, batch.labels,
                            {.label_smoothing = label_smoothing_, .class_weights = class_weights_there_});
}

double ClassifyTask::weight(const Batch& batch) const {
  if (!class_weights_.defined()) return static_cast<double>(batch.size());
  double total = 0;
  for (const int64_t y : batch.labels.values<int64_t>()) total += class_weights_.at(y);
  return total;
}

ClassifyTask::Predictions ClassifyTask::predict(Loader& loader, const std::function<void()>& before_batch) {
  const NoGrad no_grad;
  Predictions result;
  double counted = 0;
  for (int64_t i = 0; i < loader.batches_per_epoch(); ++i) {
    if (before_batch) before_batch();
    const Batch batch = loader.next();
    if (batch.size() == 0) continue;
    const Batch there = batch.to(store().device());
    const Variable logits = model_(as_input(there.images, store().dtype()), there.text, evaluation_run());
    const Tensor probabilities = ops::softmax(logits).data().to(DType::f32).to(Device{});
    const auto values = probabilities.values<float>();
    result.probabilities.insert(result.probabilities.end(), values.begin(), values.end());
    result.samples.insert(result.samples.end(), batch.samples.begin(), batch.samples.end());
    if (!batch.labels.defined()) {
      result.labels.resize(result.samples.size(), -1);
      continue;
    }
    const auto labels = batch.labels.values<int64_t>();
    result.labels.insert(result.labels.end(), labels.begin(), labels.end());
    const auto n = static_cast<double>(batch.size());
    result.loss += ops::cross_entropy(logits, there.labels).data().item() * n;
    counted += n;
  }
  if (counted > 0) result.loss /= counted;
  return result;
}

Evaluation ClassifyTask::evaluate(Loader& loader) {
  const Predictions p = predict(loader);
  const ClassificationMetrics metrics(p.probabilities, p.labels, model_.config().labels.size());
  return {p.loss,
          metrics.accuracy(),
          {{"loss", p.loss}, {"accuracy", metrics.accuracy()}, {"macro_f1", metrics.macro_f1()}}};
}

double ClassifyTask::step_flops(const Batch& batch) const {
  const models::ClassifierConfig& c = model_.config();
  const bool pools = c.text_pooling == models::ClassifierConfig::TextPooling::pooler;
  return step_over_forward * encoder_flops(batch, pointer(c.vision), pointer(c.text), models::Wanted::class_token,
                                           pools ? models::Wanted::class_token : models::Wanted::all_tokens);
}

double ClassifyTask::step_flops_of_all_tokens(const Batch& batch) const {
  const models::ClassifierConfig& c = model_.config();
  return step_over_forward * encoder_flops(batch, pointer(c.vision), pointer(c.text), models::Wanted::all_tokens,
                                           models::Wanted::all_tokens);
}

Variable ContrastiveTask::loss(const Batch& given, const models::Run& run) {
  const Batch batch = given.to(store().device());
  return model_.loss(model_.text_features(batch.text, run),
                     model_.image_features(as_input(batch.images, store().dtype()), run));
}

Evaluation ContrastiveTask::evaluate(Loader& loader) {
  const NoGrad no_grad;
  double loss = 0, count = 0, hits = 0;
  for (int64_t i = 0; i < loader.batches_per_epoch(); ++i) {
    const Batch batch = loader.next().to(store().device());
    if (batch.size() == 0) continue;
    const Variable texts = model_.text_features(batch.text, evaluation_run());
    const Variable images = model_.image_features(as_input(batch.images, store().dtype()), evaluation_run());
    const auto n = static_cast<double>(batch.size());
    loss += model_.loss(texts, images).data().item() * n;
    const Tensor logits = model_.logits_per_text(texts, images).data().to(DType::f32).to(Device{});
    for (int64_t row = 0; row < batch.size(); ++row) {
      const float* scores = logits.data<float>() + row * batch.size();
      hits += std::max_element(scores, scores + batch.size()) == scores + row;
    }
    count += n;
  }
  loss /= std::max(1.0, count);
  return {loss, -loss, {{"loss", loss}, {"in_batch_recall_at_1", hits / std::max(1.0, count)}}};
}

double ContrastiveTask::step_flops(const Batch& batch) const {
  const models::DualEncoderConfig& c = model_.config();
  const auto b = static_cast<double>(batch.size()), p = static_cast<double>(c.projection_dim);
  const double projections = matmul_flops(b, static_cast<double>(c.vision.hidden_size + c.text.hidden_size), p);
  return step_over_forward *
         (encoder_flops(batch, &c.vision, &c.text, models::Wanted::class_token, models::Wanted::class_token) +
          projections + 2 * matmul_flops(b, p, b));
}

Variable MlmTask::logits(const Batch& batch, const models::Run& run) {
  const Variable hidden = bert_(batch.text, run);
  const Variable flat = ops::reshape(hidden, {hidden.dim(0) * hidden.dim(1), hidden.dim(2)});
  return head_(ops::gather_rows(flat, batch.masked_positions));
}

Variable MlmTask::loss(const Batch& batch, const models::Run& run) {
  const Batch there = batch.to(store().device());
  return ops::cross_entropy(logits(there, run), there.labels);
}

Evaluation MlmTask::evaluate(Loader& loader) {
  const NoGrad no_grad;
  double loss = 0, count = 0, hits = 0;
  for (int64_t i = 0; i < loader.batches_per_epoch(); ++i) {
    const Batch batch = loader.next();
    const int64_t n = batch.labels.numel();
    if (n == 0) continue;
    const Batch there = batch.to(store().device());
    const Variable scores = logits(there, evaluation_run());
    loss += ops::cross_entropy(scores, there.labels).data().item() * static_cast<double>(n);
    const Tensor host = scores.data().to(DType::f32).to(Device{});
    for (int64_t row = 0; row < n; ++row) {
      const float* first = host.data<float>() + row * host.dim(1);
      hits += std::max_element(first, first + host.dim(1)) - first == batch.labels.data<int64_t>()[row];
    }
    count += static_cast<double>(n);
  }
  check(count > 0, "mlm", "no token of the ", loader.source().size(),
        " validation texts was masked; use more texts or a larger --mask-probability");
  loss /= count;
  return {loss, -loss, {{"loss", loss}, {"masked_accuracy", hits / count}}};
}

double MlmTask::step_flops(const Batch& batch) const {
  const models::BertConfig& c = bert_.config();
  const auto m = static_cast<double>(batch.labels.numel()), d = static_cast<double>(c.hidden_size);
  const double head = matmul_flops(m, d, d) + matmul_flops(m, d, static_cast<double>(c.vocab_size));
  return step_over_forward *
         (encoder_flops(batch, nullptr, &c, models::Wanted::class_token, models::Wanted::all_tokens) + head);
}

}  // namespace duet::train
