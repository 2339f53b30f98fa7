#include "duet/models/hub.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "duet/core/file.h"
#include "duet/core/safetensors.h"
#include "duet/models/dual_encoder.h"
#include "duet/models/multimodal.h"
#include "duet/tests/models/small_models.h"
#include "duet/tests/train/expect.h"
#include "duet/tests/values.h"

namespace duet::models {
namespace {

using testing::values;
using train::message_of;
using train::TemporaryDirectory;
using Tensors = std::map<std::string, Tensor>;

std::set<std::string> with_weight_and_bias(std::initializer_list<std::string> stems) {
  std::set<std::string> keys;
  for (const std::string& stem : stems) keys.insert({stem + ".weight", stem + ".bias"});
  return keys;
}

// The keys of Hugging Face's ViTModel and BertModel, layer by layer.
std::set<std::string> vit_keys(const std::string& prefix, bool pooler) {
  std::set<std::string> keys{prefix + "embeddings.cls_token", prefix + "embeddings.position_embeddings"};
  keys.merge(with_weight_and_bias({prefix + "embeddings.patch_embeddings.projection", prefix + "layernorm"}));
  if (pooler) keys.merge(with_weight_and_bias({prefix + "pooler.dense"}));
  for (int i = 0; i < 2; ++i) {
    const std::string layer = prefix + "encoder.layer." + std::to_string(i) + ".";
    keys.merge(with_weight_and_bias({layer + "layernorm_before", layer + "attention.attention.query",
                                     layer + "attention.attention.key", layer + "attention.attention.value",
                                     layer + "attention.output.dense", layer + "layernorm_after",
                                     layer + "intermediate.dense", layer + "output.dense"}));
  }
  return keys;
}

std::set<std::string> bert_keys(const std::string& prefix, bool pooler) {
  const std::string e = prefix + "embeddings.";
  std::set<std::string> keys{e + "word_embeddings.weight", e + "position_embeddings.weight",
                             e + "token_type_embeddings.weight"};
  keys.merge(with_weight_and_bias({e + "LayerNorm"}));
  if (pooler) keys.merge(with_weight_and_bias({prefix + "pooler.dense"}));
  for (int i = 0; i < 2; ++i) {
    const std::string layer = prefix + "encoder.layer." + std::to_string(i) + ".";
    keys.merge(with_weight_and_bias({layer + "attention.self.query", layer + "attention.self.key",
                                     layer + "attention.self.value", layer + "attention.output.dense",
                                     layer + "attention.output.LayerNorm", layer + "intermediate.dense",
                                     layer + "output.dense", layer + "output.LayerNorm"}));
  }
  return keys;
}

std::set<std::string> joined(std::set<std::string> a, std::set<std::string> b) {
  a.merge(b);
  return a;
}

Tensors read_tensors(const std::string& directory) {
  const SafetensorsFile file = SafetensorsFile::open(directory + "/model.safetensors");
  Tensors tensors;
  for (const std::string& name : file.names()) tensors[name] = file.load(name);
  return tensors;
}

std::set<std::string> keys_of(const std::string& directory) {
  std::set<std::string> keys;
  for (const auto& [name, tensor] : read_tensors(directory)) keys.insert(name);
  return keys;
}

void write_directory(const std::string& directory, const Tensors& tensors, const Json& config) {
  make_directories(directory);
  save_safetensors(directory + "/model.safetensors", {tensors.begin(), tensors.end()});
  write_file_atomically(directory + "/config.json", config.dump());
}

void expect_equal_parameters(ParamStore& a, ParamStore& b, const std::string& prefix = "") {
  size_t compared = 0;
  for (const Parameter& p : a.parameters()) {
    if (!p.name.starts_with(prefix)) continue;
    EXPECT_EQ(values(p.value.data()), values(b.at(p.name).data())) << p.name;
    ++compared;
  }
  EXPECT_GT(compared, 10u);
}

Json with_architecture(Json config, const char* name) {
  config["architectures"] = {name};
  return config;
}

// One row per kind of model: how to create its parameters, its config, and the keys its file must have.
struct Kind {
  std::string name;
  std::function<void(ParamStore&)> create;
  Json config;
  std::set<std::string> keys;
};

std::vector<Kind> kinds() {
  DualEncoderConfig dual;
  dual.vision = small_vit();
  dual.text = small_bert();
  dual.projection_dim = 5;
  const ClassifierConfig vision{small_vit(), {}, {"a", "b", "c"}, 0}, text{{}, small_bert(), {"a", "b", "c"}, 0},
      both{small_vit(), small_bert(), {"a", "b", "c"}, 0};
  const auto classifier = [](const ClassifierConfig& config) {
    return [config](ParamStore& store) { Classifier({store, ""}, config); };
  };
  const std::set<std::string> head = with_weight_and_bias({"classifier"});
  return {
      {"ViTModel",
       [](ParamStore& store) {
         Vit({store, "vision_model"}, small_vit(), true);
       },
       small_vit().to_json(), vit_keys("", true)},
      {"BertModel",
       [](ParamStore& store) {
         Bert({store, "text_model"}, small_bert(), true);
       },
       with_architecture(small_bert().to_json(), "BertModel"), bert_keys("", true)},
      {"ViTForImageClassification", classifier(vision), vision.to_json(), joined(vit_keys("vit.", false), head)},
      {"BertForSequenceClassification", classifier(text), text.to_json(), joined(bert_keys("bert.", true), head)},
      {"BertForMaskedLM",
       [](ParamStore& store) {
         const Bert bert({store, "text_model"}, small_bert(), false);
         MlmHead({store, "cls.predictions"}, bert);
       },
       with_architecture(small_bert().to_json(), "BertForMaskedLM"),
       joined(joined(bert_keys("bert.", false), {"cls.predictions.bias"}),
              with_weight_and_bias({"cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"}))},
      {"VisionTextDualEncoderModel",
       [dual](ParamStore& store) {
         DualEncoder({store, ""}, dual);
       },
       dual.to_json(),
       joined(joined(vit_keys("vision_model.", true), bert_keys("text_model.", true)),
              {"visual_projection.weight", "text_projection.weight", "logit_scale"})},
      {"DuetMultimodalClassifier", classifier(both), both.to_json(),
       joined(joined(vit_keys("vision_model.", false), bert_keys("text_model.", true)), head)},
  };
}

TEST(Hub, SavesTheKeysOfHuggingFaceAndLoadsThemBackBitForBit) {
  for (const Kind& kind : kinds()) {
    SCOPED_TRACE(kind.name);
    const TemporaryDirectory directory;
    ParamStore store(1), other(2);
    kind.create(store);
    kind.create(other);
    save_model_directory(directory / "a", store, kind.config);
    EXPECT_EQ(keys_of(directory / "a"), kind.keys);
    const LoadReport report = load_parameters(other, directory / "a");
    EXPECT_EQ(report.loaded.size(), other.parameters().size());
    EXPECT_TRUE(report.missing.empty() && report.unexpected.empty());
    expect_equal_parameters(store, other);
    save_model_directory(directory / "b", other, kind.config);
    for (const char* file : {"/model.safetensors", "/config.json"})
      EXPECT_EQ(read_file(directory / "a" + file), read_file(directory / "b" + file));
  }
}

TEST(Hub, SplitsPackedProjectionsInOrder) {
  const TemporaryDirectory directory;
  ParamStore store(1);
  const Vit vit({store, "vision_model"}, small_vit(), true);
  save_model_directory(directory / "a", store, small_vit().to_json());
  Tensors tensors = read_tensors(directory / "a");
  const Tensor packed = store.at("vision_model.encoder.layer.1.attention.qkv.weight").data();
  const std::string stem = "encoder.layer.1.attention.attention.";
  EXPECT_EQ(values(tensors[stem + "query.weight"]), values(packed.rows_view(0, 8)));
  EXPECT_EQ(values(tensors[stem + "key.weight"]), values(packed.rows_view(8, 16)));
  EXPECT_EQ(values(tensors[stem + "value.weight"]), values(packed.rows_view(16, 24)));
}

TEST(Hub, AnErrorWhileSavingLeavesTheOldDirectory) {
  const TemporaryDirectory directory;
  ParamStore store(1), changed(2);
  const Vit vit({store, "vision_model"}, small_vit(), true), vit2({changed, "vision_model"}, small_vit(), true);
  save_model_directory(directory / "a", store, small_vit().to_json());
  const std::string before = read_file(directory / "a/model.safetensors");
  const std::string message = message_of([&] {
    save_model_directory(directory / "a", changed, small_vit().to_json(),
                         [](const std::string&) { fail("test", "disk is full"); });
  });
  EXPECT_CONTAINS(message, "disk is full");
  EXPECT_EQ(read_file(directory / "a/model.safetensors"), before);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
}

// Old names, buffers, prefixes and the names of Transformers 5 all reach the same parameters.
TEST(Hub, AcceptsOtherNamesOfTheSameTensors) {
  const TemporaryDirectory directory;
  ParamStore bert_store(1), vit_store(1);
  const Bert bert({bert_store, "text_model"}, small_bert(), true);
  const Vit vit({vit_store, "vision_model"}, small_vit(), true);
  save_model_directory(directory / "bert", bert_store, small_bert().to_json());
  save_model_directory(directory / "vit", vit_store, small_vit().to_json());
  const Tensors bert_tensors = read_tensors(directory / "bert"), vit_tensors = read_tensors(directory / "vit");
  const auto renamed = [](const Tensors& from, const std::vector<std::pair<std::string, std::string>>& changes) {
    Tensors to;
    for (const auto& [old_name, tensor] : from) {
      std::string name = old_name;
      for (const auto& [old_part, new_part] : changes)
        if (const size_t at = name.find(old_part); at != name.npos) name.replace(at, old_part.size(), new_part);
      to[name] = tensor;
    }
    return to;
  };

  Tensors legacy =
      renamed(bert_tensors, {{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}});
  EXPECT_TRUE(legacy.contains("embeddings.LayerNorm.gamma"));
  legacy["embeddings.position_ids"] = Tensor::zeros({1, 9}, DType::i64);
  const Tensors modern = renamed(vit_tensors, {{"encoder.layer.", "layers."},
                                               {"attention.attention.query", "attention.q_proj"},
                                               {"attention.attention.key", "attention.k_proj"},
                                               {"attention.attention.value", "attention.v_proj"},
                                               {"attention.output.dense", "attention.o_proj"},
                                               {"intermediate.dense", "mlp.fc1"},
                                               {".output.dense", ".mlp.fc2"}});
  EXPECT_TRUE(modern.contains("layers.1.mlp.fc2.weight") && modern.contains("layers.0.attention.o_proj.bias"));
  const auto prefixed = [](const Tensors& from, const std::string& prefix) {
    Tensors to;
    for (const auto& [name, tensor] : from) to[prefix + name] = tensor;
    return to;
  };

  const auto expect_loads = [&](const Tensors& tensors, const Json& config, bool vision) {
    write_directory(directory / "other", tensors, config);
    ParamStore store(2);
    if (vision)
      Vit({store, "vision_model"}, small_vit(), true);
    else
      Bert({store, "text_model"}, small_bert(), true);
    const LoadReport report = load_parameters(store, directory / "other");
    EXPECT_EQ(report.missing, std::vector<std::string>());
    EXPECT_EQ(report.unexpected, std::vector<std::string>());
    expect_equal_parameters(store, vision ? vit_store : bert_store);
  };
  expect_loads(legacy, small_bert().to_json(), false);
  expect_loads(prefixed(legacy, "bert."), small_bert().to_json(), false);
  expect_loads(prefixed(vit_tensors, "vit."), small_vit().to_json(), true);
  expect_loads(modern, small_vit().to_json(), true);
  expect_loads(prefixed(modern, "vit."), small_vit().to_json(), true);
}

TEST(Hub, ReportsWhatIsMissingAndUnexpected) {
  const TemporaryDirectory directory;
  const ClassifierConfig config{{}, small_bert(), {"a", "b"}, 0};
  ParamStore headed(1), base(2);
  const Classifier classifier({headed, ""}, config);
  save_model_directory(directory / "headed", headed, config.to_json());

  const Bert bert({base, "text_model"}, small_bert(), true);
  const LoadReport into_base = load_parameters(base, directory / "headed");
  EXPECT_EQ(into_base.missing, std::vector<std::string>());
  EXPECT_EQ(into_base.unexpected, (std::vector<std::string>{"classifier.bias", "classifier.weight"}));
  expect_equal_parameters(base, headed);

  save_model_directory(directory / "base", base, small_bert().to_json());
  ParamStore fresh(3);
  const Classifier another({fresh, ""}, config);
  const std::vector<double> head = values(fresh.at("classifier.weight").data());
  const LoadReport into_headed = load_parameters(fresh, directory / "base");
  EXPECT_EQ(into_headed.missing, (std::vector<std::string>{"classifier.weight", "classifier.bias"}));
  EXPECT_EQ(into_headed.unexpected, std::vector<std::string>());
  expect_equal_parameters(base, fresh);
  EXPECT_EQ(values(fresh.at("classifier.weight").data()), head);  // keeps its own start
}

// A dual encoder gives each of its halves to a classifier; the other half is not looked at.
TEST(Hub, LoadsOnePartByPrefix) {
  const TemporaryDirectory directory;
  DualEncoderConfig config;
  config.vision = small_vit();
  config.text = small_bert();
  ParamStore dual(1), store(2);
  const DualEncoder model({dual, ""}, config);
  save_model_directory(directory / "dual", dual, config.to_json());
  const Classifier classifier({store, ""}, {small_vit(), small_bert(), {"a", "b"}, 0});
  const std::vector<double> words = values(store.at("text_model.embeddings.word_embeddings.weight").data());
  const LoadReport report = load_parameters(store, directory / "dual", {.prefix = "vision_model"});
  EXPECT_EQ(report.missing, std::vector<std::string>());
  EXPECT_EQ(report.unexpected,
            (std::vector<std::string>{"vision_model.pooler.dense.bias", "vision_model.pooler.dense.weight"}));
  expect_equal_parameters(store, dual, "vision_model");
  EXPECT_EQ(values(store.at("text_model.embeddings.word_embeddings.weight").data()), words);
}

TEST(Hub, MaskedLanguageDecodersOfAllForms) {
  const TemporaryDirectory directory;
  const auto create = [](ParamStore& store) {
    const Bert bert({store, "text_model"}, small_bert(), false);
    MlmHead({store, "cls.predictions"}, bert);
  };
  ParamStore store(1);
  create(store);
  store.at("cls.predictions.bias").data().fill(0.5);
  Json config = with_architecture(small_bert().to_json(), "BertForMaskedLM");
  save_model_directory(directory / "a", store, config);
  const Tensors saved = read_tensors(directory / "a");
  const Tensor words = saved.at("bert.embeddings.word_embeddings.weight");
  const auto load = [&](const Tensors& tensors) {
    write_directory(directory / "b", tensors, config);
    ParamStore other(2);
    create(other);
    const LoadReport report = load_parameters(other, directory / "b");
    EXPECT_EQ(report.missing, std::vector<std::string>());
    expect_equal_parameters(store, other);
    return report.unexpected;
  };

  Tensors doubled = saved;
  doubled["cls.predictions.decoder.weight"] = words.clone();
  doubled["cls.predictions.decoder.bias"] = saved.at("cls.predictions.bias").clone();
  EXPECT_EQ(load(doubled), std::vector<std::string>());
  doubled.erase("cls.predictions.bias");  // then the decoder's bias supplies it
  EXPECT_EQ(load(doubled), std::vector<std::string>());
  Tensors different = saved;
  different["cls.predictions.decoder.weight"] = Tensor::zeros(words.shape(), DType::f32);
  EXPECT_EQ(load(different), std::vector<std::string>{"cls.predictions.decoder.weight"});
  config["tie_word_embeddings"] = false;
  EXPECT_CONTAINS(message_of([&] { load(different); }), "tie_word_embeddings false");
}

TEST(Hub, RefusesWhatDoesNotFit) {
  const TemporaryDirectory directory;
  ParamStore store(1);
  const Bert bert({store, "text_model"}, small_bert(), true);
  save_model_directory(directory / "a", store, small_bert().to_json());
  const Tensors saved = read_tensors(directory / "a");
  const auto refusal = [&](const Tensors& tensors, const Json& config) {
    write_directory(directory / "b", tensors, config);
    return message_of([&] { load_parameters(store, directory / "b"); });
  };
  Tensors wrong = saved;
  wrong["embeddings.word_embeddings.weight"] = Tensor::zeros({21, 6}, DType::f32);
  const std::string shape = refusal(wrong, small_bert().to_json());
  for (const char* part : {"embeddings.word_embeddings.weight", "(21, 6)", "(20, 6)"}) EXPECT_CONTAINS(shape, part);
  wrong = saved;
  wrong["encoder.layer.1.attention.self.key.bias"] = Tensor::zeros({7}, DType::f32);
  EXPECT_CONTAINS(refusal(wrong, small_bert().to_json()), "encoder.layer.1.attention.self.key.bias is (7)");
  wrong = saved;
  wrong.erase("encoder.layer.1.attention.self.key.bias");
  EXPECT_CONTAINS(refusal(wrong, small_bert().to_json()),
                  "encoder.layer.1.attention.qkv.bias needs all of query, key and value, of which 2");
  EXPECT_CONTAINS(refusal(saved, Json{{"model_type", "roberta"}}), "model_type \"roberta\"");
  EXPECT_CONTAINS(message_of([&] { read_model_config(directory / "nowhere"); }), "nowhere is no model directory");
}

// The sizes Transformers counts for ViT-B/16, BERT-base and a dual encoder of both. The values are never touched, so
// the 787 MB of the store are not either.
TEST(Hub, BaseModelsHaveTheParametersOfTheOriginals) {
  ParamStore store(0, DType::f32, false);
  const DualEncoder model({store, ""}, {});
  std::map<std::string, int64_t> counts;
  for (const Parameter& p : store.parameters()) {
    counts[p.name.substr(0, p.name.find('.'))] += p.value.data().numel();
    if (p.name.starts_with("vision_model.pooler.")) counts["vision pooler"] += p.value.data().numel();
  }
  EXPECT_EQ(counts["text_model"], 109'482'240);
  EXPECT_EQ(counts["vision_model"], 86'389'248);
  EXPECT_EQ(counts["vision_model"] - counts["vision pooler"], 85'798'656);
  EXPECT_EQ(store.count(), 196'657'921);
  ParamStore lm(0, DType::f32, false), classifier(0, DType::f32, false);
  const Bert bert({lm, "text_model"}, {}, false);
  const MlmHead head({lm, "cls.predictions"}, bert);
  EXPECT_EQ(lm.count(), 109'514'298);
  const Classifier text({classifier, ""}, {{}, BertConfig(), {"a", "b"}, 0});
  EXPECT_EQ(classifier.count(), 109'483'778);
}

}  // namespace
}  // namespace duet::models
