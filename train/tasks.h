#pragma once

#include <functional>
#include <memory>

#include "duet/models/dual_encoder.h"
#include "duet/models/multimodal.h"
#include "duet/train/loader.h"
#include "duet/train/options.h"

namespace duet::train {

// The validation result of a task. `score` is what model selection maximises.
struct Evaluation {
  double loss = 0;
  double score = 0;
  Json metrics = Json::object();  // flat name -> number, for logs
};

// What is trained: a model, its loss on a batch, and its evaluation. Parameters live in `store`.
class Task {
 public:
  explicit Task(models::ParamStore& store) : store_(store) {}
  virtual ~Task() = default;

  // The mean loss over the batch's items, and the weight of that mean when micro-batches are averaged: the item count,
  // or the sum of class weights.
  virtual Variable loss(const Batch& batch, const models::Run& run) = 0;
  virtual double weight(const Batch& batch) const = 0;
  virtual Evaluation evaluate(Loader& loader) = 0;
  // Matmul FLOPs of one training step over the batch: forward, and backward counted as twice that. Padding counts where
  // it is computed. The batch is on the CPU.
  virtual double step_flops(const Batch& batch) const = 0;
  virtual void after_step() {}

  models::ParamStore& store() { return store_; }
  // Activations in bfloat16, in training and evaluation.
  void set_bfloat16(bool on) { bfloat16_ = on; }
  // Whether padding is left out where it can be (models::Run::packed), to measure what that gains.
  void set_packed(bool on) { packed_ = on; }
  models::Run evaluation_run() const { return {.bfloat16 = bfloat16_, .packed = packed_}; }
  models::Run training_run(RandomKey random, bool recompute) const {
    return {true, random, recompute, bfloat16_, packed_};
  }

 protected:
  // Of the encoders' forward pass; either may be absent.
  double encoder_flops(const Batch& batch, const models::VitConfig* vision, const models::BertConfig* text,
                       models::Wanted of_images, models::Wanted of_text) const;

 private:
  models::ParamStore& store_;
  bool bfloat16_ = false, packed_ = true;
};

// Cross entropy over labels, for classifiers of any combination of parts.
class ClassifyTask : public Task {
 public:
  ClassifyTask(models::ParamStore& store, models::Classifier& model, const TrainOptions& options,
               const std::vector<Sample>& training_samples);
  Variable loss(const Batch& batch, const models::Run& run) override;
  double weight(const Batch& batch) const override;
  Evaluation evaluate(Loader& loader) override;
  double step_flops(const Batch& batch) const override;
  // Those of a step whose last layers would compute every token, as PyTorch's do.
  double step_flops_of_all_tokens(const Batch& batch) const;

  // Class probabilities (N, C) f32 of every sample in the loader's order, the mean loss, and the samples' positions.
  struct Predictions {
    std::vector<float> probabilities;
    std::vector<int64_t> labels;  // -1 for unlabelled samples
    std::vector<size_t> samples;
    double loss = 0;
  };
  // `before_batch` may throw to stop.
  Predictions predict(Loader& loader, const std::function<void()>& before_batch = {});

 private:
  models::Classifier& model_;
  double label_smoothing_;
  Tensor class_weights_, class_weights_there_;  // on the CPU, and where the parameters are
};

// Symmetric InfoNCE over the image-text pairs of each batch.
class ContrastiveTask : public Task {
 public:
  ContrastiveTask(models::ParamStore& store, models::DualEncoder& model) : Task(store), model_(model) {}
  Variable loss(const Batch& batch, const models::Run& run) override;
  double weight(const Batch& batch) const override { return static_cast<double>(batch.size()); }
  Evaluation evaluate(Loader& loader) override;
  double step_flops(const Batch& batch) const override;
  void after_step() override { model_.clamp_logit_scale(); }

 private:
  models::DualEncoder& model_;
};

// Masked-language modelling: cross entropy at the masked positions.
class MlmTask : public Task {
 public:
  MlmTask(models::ParamStore& store, models::Bert& bert, models::MlmHead& head)
      : Task(store), bert_(bert), head_(head) {}
  Variable loss(const Batch& batch, const models::Run& run) override;
  double weight(const Batch& batch) const override { return static_cast<double>(batch.labels.numel()); }
  Evaluation evaluate(Loader& loader) override;
  double step_flops(const Batch& batch) const override;

 private:
  Variable logits(const Batch& batch, const models::Run& run);  // a batch on the device

  models::Bert& bert_;
  models::MlmHead& head_;
};

}  // namespace duet::train
