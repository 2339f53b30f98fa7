#include "duet/models/multimodal.h"

#include <map>
#include <unordered_set>

#include "duet/ops/concat.h"
#include "duet/ops/dropout.h"
#include "duet/ops/mean_tokens.h"

namespace duet::models {
namespace {

int64_t head_width(const ClassifierConfig& config) {
  check(config.vision || config.text, "classifier", "needs a vision part, a text part, or both");
  check(!config.labels.empty(), "classifier", "needs at least one label");
  return (config.vision ? config.vision->hidden_size : 0) + (config.text ? config.text->hidden_size : 0);
}

double head_deviation(const ClassifierConfig& config) {
  return config.text ? config.text->initializer_range : config.vision->initializer_range;
}

constexpr int64_t most_labels = 100'000;

std::vector<std::string> read_labels(const Json& json) {
  std::vector<std::string> labels;
  const auto given = json.find("id2label");
  if (given != json.end()) {
    check(given->is_object(), "config", "id2label must be an object, it is ", given->dump().substr(0, 80));
    // Sorted, because some models have more than 20,000 labels.
    std::map<std::string_view, const Json*> by_key;
    for (const auto& [key, label] : given->get_ref<const Json::object_t&>()) by_key[key] = &label;
    for (size_t i = 0; i < given->size(); ++i) {
      const auto label = by_key.find(std::to_string(i));
      check(label != by_key.end(), "config", "id2label has no entry \"", i, "\"");
      check(label->second->is_string(), "config", "id2label \"", i, "\" must be a string, it is ",
            label->second->dump().substr(0, 80));
      labels.push_back(label->second->get<std::string>());
    }
    return labels;
  }
  const auto count = json_get<int64_t>(json, "num_labels", 2);
  check(count <= most_labels, "config", "num_labels ", count, " is more than the limit of ", most_labels);
  for (int64_t i = 0; i < count; ++i) labels.push_back("LABEL_" + std::to_string(i));
  return labels;
}

const Json& part(const Json& json, const char* key) {
  const auto found = json.find(key);
  check(found != json.end() && found->is_object(), "config", "a multimodal classifier needs ", key);
  return *found;
}

}  // namespace

ClassifierConfig ClassifierConfig::from_json(const Json& json) {
  ClassifierConfig c;
  const auto type = json_get<std::string>(json, "model_type", "");
  if (type == "vit") {
    c.vision = VitConfig::from_json(json);
  } else if (type == "bert") {
    c.text = BertConfig::from_json(json);
  } else if (type == "duet-multimodal-classifier") {
    c.vision = VitConfig::from_json(part(json, "vision_config"));
    c.text = BertConfig::from_json(part(json, "text_config"));
  } else {
    fail("config", "model_type \"", type, "\" is no classifier; vit, bert and duet-multimodal-classifier are");
  }
  c.labels = read_labels(json);
  const auto pooling = json_get<std::string>(json, "text_pooling", "pooler");
  check(pooling == "pooler" || (pooling == "mean" && c.vision && c.text), "config", "text_pooling \"", pooling,
        "\" is not supported; use pooler, or mean for classifiers over images and texts");
  if (pooling == "mean") c.text_pooling = TextPooling::mean;
  // Without a value of its own BERT's head drops out like its encoder; ViT's has no dropout.
  c.head_dropout = json_get(json, "classifier_dropout", type == "bert" ? c.text->hidden_dropout_prob : 0.0);
  check(c.head_dropout >= 0 && c.head_dropout < 1, "config", "classifier_dropout must be in [0, 1), got ",
        c.head_dropout);
  const auto problem = json_get<std::string>(json, "problem_type", "single_label_classification");
  // In Hugging Face's config one label without a problem type means regression.
  check(c.labels.size() != 1 || json.contains("problem_type"), "config",
        "a model of one label is a regression, which is not supported; classifiers choose one label of several");
  check(problem == "single_label_classification", "config", "problem_type \"", problem,
        "\" is not supported; classifiers choose one label");
  return c;
}

Json ClassifierConfig::to_json() const {
  Json json;
  if (vision && text) {
    json = {{"architectures", {"DuetMultimodalClassifier"}},
            {"model_type", "duet-multimodal-classifier"},
            {"vision_config", vision->to_json()},
            {"text_config", text->to_json()}};
    if (text_pooling == TextPooling::mean) json["text_pooling"] = "mean";
  } else if (vision) {
    json = vision->to_json();
    json["architectures"] = {"ViTForImageClassification"};
  } else {
    json = text->to_json();
    json["architectures"] = {"BertForSequenceClassification"};
  }
  json["classifier_dropout"] = head_dropout;
  Json id2label = Json::object(), label2id = Json::object();
  std::unordered_set<std::string> seen;
  for (size_t i = 0; i < labels.size(); ++i) {
    append_key(id2label, std::to_string(i), labels[i]);
    if (seen.insert(labels[i]).second) append_key(label2id, labels[i], i);
  }
  json["id2label"] = std::move(id2label);
  json["label2id"] = std::move(label2id);
  return json;
}

Classifier::Classifier(const ParamScope& scope, const ClassifierConfig& config)
    : config_(config),
      head_(scope / "classifier", head_width(config), static_cast<int64_t>(config.labels.size()),
            Init::normal(head_deviation(config))) {
  if (config.vision) vision_.emplace_back(scope / "vision_model", *config.vision, false);
  const bool pooler = config.text_pooling == ClassifierConfig::TextPooling::pooler;
  check(pooler || (config.vision && config.text), "classifier",
        "mean pooling of texts needs a vision part too: Hugging Face's text classifier has a pooler");
  if (config.text) text_.emplace_back(scope / "text_model", *config.text, pooler);
}

Variable Classifier::operator()(const Variable& images, const TextInput& text, const Run& run) const {
  // The backward pass goes through images first, the first part of what is joined below. Texts come first here, so that
  // what was taken last is given back first. At the end of the backward pass, when most gradients are there, memory is
  // then needed for the layers of fewer tokens.
  std::vector<Variable> parts;
  if (!text_.empty()) {
    const Bert& bert = text_[0];
    const Run text_run = run.child(1);
    const bool mean = config_.text_pooling == ClassifierConfig::TextPooling::mean;
    parts.push_back(
        widen(mean ? ops::mean_tokens(bert(text, text_run), text.mask) : bert.pool(bert.class_token(text, text_run))));
  }
  if (!vision_.empty()) parts.insert(parts.begin(), widen(vision_[0].class_token(images, run.child(0))));
  check(parts.size() == 1 || parts[0].dim(0) == parts[1].dim(0), "classifier",
        "images and texts differ in number: ", parts[0], " and ", parts.back());
  const Variable joined = parts.size() == 1 ? parts[0] : ops::concat(parts, 1);
  return head_(ops::dropout(joined, run.dropout(config_.head_dropout), run.random.child("classifier")));
}

}  // namespace duet::models
