#include <gtest/gtest.h>

#include <sstream>

#include "duet/autograd/grad_mode.h"
#include "duet/core/file.h"
#include "duet/core/safetensors.h"
#include "duet/models/dual_encoder.h"
#include "duet/models/hub.h"
#include "duet/models/multimodal.h"
#include "duet/tests/tools/run_duet.h"
#include "duet/tools/model_input.h"

namespace duet::tools {
namespace {

template <class Config>
Config small(Config c) {
  c.hidden_size = 8;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 2;
  c.intermediate_size = 16;
  c.initializer_range = 0.5;  // so that different inputs give clearly different vectors
  return c;
}

models::VitConfig vision_config() {
  models::VitConfig c = small(models::VitConfig());
  c.image_size = 8;
  c.patch_size = 4;
  return c;
}

models::BertConfig text_config() {
  models::BertConfig c = small(models::BertConfig());
  c.vocab_size = 8;
  c.max_position_embeddings = 10;
  return c;
}

// A model directory of any kind and a small dataset, made afresh for each test.
class Embed : public ::testing::Test {
 protected:
  Embed() {
    train::Image image{8, 8, {}};
    for (int i = 0; i < 8 * 8 * 3; ++i) image.rgb.push_back(static_cast<uint8_t>(i * 37));
    write_file_atomically(directory_ / "a.png", train::encode_png(image));
    std::reverse(image.rgb.begin(), image.rgb.end());
    write_file_atomically(directory_ / "b.png", train::encode_png(image));
    write_file_atomically(directory_ / "manifest.jsonl",
                          R"({"id": "1", "image": "a.png", "text": "red cat", "split": "train"}
{"id": "2", "image": "b.png", "text": "cat", "split": "test"}
{"id": "3", "text": "red red red cat", "split": "test"}
)");
    processors_.tokenizer = std::make_shared<const train::Tokenizer>(
        train::Tokenizer::from_vocab({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "cat", "##s"}));
    processors_.input.image_size = 8;
    processors_.input.max_length = 10;
  }

  std::string save(const Json& config) {
    models::save_model_directory(directory_ / "model", store_, config,
                                 [&](const std::string& directory) { processors_.save(directory); });
    return "embed --model " + directory_ / "model ";
  }

  std::vector<Json> lines(const std::string& arguments, std::string* err = nullptr) {
    const auto run = run_duet(arguments);
    EXPECT_EQ(run.status, 0) << run.err;
    if (err) *err = run.err;
    std::vector<Json> result;
    std::istringstream in(run.out);
    for (std::string line; std::getline(in, line);) result.push_back(parse_json(line, "line"));
    return result;
  }

  void expect_failure(const std::string& arguments, const std::string& message) {
    const auto run = run_duet(arguments);
    EXPECT_EQ(run.status, 1) << arguments;
    EXPECT_NE(run.err.find(message), std::string::npos) << run.err;
    EXPECT_EQ(run.out, "");
  }

  // Bit for bit: the text must carry all of a float.
  static void expect_equal(const Json& list, const Tensor& expected) {
    const auto values = expected.values<float>();
    EXPECT_EQ(list.get<std::vector<float>>(), std::vector<float>(values.begin(), values.end()));
  }
  static void expect_near(const Json& list, const Tensor& expected) {
    ASSERT_EQ(static_cast<int64_t>(list.size()), expected.numel());
    for (size_t i = 0; i < list.size(); ++i)
      EXPECT_NEAR(list[i].get<double>(), expected.at(static_cast<int64_t>(i)), 1e-5) << i;
  }

  const NoGrad no_grad_;
  TemporaryDirectory directory_;
  models::ParamStore store_{1};
  train::Processors processors_;
};

TEST_F(Embed, BertTextWithHiddenStates) {
  const models::Bert bert({store_, "text_model"}, text_config(), true);
  const std::string command = save(text_config().to_json());
  const auto result = lines(command + "--hidden --text 'red cat'");
  ASSERT_EQ(result.size(), 1u);
  const Variable hidden = bert(text_input("red cat", processors_), {});
  EXPECT_EQ(result[0]["id"], "red cat");
  expect_equal(result[0]["pooled"], bert.pool(models::first_token(hidden)).data());
  EXPECT_FALSE(result[0].contains("projected"));
  ASSERT_EQ(result[0]["last_hidden_state"].size(), 4u);  // [CLS] red cat [SEP]
  for (int64_t t = 0; t < 4; ++t)
    expect_equal(result[0]["last_hidden_state"][static_cast<size_t>(t)],
                 hidden.data().reshape({4, 8}).rows_view(t, t + 1));
  EXPECT_FALSE(lines(command + "--text ''")[0].contains("last_hidden_state"));
}

TEST_F(Embed, RunDirectory) {
  const models::Bert bert({store_, "text_model"}, text_config(), true);
  const std::string command = save(text_config().to_json());
  EXPECT_EQ(lines("embed --model " + directory_.path() + " --text cat"), lines(command + "--text cat"));
  EXPECT_EQ(lines("embed --model " + directory_.path() + " --data " + directory_.path()).size(), 3u);
}

TEST_F(Embed, DatasetLeavesOutPadding) {
  const models::Bert bert({store_, "text_model"}, text_config(), true);
  const auto result = lines(save(text_config().to_json()) + "--hidden --data " + directory_.path());
  ASSERT_EQ(result.size(), 3u);
  const std::vector<std::string> texts = {"red cat", "cat", "red red red cat"};
  const std::vector<size_t> tokens = {4, 3, 6};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(result[i]["id"], std::to_string(i + 1));
    EXPECT_EQ(result[i]["last_hidden_state"].size(), tokens[i]);
    expect_near(result[i]["pooled"], bert.pool(bert.class_token(text_input(texts[i], processors_), {})).data());
  }
}

// Without hidden states what the pooled vector does not need is not computed.
TEST_F(Embed, PooledVectorsAreThoseBesideHiddenStates) {
  const models::Bert bert({store_, "text_model"}, text_config(), true);
  const std::string command = save(text_config().to_json()) + "--data " + directory_.path();
  const auto with = lines(command + " --hidden"), without = lines(command);
  ASSERT_EQ(with.size(), without.size());
  for (size_t i = 0; i < with.size(); ++i) {
    EXPECT_FALSE(without[i].contains("last_hidden_state"));
    ASSERT_EQ(with[i]["pooled"].size(), without[i]["pooled"].size());
    for (size_t d = 0; d < with[i]["pooled"].size(); ++d)
      EXPECT_NEAR(with[i]["pooled"][d].get<double>(), without[i]["pooled"][d].get<double>(), 1e-6);
  }
}

TEST_F(Embed, WritesAFileOfTensors) {
  const models::Bert bert({store_, "text_model"}, text_config(), true);
  const std::string command = save(text_config().to_json()) + "--data " + directory_.path();
  const std::string path = directory_ / "vectors.safetensors";
  const auto printed = lines(command + " --hidden --batch 2");
  const auto run = run_duet(command + " --hidden --batch 2 --output " + path);
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "written   " + path + ": 3 vectors of 8\n");
  const SafetensorsFile file = SafetensorsFile::open(path);
  EXPECT_EQ(file.names().size(), 3u);
  EXPECT_EQ(file.metadata().at("ids"), R"(["1","2","3"])");
  const Tensor pooled = file.load("pooled"), hidden = file.load("last_hidden_state"),
               mask = file.load("attention_mask");
  EXPECT_EQ(hidden.shape(), (Shape{3, 6, 8}));  // the longest text has six tokens
  EXPECT_EQ(mask.shape(), (Shape{3, 6}));
  for (int64_t i = 0; i < 3; ++i) {
    const Json& line = printed[static_cast<size_t>(i)];
    expect_equal(line["pooled"], pooled.rows_view(i, i + 1));
    for (int64_t t = 0; t < 6; ++t) {
      const bool real = t < static_cast<int64_t>(line["last_hidden_state"].size());
      EXPECT_EQ(mask.at(i * 6 + t), real ? 1 : 0);
      const Tensor row = hidden.rows_view(i, i + 1).reshape({6, 8}).rows_view(t, t + 1);
      if (real)
        expect_equal(line["last_hidden_state"][static_cast<size_t>(t)], row);
      else
        for (int64_t d = 0; d < 8; ++d) EXPECT_EQ(row.at(d), 0);
    }
  }
  EXPECT_EQ(run_duet(command + " --output " + path).status, 0);
  EXPECT_EQ(SafetensorsFile::open(path).names(), std::vector<std::string>{"pooled"});
  expect_failure(command + " --output " + directory_ / "none/vectors.safetensors", "cannot write");
}

TEST_F(Embed, CutsTexts) {
  const models::Bert bert({store_, "text_model"}, text_config(), true);
  const std::string command = save(text_config().to_json());
  EXPECT_EQ(lines(command + "--max-length 3 --text 'red cat'")[0]["pooled"],
            lines(command + "--text red")[0]["pooled"]);
  EXPECT_EQ(lines(command + "--hidden --text 'red red red red red red red red red red'")[0]["last_hidden_state"].size(),
            10u);
  expect_failure(command + "--max-length 11 --text red", "--max-length 11: the model takes up to 10 tokens");
}

TEST_F(Embed, VisionClassifierHasNoPooler) {
  models::ClassifierConfig config;
  config.vision = vision_config();
  config.labels = {"x", "y"};
  const models::Classifier classifier({store_, ""}, config);
  const std::string command = save(config.to_json());
  std::string err;
  const auto result = lines(command + "--hidden --image " + directory_ / "a.png", &err);
  ASSERT_EQ(result.size(), 1u);
  EXPECT_EQ(result[0]["id"], directory_ / "a.png");
  ASSERT_EQ(result[0]["last_hidden_state"].size(), 5u);  // class token and 2 x 2 patches
  EXPECT_EQ(result[0]["pooled"], result[0]["last_hidden_state"][0]);
  EXPECT_NE(err.find("note: the model has no pooler"), std::string::npos) << err;
  // The logits follow from the pooled vector, so it is the right one.
  const Tensor logits = classifier(Variable(image_input(directory_ / "a.png", processors_.input)), {}, {}).data();
  const Tensor weight = store_.at("classifier.weight").data();
  for (int64_t k = 0; k < 2; ++k) {
    double sum = store_.at("classifier.bias").data().at(k);
    for (int64_t c = 0; c < 8; ++c)
      sum += weight.at(k * 8 + c) * result[0]["pooled"][static_cast<size_t>(c)].get<double>();
    EXPECT_NEAR(sum, logits.at(k), 1e-5);
  }
  expect_failure(command + "--text red", "no text encoder");
}

TEST_F(Embed, DualEncoderProjects) {
  models::DualEncoderConfig config;
  config.vision = vision_config();
  config.text = text_config();
  config.projection_dim = 6;
  const models::DualEncoder model({store_, ""}, config);
  const std::string command = save(config.to_json());
  const auto text = lines(command + "--text cat"), image = lines(command + "--image " + directory_ / "b.png");
  expect_equal(text[0]["projected"], model.text_features(text_input("cat", processors_), {}).data());
  expect_equal(image[0]["projected"],
               model.image_features(Variable(image_input(directory_ / "b.png", processors_.input)), {}).data());
  EXPECT_EQ(text[0]["pooled"].size(), 8u);

  expect_failure(command + "--data " + directory_.path(), "pass --modality image or --modality text");
  std::string err;
  const auto images = lines(command + "--modality image --data " + directory_.path(), &err);
  ASSERT_EQ(images.size(), 2u);
  EXPECT_EQ(images[1]["id"], "2");
  EXPECT_NE(err.find("1 rows without image are left out"), std::string::npos) << err;
  expect_near(images[1]["projected"],
              model.image_features(Variable(image_input(directory_ / "b.png", processors_.input)), {}).data());
  const auto texts = lines(command + "--modality text --split test --data " + directory_.path());
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(texts[0]["id"], "2");
  expect_near(texts[0]["projected"], model.text_features(text_input("cat", processors_), {}).data());
}

TEST_F(Embed, MultimodalClassifierEmbedsEitherPart) {
  models::ClassifierConfig config;
  config.vision = vision_config();
  config.text = text_config();
  config.labels = {"x", "y"};
  const models::Classifier classifier({store_, ""}, config);
  const std::string command = save(config.to_json());
  const auto image = lines(command + "--image " + directory_ / "a.png"), text = lines(command + "--text cat");
  // Both vectors, one after the other, are what the head sees.
  const Tensor logits =
      classifier(Variable(image_input(directory_ / "a.png", processors_.input)), text_input("cat", processors_), {})
          .data();
  const Tensor weight = store_.at("classifier.weight").data();
  double sum = store_.at("classifier.bias").data().at(0);
  for (size_t c = 0; c < 8; ++c)
    sum += weight.at(static_cast<int64_t>(c)) * image[0]["pooled"][c].get<double>() +
           weight.at(static_cast<int64_t>(c + 8)) * text[0]["pooled"][c].get<double>();
  EXPECT_NEAR(sum, logits.at(0), 1e-5);
}

TEST_F(Embed, Usage) {
  EXPECT_EQ(run_duet("embed --model m").status, 2);
  EXPECT_EQ(run_duet("embed --model m --text a --image b").status, 2);
  EXPECT_EQ(run_duet("embed --model m --text a --split test").status, 2);
  EXPECT_EQ(run_duet("embed --model m --data d --modality sound").status, 2);
  expect_failure("embed --text a --model " + directory_.path(), "is no model directory");
}

}  // namespace
}  // namespace duet::tools
