#include <gtest/gtest.h>

#include "duet/models/dual_encoder.h"
#include "duet/models/multimodal.h"
#include "duet/tests/train/expect.h"

namespace duet::models {
namespace {

using train::message_of;

Json with(Json json, const std::string& key, const Json& value) {
  json[key] = value;
  return json;
}

// Each case must be refused by a message that names the key or the value.
TEST(Config, RefusesWhatIsImpossibleOrUnsupportedByName) {
  const Json vit = VitConfig().to_json(), bert = BertConfig().to_json();
  const auto refused_vit = [&](const char* key, const Json& value, const char* named) {
    EXPECT_CONTAINS(message_of([&] { VitConfig::from_json(with(vit, key, value)); }), named);
  };
  const auto refused_bert = [&](const char* key, const Json& value, const char* named) {
    EXPECT_CONTAINS(message_of([&] { BertConfig::from_json(with(bert, key, value)); }), named);
  };
  refused_vit("hidden_act", "relu", "hidden_act \"relu\"");
  refused_vit("hidden_size", 0, "hidden_size 0");
  refused_vit("hidden_size", "wide", "\"hidden_size\" has the wrong type");
  for (const Json& number : {Json(16.5), Json(16.0), Json(1e66), Json(uint64_t{1} << 63), Json(true)})
    refused_vit("hidden_size", number, "\"hidden_size\" has the wrong type");
  refused_vit("image_size", Json::array({1e66, 1e66}), "\"image_size\" has the wrong type");
  refused_vit("image_size", Json::array({nullptr, nullptr}), "image_size [null,null]");
  refused_vit("num_hidden_layers", -1, "num_hidden_layers -1");
  refused_vit("num_attention_heads", 7, "does not divide into 7 attention heads");
  refused_vit("num_attention_heads", 0, "0 attention heads");
  refused_vit("intermediate_size", 0, "intermediate_size 0");
  refused_vit("hidden_dropout_prob", 1, "hidden_dropout_prob");
  refused_vit("attention_probs_dropout_prob", -0.1, "attention_probs_dropout_prob");
  refused_vit("layer_norm_eps", 0, "layer_norm_eps");
  refused_vit("image_size", 225, "image_size 225");
  refused_vit("patch_size", Json{16, 8}, "patch_size [16,8]");
  refused_vit("patch_size", 0, "patches of 0");
  refused_vit("num_channels", 0, "num_channels");
  refused_vit("pooler_act", "relu", "pooler_act \"relu\"");
  refused_vit("pooler_output_size", 100, "pooler_output_size 100");
  refused_bert("position_embedding_type", "relative_key", "position_embedding_type \"relative_key\"");
  refused_bert("is_decoder", true, "is_decoder");
  refused_bert("add_cross_attention", true, "add_cross_attention");
  refused_bert("vocab_size", 0, "vocab_size");
  refused_bert("type_vocab_size", 0, "type_vocab_size");
}

TEST(Config, KeepsDefaultsForAbsentKeysAndAcceptsNewForms) {
  const VitConfig vit = VitConfig::from_json(Json{{"patch_size", {32, 32}}, {"image_size", {64, 64}}});
  EXPECT_EQ(vit.patch_size, 32);
  EXPECT_EQ(vit.tokens(), 5);
  EXPECT_EQ(vit.hidden_size, 768);
  EXPECT_EQ(vit.hidden_dropout_prob, 0);
  EXPECT_EQ(vit.layer_norm_eps, 1e-12);
  const BertConfig bert = BertConfig::from_json(Json{{"pad_token_id", nullptr}});
  EXPECT_EQ(bert.hidden_dropout_prob, 0.1);
  EXPECT_EQ(bert.vocab_size, 30522);
  EXPECT_EQ(bert.pad_token_id, -1);
  EXPECT_TRUE(bert.to_json()["pad_token_id"].is_null());
}

TEST(Config, SurvivesARoundTrip) {
  DualEncoderConfig c;
  c.vision.hidden_size = 96;
  c.vision.num_attention_heads = 3;
  c.vision.qkv_bias = false;
  c.vision.image_size = 64;
  c.vision.patch_size = 8;
  c.vision.hidden_act = "gelu_new";
  c.text.vocab_size = 99;
  c.text.layer_norm_eps = 1e-5;
  c.text.initializer_range = 0.07;
  c.projection_dim = 33;
  c.logit_scale_init_value = 1.5;
  EXPECT_EQ(DualEncoderConfig::from_json(c.to_json()).to_json(), c.to_json());
  ClassifierConfig classifier{c.vision, c.text, {"cat", "dog", "owl"}, 0.25};
  EXPECT_EQ(ClassifierConfig::from_json(classifier.to_json()).to_json(), classifier.to_json());
  EXPECT_EQ(ClassifierConfig::from_json(classifier.to_json()).labels[2], "owl");
}

TEST(Config, RefusesOtherModels) {
  const Json vit = VitConfig().to_json(), bert = BertConfig().to_json();
  const Json clip{{"vision_config", {{"model_type", "clip_vision_model"}}}, {"text_config", bert}};
  EXPECT_CONTAINS(message_of([&] { DualEncoderConfig::from_json(clip); }), "clip_vision_model");
  EXPECT_CONTAINS(message_of([&] { DualEncoderConfig::from_json(Json{{"vision_config", vit}}); }), "text_config");
  EXPECT_CONTAINS(message_of([&] { ClassifierConfig::from_json(Json{{"model_type", "roberta"}}); }), "roberta");
  const auto classifier_error = [&](const char* key, const Json& value) {
    return message_of([&] { ClassifierConfig::from_json(with(bert, key, value)); });
  };
  EXPECT_CONTAINS(classifier_error("id2label", Json::array({"a"})), "id2label must be an object");
  EXPECT_CONTAINS(classifier_error("id2label", {{"0", 1}}), "id2label \"0\" must be a string");
  EXPECT_CONTAINS(classifier_error("num_labels", 4'000'000'000), "num_labels 4000000000");
  EXPECT_CONTAINS(classifier_error("classifier_dropout", 1), "classifier_dropout");
  EXPECT_CONTAINS(message_of([] {
                    ClassifierConfig::from_json({{"model_type", "duet-multimodal-classifier"}});
                  }),
                  "needs vision_config");
  EXPECT_CONTAINS(
      message_of([&] { ClassifierConfig::from_json(with(bert, "problem_type", "multi_label_classification")); }),
      "multi_label_classification");
  EXPECT_CONTAINS(message_of([&] {
                    ClassifierConfig::from_json(with(vit, "id2label", Json{{"1", "cat"}}));
                  }),
                  "id2label has no entry \"0\"");
}

TEST(Config, TakesHeadDropoutAsHuggingFaceDoes) {
  const Json bert = with(BertConfig().to_json(), "hidden_dropout_prob", 0.3);
  EXPECT_EQ(ClassifierConfig::from_json(bert).head_dropout, 0.3);
  EXPECT_EQ(ClassifierConfig::from_json(with(bert, "classifier_dropout", 0.2)).head_dropout, 0.2);
  EXPECT_EQ(ClassifierConfig::from_json(with(VitConfig().to_json(), "hidden_dropout_prob", 0.3)).head_dropout, 0);
  EXPECT_EQ(ClassifierConfig::from_json(bert).labels.size(), 2u);  // Hugging Face's default
}

// Counted by hand for one layer of width 4 and inner width 6 over 5 tokens: query, key, value and output projections
// 5x4x4 each, the two MLP matmuls 5x4x6, scores and their product with the values 5x5x4; 2 FLOPs per multiply-add.
TEST(Config, CountsForwardFlops) {
  EncoderConfig c;
  c.hidden_size = 4;
  c.intermediate_size = 6;
  c.num_attention_heads = 2;
  c.num_hidden_layers = 1;
  const double layer = 2.0 * (4 * 5 * 4 * 4 + 2 * 5 * 4 * 6 + 2 * 5 * 5 * 4);
  EXPECT_EQ(c.forward_flops(5), layer);
  c.num_hidden_layers = 3;
  EXPECT_EQ(c.forward_flops(5), 3 * layer);
  // Of the last layer's output one token: its output projection and MLP have one row instead of five, and on the CPU so
  // do its query, its scores and what they are multiplied with.
  const double left_out_on_gpu = 2.0 * 4 * (4 * 4 + 2 * 4 * 6),
               left_out = left_out_on_gpu + 2.0 * 4 * (4 * 4 + 2 * 5 * 4);
  EXPECT_EQ(c.forward_flops(5, Wanted::class_token, DeviceKind::cpu), 3 * layer - left_out);
  EXPECT_EQ(c.forward_flops(5, Wanted::class_token, DeviceKind::cuda), 3 * layer - left_out_on_gpu);
  EXPECT_EQ(c.forward_flops(1, Wanted::class_token, DeviceKind::cpu), c.forward_flops(1));
  c.num_hidden_layers = 0;
  EXPECT_EQ(c.forward_flops(5, Wanted::class_token, DeviceKind::cpu), 0);
  c.num_hidden_layers = 3;

  VitConfig vit;
  static_cast<EncoderConfig&>(vit) = c;
  vit.image_size = 8;
  vit.patch_size = 4;
  // Four patches of 3x4x4 values become four vectors of width 4; the class token adds no matmul.
  EXPECT_EQ(vit.forward_flops(), 3 * layer + 2.0 * 4 * 48 * 4);
  EXPECT_EQ(vit.forward_flops(Wanted::class_token, DeviceKind::cpu), vit.forward_flops() - left_out);
  // ViT-B/16 at 224 is commonly given as 17.6 G multiply-adds with the classifier left out: 35.1 GFLOP.
  EXPECT_NEAR(VitConfig().forward_flops(), 35.1e9, 0.1e9);
}

TEST(Config, OneLabelWithoutAProblemTypeIsARegression) {
  Json config = BertConfig().to_json();
  config["id2label"] = {{"0", "score"}};
  EXPECT_CONTAINS(message_of([&] { ClassifierConfig::from_json(config); }), "is a regression");
}

TEST(Config, SizesBeyondReasonAreRefused) {
  Json config = BertConfig().to_json();
  config["num_hidden_layers"] = 1'000'000'000;
  EXPECT_CONTAINS(message_of([&] { BertConfig::from_json(config); }), "beyond what can be meant");
}

// ImageNet-21k has 21,843 labels; ten times that must not take noticeable time either.
TEST(Config, VeryManyLabelsRoundTrip) {
  ClassifierConfig config{VitConfig(), {}, {}, 0};
  for (int i = 0; i < 200'000; ++i) config.labels.push_back("label " + std::to_string(i % 199'999));
  const Json json = config.to_json();
  EXPECT_EQ(json["label2id"].size(), 199'999u);  // a label that occurs twice has one id
  EXPECT_EQ(ClassifierConfig::from_json(parse_json(json.dump(), "config")).labels, config.labels);
}

}  // namespace
}  // namespace duet::models
