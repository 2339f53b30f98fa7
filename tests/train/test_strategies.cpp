#include "duet/train/strategies.h"

#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <fstream>

#include "duet/core/file.h"
#include "duet/core/parallel.h"
#include "duet/core/safetensors.h"
#include "duet/models/hub.h"
#include "duet/tests/device.h"
#include "duet/tests/train/tiny_data.h"
#include "duet/train/interrupt.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

class Strategies : public ::testing::Test {
 protected:
  Strategies() {
    set_threads(1);
    write_tiny_dataset(data(), 20, 8, 11);
    ::testing::internal::CaptureStderr();
  }
  ~Strategies() override { ::testing::internal::GetCapturedStderr(); }

  std::string data() const { return directory_ / "data"; }
  StageConfig stage(const std::string& name) const {
    StageConfig s;
    s.data = {data()};
    s.out = directory_ / name;
    s.label = name;
    s.size = tiny_size();
    s.vocab = data() + "/vocab.txt";
    s.options.steps = 6;
    s.options.batch = 8;
    s.options.workers = 0;
    s.options.lr = 5e-3;
    s.device = testing::device();
    return s;
  }
  // One step that leaves every parameter as it starts.
  StageConfig still(const std::string& name) const {
    StageConfig s = stage(name);
    s.options.steps = 1;
    s.options.lr = 0;
    return s;
  }
  static StageConfig starting(StageConfig s, const std::string& vision, const std::string& text) {
    s.from = {.vision = vision, .text = text};
    return s;
  }
  SafetensorsFile weights(const std::string& name) const {
    return SafetensorsFile::open(directory_ / (name + "/model/model.safetensors"));
  }
  bool has(const std::string& file) const { return fs::exists(directory_ / file); }
  // Compares the tensors of one model below `prefix` with those of another; returns their number.
  int expect_same(const std::string& a, const std::string& prefix, const std::string& b, const std::string& other,
                  bool same = true) {
    const SafetensorsFile first = weights(a), second = weights(b);
    int count = 0;
    for (const std::string& name : first.names()) {
      if (!name.starts_with(prefix)) continue;
      const std::string counterpart = other + name.substr(prefix.size());
      if (!second.contains(counterpart)) continue;
      ++count;
      EXPECT_EQ(same_bits(first.load(name), second.load(counterpart)), same) << name;
    }
    return count;
  }

  TemporaryDirectory directory_;
};

TEST_F(Strategies, PretrainVision) {
  const StageResult result = pretrain_vision(stage("vision"));
  EXPECT_EQ(result.steps, 6);
  EXPECT_EQ(result.samples_seen, 2 * 20);  // 8, 8 and 4 samples an epoch
  EXPECT_EQ(result.evaluations.size(), 2u);
  EXPECT_TRUE(has("vision/model/preprocessor_config.json"));
  EXPECT_FALSE(has("vision/model/vocab.txt"));
  const LoadedClassifier c = load_classifier(directory_ / "vision/model");
  EXPECT_TRUE(c.config.vision && !c.config.text);
  EXPECT_EQ(c.config.labels, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(c.processors.input.image_size, 16);
  EXPECT_EQ(c.processors.input.steps.fit, Fit::pad);
  const Json config = read_json(directory_ / "vision/config.json");
  EXPECT_EQ(config.at("stage"), "pretrain vision");
  EXPECT_EQ(config.at("data")[0].at("train"), 20);
  EXPECT_EQ(config.at("options").at("steps"), 6);
}

TEST_F(Strategies, PretrainTextOnLabels) {
  const StageResult result = pretrain_text(stage("text"), "label");
  EXPECT_EQ(result.steps, 6);
  EXPECT_TRUE(has("text/model/vocab.txt"));
  EXPECT_FALSE(has("text/model/preprocessor_config.json"));
  const LoadedClassifier c = load_classifier(directory_ / "text/model");
  EXPECT_TRUE(c.config.text && !c.config.vision);
  EXPECT_EQ(c.config.text->vocab_size, 14);
  EXPECT_EQ(c.processors.tokenizer->encode("blue").ids, (std::vector<int32_t>{2, 7, 3}));
}

TEST_F(Strategies, PretrainTextByMasking) {
  StageConfig s = stage("mlm");
  s.options.mask_probability = 0.4;
  const StageResult result = pretrain_text(s, "mlm");
  ASSERT_FALSE(result.evaluations.empty());
  EXPECT_TRUE(result.evaluations[0].contains("validation_masked_accuracy"));
  EXPECT_EQ(models::read_model_config(directory_ / "mlm/model").at("architectures")[0], "BertForMaskedLM");
  EXPECT_CONTAINS(message_of([&] { pretrain_text(stage("x"), "next"); }), "unknown objective \"next\"");
}

TEST_F(Strategies, PretrainJointNeedsNoLabels) {
  std::string manifest = read_file(data() + "/manifest.jsonl");
  for (size_t at; (at = manifest.find(",\"label\":")) != manifest.npos;) manifest.erase(at, 12);
  std::ofstream(data() + "/manifest.jsonl") << manifest;
  const StageResult result = pretrain_joint(stage("joint"));
  EXPECT_EQ(result.steps, 6);
  EXPECT_TRUE(has("joint/model/vocab.txt") && has("joint/model/preprocessor_config.json"));
  EXPECT_EQ(models::read_model_config(directory_ / "joint/model").at("model_type"), "vision-text-dual-encoder");
  EXPECT_TRUE(std::isfinite(result.loss_per_epoch.back()));
  EXPECT_CONTAINS(message_of([&] { pretrain_vision(stage("vision")); }), "no training sample has all");
}

TEST_F(Strategies, WholeStartsFromTheJointModel) {
  pretrain_joint(stage("joint"));
  const std::string joint = directory_ / "joint/model";
  finetune(starting(still("whole"), joint, joint), {});
  EXPECT_GT(expect_same("whole", "vision_model.", "joint", "vision_model."), 20);
  EXPECT_GT(expect_same("whole", "text_model.", "joint", "text_model."), 20);
  StageConfig moving = starting(still("moving"), joint, joint);
  moving.options.lr = 0.01;
  moving.options.warmup = 0;
  finetune(moving, {});
  const SafetensorsFile before = weights("joint"), after = weights("moving");
  const std::string name = "text_model.pooler.dense.weight";
  EXPECT_FALSE(same_bits(before.load(name), after.load(name)));  // all of it is trained
  const Json config = read_json(directory_ / "whole/config.json");
  EXPECT_EQ(config.at("from").at("vision"), joint);
  EXPECT_CONTAINS(read_file(directory_ / "whole/model/README.md"), "# Image and text classifier");
  EXPECT_CONTAINS(read_file(directory_ / "joint/model/README.md"), "VisionTextDualEncoderModel.from_pretrained");
  EXPECT_EQ(config.at("fraction"), 1);
}

TEST_F(Strategies, ComponentCombinesTheParts) {
  StageConfig vision = stage("vision"), text = stage("mlm");
  vision.input.steps.fit = Fit::stretch;  // the fine-tuned model must prepare images as its encoder learned them
  text.options.mask_probability = 0.4;
  pretrain_vision(vision);
  pretrain_text(text, "mlm");
  StageConfig s = starting(still("component"), directory_ / "vision/model", directory_ / "mlm/model");
  s.vocab.clear();  // comes with the text encoder
  const FinetuneResult result = finetune(s, {});
  EXPECT_GT(expect_same("component", "vision_model.", "vision", "vit."), 20);
  EXPECT_GT(expect_same("component", "text_model.", "mlm", "bert."), 20);
  EXPECT_EQ(load_classifier(directory_ / "component/model").processors.input.steps.fit, Fit::stretch);
  EXPECT_EQ(result.test.at("labels").size(), 3u);

  StageConfig frozen = starting(stage("frozen"), directory_ / "vision/model", directory_ / "mlm/model");
  frozen.options.freeze = {"vision_model.*"};
  finetune(frozen, {});
  EXPECT_GT(expect_same("frozen", "vision_model.", "vision", "vit."), 20);
  EXPECT_FALSE(same_bits(weights("frozen").load("classifier.weight"), weights("component").load("classifier.weight")));
}

// Stage 1 can start from a model directory too, of any kind, and at another image size.
TEST_F(Strategies, PretrainingStartsFromModels) {
  pretrain_vision(stage("vision"));
  pretrain_text(stage("text"), "label");
  const std::string vision = directory_ / "vision/model", text = directory_ / "text/model";
  StageConfig joint = starting(still("joint"), vision, text);
  joint.vocab.clear();
  pretrain_joint(joint);
  EXPECT_GT(expect_same("joint", "vision_model.", "vision", "vit."), 20);
  EXPECT_GT(expect_same("joint", "text_model.", "text", "bert."), 20);
  StageConfig more = starting(still("more"), "", directory_ / "joint/model");
  pretrain_text(more, "mlm");
  EXPECT_GT(expect_same("more", "bert.", "joint", "text_model."), 20);

  StageConfig larger = starting(still("larger"), vision, "");
  larger.from.image_size = 24;
  pretrain_vision(larger);
  const LoadedClassifier loaded = load_classifier(directory_ / "larger/model");
  EXPECT_EQ(loaded.processors.input.image_size, 24);
  const Tensor positions = weights("larger").load("vit.embeddings.position_embeddings");
  EXPECT_TRUE(
      same_bits(positions, models::interpolate_positions(weights("vision").load("vit.embeddings.position_embeddings"),
                                                         24 / 8, 24 / 8, models::Interpolation::hugging_face)));
}

TEST_F(Strategies, ARunIsNotWrittenOverAModel) {
  pretrain_vision(stage("vision"));
  const std::string model = directory_ / "vision/model", config = read_file(model + "/config.json");
  StageConfig s = starting(stage("x"), model, "");
  s.out = model;
  EXPECT_CONTAINS(message_of([&] { finetune(s, {.text = false}); }), "holds a model and is no run");
  EXPECT_CONTAINS(message_of([&] { pretrain_joint(s); }), "holds a model and is no run");
  fs::remove(model + "/model.safetensors");
  EXPECT_CONTAINS(message_of([&] { pretrain_text(s, "label"); }), "was not written by a run");
  EXPECT_EQ(read_file(model + "/config.json"), config);
}

TEST_F(Strategies, EncodersBringTheirImageProcessor) {
  pretrain_vision(stage("vision"));
  const std::string vision = directory_ / "vision/model";
  const auto finetune_with = [&](const std::string& processor) {
    write_file_atomically(vision + "/preprocessor_config.json", processor);
    finetune(starting(stage("image-only"), vision, ""), {.text = false});
  };
  finetune_with(R"({"image_processor_type": "CLIPImageProcessor", "size": 20, "crop_size": 16, "resample": 1})");
  const InputConfig input = load_classifier(directory_ / "image-only/model").processors.input;
  EXPECT_EQ(input.image_size, 16);
  EXPECT_EQ(input.steps.fit, Fit::shortest_edge);
  EXPECT_EQ(input.steps.shortest_edge, 20);
  EXPECT_EQ(input.steps.resample, Resample::lanczos);
  EXPECT_CONTAINS(message_of([&] { finetune_with(R"({"size": 24})"); }), "24 x 24 pixels, but the model takes 16 x 16");
  EXPECT_CONTAINS(message_of([&] { finetune_with(R"({"size": {"height": 16, "width": 8}})"); }), "8 x 16 pixels");
}

TEST_F(Strategies, BaselinesUseOnePart) {
  FinetuneParts parts;
  parts.text = false;
  finetune(stage("image-only"), parts);
  EXPECT_FALSE(load_classifier(directory_ / "image-only/model").config.text);
  EXPECT_FALSE(has("image-only/model/vocab.txt"));
  parts = {.image = false};
  finetune(stage("text-only"), parts);
  EXPECT_FALSE(load_classifier(directory_ / "text-only/model").config.vision);
}

TEST_F(Strategies, TheSavedModelGivesTheReportedTestResult) {
  StageConfig s = stage("run");
  s.options.steps = 12;
  s.dropout = 0.1;
  const FinetuneResult result = finetune(s, {});
  const LoadedClassifier loaded = load_classifier(directory_ / "run/model");
  EXPECT_EQ(loaded.config.head_dropout, 0.1);
  loaded.store->to(testing::device());
  InputConfig input = loaded.processors.input;
  input.use_labels = true;
  const Dataset dataset = Dataset::open(data());
  const auto source =
      std::make_shared<const SampleSource>(dataset, dataset.split("test"), loaded.processors.tokenizer, input);
  ClassifyTask task(*loaded.store, *loaded.model, {}, {});
  Loader loader(source, {.batch = 64, .shuffle = false, .workers = 0});
  const ClassifyTask::Predictions p = task.predict(loader);
  ASSERT_EQ(result.predictions.size(), 11u);
  ASSERT_EQ(result.samples.size(), 11u);
  double hits = 0;
  for (size_t i = 0; i < 11; ++i) {
    const Prediction& verdict = result.predictions[i];
    EXPECT_EQ(verdict.sample, i);
    EXPECT_EQ(verdict.probability, p.probabilities[i * 3 + static_cast<size_t>(verdict.predicted)]);
    for (size_t k = 0; k < 3; ++k) EXPECT_LE(p.probabilities[i * 3 + k], verdict.probability);
    hits += verdict.predicted == result.samples[i].label;
  }
  EXPECT_NEAR(result.test.at("accuracy").get<double>(), hits / 11, 1e-12);
  EXPECT_EQ(result.test.at("loss").get<double>(), p.loss);
  EXPECT_EQ(read_json(directory_ / "run/result.json").at("test"), result.test);
}

TEST_F(Strategies, AFractionTakesPartOfEachClass) {
  StageConfig s = stage("run");
  s.options.steps = 0;
  s.options.epochs = 1;
  const FinetuneResult result = finetune(s, {}, 0.5);
  EXPECT_EQ(result.training.samples_seen, 10);  // 4 of 8 a, 4 of 8 b, 2 of 4 c
  EXPECT_EQ(read_json(s.out + "/config.json").at("fraction"), 0.5);
  s.resume = true;
  EXPECT_CONTAINS(message_of([&] { finetune(s, {}, 0.25); }), "was started with another");
  for (const double f : {0.0, -1.0, 1.5})
    EXPECT_CONTAINS(message_of([&] { finetune(s, {}, f); }), text("must be in (0, 1], got ", f));
}

TEST_F(Strategies, AFinishedStageIsNotRepeated) {
  StageConfig s = stage("vision");
  s.keep_checkpoints = false;
  const StageResult first = pretrain_vision(s);
  const auto written = fs::last_write_time(s.out + "/metrics.jsonl");
  s.resume = true;
  EXPECT_EQ(pretrain_vision(s).to_json(), first.to_json());
  EXPECT_EQ(fs::last_write_time(s.out + "/metrics.jsonl"), written);
  s.options.lr = 1;
  EXPECT_CONTAINS(message_of([&] { pretrain_vision(s); }), "was started with another options/lr: 0.005, now 1");
}

TEST_F(Strategies, CheckpointsStayUntilTheResultIsWritten) {
  const std::string image = data() + "/images/s30.png", good = read_file(image);  // of the test split
  write_file_atomically(image, std::string(good.size(), 'x'));
  StageConfig s = stage("run");
  s.keep_checkpoints = false;
  EXPECT_CONTAINS(message_of([&] { finetune(s, {}); }), "s30");
  EXPECT_TRUE(has("run/checkpoints/step-6"));
  const std::string metrics = read_file(s.out + "/metrics.jsonl");
  write_file_atomically(image, good);
  s.resume = true;
  EXPECT_EQ(finetune(s, {}).training.steps, 6);
  EXPECT_EQ(read_file(s.out + "/metrics.jsonl"), metrics);  // no step was repeated
  EXPECT_FALSE(has("run/checkpoints"));
}

// In a process of its own, because an arrived signal stays.
TEST_F(Strategies, SignalsAfterTheLastStepStopTheTestPrediction) {
  StageConfig s = stage("run");
  finetune(s, {});
  s.resume = true;  // its training is over, so that only the prediction is left to stop
  ::testing::internal::GetCapturedStderr();
  const auto interrupted = [&] {
    catch_interrupts();
    std::raise(SIGTERM);
    try {
      finetune(s, {});
    } catch (const Interrupted& e) {
      std::fprintf(stderr, "%s\n", e.what());
      std::_Exit(130);
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(interrupted(), ::testing::ExitedWithCode(130), "while predicting the test split; continue with --resume");
  ::testing::internal::CaptureStderr();
}

TEST_F(Strategies, OtherDataCannotContinueARun) {
  StageConfig s = stage("run");
  finetune(s, {});
  std::string manifest = read_file(data() + "/manifest.jsonl");
  const size_t at = manifest.find("\"label\":\"a\"");
  manifest[at + 9] = 'b';
  std::ofstream(data() + "/manifest.jsonl") << manifest;
  s.resume = true;
  EXPECT_CONTAINS(message_of([&] { finetune(s, {}); }), "data/0/fingerprint");
}

TEST_F(Strategies, AFinishedStageIsOnlyThatOfItsDataModelAndObjective) {
  StageConfig s = stage("run");
  pretrain_text(s, "label");
  s.resume = true;
  s.command = "typed differently";
  EXPECT_EQ(pretrain_text(s, "label").steps, 6);
  EXPECT_CONTAINS(message_of([&] { pretrain_text(s, "mlm"); }), "was started with another model");
  EXPECT_CONTAINS(message_of([&] { pretrain_joint(s); }), "was started with another stage");
  StageConfig larger = s;
  larger.size.text.intermediate_size = 32;
  EXPECT_CONTAINS(message_of([&] { pretrain_text(larger, "label"); }), "model/intermediate_size");
  std::ofstream(data() + "/vocab.txt", std::ios::app) << "more\n";
  EXPECT_CONTAINS(message_of([&] { pretrain_text(s, "label"); }), "model/vocab_size");
  std::string manifest = read_file(data() + "/manifest.jsonl");
  manifest[manifest.find("\"label\":\"a\"") + 9] = 'b';
  std::ofstream(data() + "/manifest.jsonl") << manifest;
  EXPECT_CONTAINS(message_of([&] { pretrain_text(s, "label"); }), "data/0/fingerprint");
}

TEST_F(Strategies, ErrorsComeBeforeTraining) {
  StageConfig s = stage("run");
  s.vocab.clear();
  EXPECT_CONTAINS(message_of([&] { finetune(s, {}); }), "pass --vocab FILE");
  s = stage("run");
  s.data.push_back(data());
  EXPECT_CONTAINS(message_of([&] { finetune(s, {}); }), "exactly one --data directory is needed, got 2");
  pretrain_text(stage("text"), "label");
  EXPECT_CONTAINS(message_of([&] { finetune(starting(stage("run"), directory_ / "text/model", ""), {}); }),
                  "holds a model of type \"bert\", no vision encoder");
  std::ofstream(data() + "/manifest.jsonl", std::ios::app)
      << R"({"id": "bare", "text": "red", "label": "a", "split": "test"})"
      << "\n";
  EXPECT_CONTAINS(message_of([&] { finetune(stage("run"), {}); }), "sample bare has no image");
  EXPECT_FALSE(has("run/metrics.jsonl"));
}

TEST(PresetSize, Names) {
  EXPECT_EQ(preset_size("base").vision.hidden_size, 768);
  EXPECT_EQ(preset_size("base").text.vocab_size, 30522);
  EXPECT_EQ(preset_size("tiny").text.num_hidden_layers, 4);
  EXPECT_EQ(preset_size("mini").vision.tokens(), 65);
  EXPECT_CONTAINS(message_of([] { preset_size("huge"); }), "unknown size \"huge\"; use mini, tiny or base");
}

}  // namespace
}  // namespace duet::train
