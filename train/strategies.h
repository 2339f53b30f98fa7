#pragma once

#include "duet/train/encoders.h"
#include "duet/train/metrics.h"
#include "duet/train/processors.h"
#include "duet/train/trainer.h"

// The stages that both strategies are made of. Each writes a run directory and leaves its model in RUN/model.
namespace duet::train {

// The three preset sizes; `mini` is what the quick start trains.
models::DualEncoderConfig preset_size(const std::string& name);

// What every stage needs to know besides how to train.
struct StageConfig {
  std::vector<std::string> data;   // dataset directories; several only for pretraining
  std::string out;                 // run directory
  std::string label;               // for the progress display
  models::DualEncoderConfig size;  // of encoders that start from scratch
  EncoderSources from;             // where the others start
  std::string vocab;               // vocabulary file; unused when the text encoder comes from a model directory
  InputConfig input;
  // Of fine-tuned classifiers over images and texts.
  models::ClassifierConfig::TextPooling text_pooling = models::ClassifierConfig::TextPooling::pooler;
  double dropout = -1;  // for both encoders; negative = as the encoder's config says
  TrainOptions options;
  Device device;
  bool graphs = true;                // see RunOptions
  std::shared_ptr<TraceFile> trace;  // likewise; of several stages that share it the first takes it
  bool resume = false;
  bool keep_checkpoints = true;
  std::string command;  // as typed, for config.json
};

// L_V: images with labels -> ViT classifier.
StageResult pretrain_vision(const StageConfig& config);
// L_L: texts with labels -> BERT classifier (objective "label"), or masked-language modelling ("mlm").
StageResult pretrain_text(const StageConfig& config, const std::string& objective);
// Image-text pairs without labels -> dual encoder, symmetric InfoNCE.
StageResult pretrain_joint(const StageConfig& config);

// A sample of the test split with the model's verdict.
struct Prediction {
  size_t sample;  // position in the split
  int64_t predicted;
  double probability;
};

struct FinetuneResult {
  StageResult training;
  Json test;  // ClassificationMetrics::to_json
  std::vector<Prediction> predictions;
  std::vector<Sample> samples;  // the test split, for the predictions

  Json to_json() const;  // training and test, without the predictions
};

// Which encoders a classifier has.
struct FinetuneParts {
  bool image = true, text = true;
};

// Stage 2: a new head on the encoders, all of it trained on the labelled train split (a fraction of each class).
FinetuneResult finetune(const StageConfig& config, const FinetuneParts& parts, double fraction = 1);

// The classifier in DIR, loaded for evaluation and prediction.
struct LoadedClassifier {
  models::ClassifierConfig config;
  std::unique_ptr<models::ParamStore> store;
  std::unique_ptr<models::Classifier> model;
  Processors processors;
};
LoadedClassifier load_classifier(const std::string& directory);

}  // namespace duet::train
