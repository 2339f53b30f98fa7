#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "duet/core/json.h"

// What `duet compare` collects, made up: smooth curves with a little noise, the same on every call.
namespace duet::train {

struct SyntheticComparison {
  std::vector<std::string> methods{"whole", "component", "image-only", "text-only", "concat-scratch"};
  std::vector<double> fractions{0.1, 0.3, 1};
  int seeds = 3;
  std::vector<std::string> labels{
      "animals", "buildings", "computer",   "education", "electronics",       "food",    "geography", "office",
      "people",  "plants",    "recreation", "shapes",    "signs_and_symbols", "special", "tools",     "transportation"};
  bool stages = true, predictions = true;
  double lead_of_component = 0.03;

  Json cells() const;
  Json head() const;

 private:
  Json cell(const std::string& method, int seed, double fraction) const;
  Json sample_predictions() const;
};

// Between -1 and 1, a function of its arguments.
inline double noise(uint64_t a, uint64_t b, uint64_t c) {
  uint64_t x = a * 0x9E3779B97F4A7C15u + b * 0xBF58476D1CE4E5B9u + c * 0x94D049BB133111EBu + 0x1234567;
  for (int i = 0; i < 3; ++i) x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9u;
  return static_cast<double>((x ^ (x >> 32)) & 0xFFFFFF) / 0x7FFFFF - 1;
}

inline Json SyntheticComparison::cell(const std::string& method, int seed, double fraction) const {
  const size_t index = method == "whole"        ? 0
                       : method == "component"  ? 1
                       : method == "image-only" ? 2
                       : method == "text-only"  ? 3
                                                : 4;
  const double full[] = {0.62, 0.62 + lead_of_component, 0.40, 0.52, 0.55};
  const double lost_per_decade[] = {0.14, 0.17, 0.12, 0.2, 0.24};
  const auto s = static_cast<uint64_t>(seed);
  const auto hundredths = static_cast<uint64_t>(std::lround(fraction * 100));
  const double accuracy =
      full[index] + lost_per_decade[index] * std::log10(fraction) + 0.012 * noise(index, s, hundredths);

  const size_t classes = labels.size();
  std::vector<std::vector<int64_t>> confusion(classes, std::vector<int64_t>(classes));
  for (size_t i = 0; i < classes; ++i) {
    const int64_t support = i == 12 ? 183 : 12 + static_cast<int64_t>(i * 37 % 41);
    int64_t left = support;
    confusion[i][i] = static_cast<int64_t>(static_cast<double>(support) * (accuracy + 0.15 * noise(index, i, 7)));
    left -= confusion[i][i];
    for (size_t k = 1; left > 0; k = k * 3 + 1) {
      const size_t j = (i + k) % classes;
      if (j == i) continue;
      const int64_t part = (left + 1) / 2;
      confusion[i][j] += part;
      left -= part;
    }
  }

  std::vector<double> training, validation, validation_accuracy;
  for (int e = 0; e < 12; ++e) {
    training.push_back(0.25 + 2.3 * std::exp(-0.28 * e * (1 + 0.2 * static_cast<double>(index))) +
                       0.03 * noise(index, s, 100u + static_cast<uint64_t>(e)));
    validation.push_back(1.3 + 1.4 * std::exp(-0.5 * e) + 0.02 * e * (1.4 - accuracy) +
                         0.02 * noise(index, s, 200u + static_cast<uint64_t>(e)));
    validation_accuracy.push_back(accuracy * (1 - std::exp(-0.6 * (e + 1))));
  }

  Json list = Json::array();
  double samples = 0, flops = 0, seconds = 0, peak = 0;
  const auto stage = [&](const std::string& name, double n, double flops_per_sample) {
    const double f = n * flops_per_sample, t = f / 1.6e11 * (1 + 0.02 * noise(index, s, 300));
    const double memory = 6.1e8 + 2e7 * static_cast<double>(name.size());
    list.push_back({{"stage", name},
                    {"samples_seen", static_cast<int64_t>(n)},
                    {"flops", f},
                    {"seconds", t},
                    {"peak_rss_bytes", static_cast<int64_t>(memory)},
                    {"shared", false}});
    samples += n;
    flops += f;
    seconds += t;
    peak = std::max(peak, memory);
  };
  if (index == 0) stage("pretrain-joint", 76200, 4.6e8);
  if (index == 1) {
    stage("pretrain-vision", 110000, 2.9e8);
    stage("pretrain-text", 230000, 1.2e8);
  }
  stage("finetune", std::round(30480 * fraction), index == 2 ? 2.9e8 : index == 3 ? 1.3e8 : 4.4e8);
  Json cell{{"method", method},
            {"seed", seed},
            {"fraction", fraction},
            {"accuracy", accuracy},
            {"macro_f1", accuracy - 0.07},
            {"top5", std::min(1.0, accuracy + 0.25)},
            {"loss", 1.4},
            {"confusion", confusion},
            {"loss_per_epoch", training},
            {"validation_loss_per_epoch", validation},
            {"validation_accuracy_per_epoch", validation_accuracy},
            {"samples_seen", static_cast<int64_t>(samples)},
            {"flops", flops},
            {"seconds", seconds},
            {"peak_rss_bytes", static_cast<int64_t>(peak)}};
  if (stages) cell["stages"] = list;
  cell["config"] = {{"stage", "finetune"}};
  if (predictions && index < 2 && seed == 0 && fraction == fractions.back()) cell["predictions"] = sample_predictions();
  return cell;
}

// 24 x 24 pixels, an orange disc on white.
inline const char* const tiny_png =
    "iVBORw0KGgoAAAANSUhEUgAAABgAAAAYCAIAAABvFaqvAAAATElEQVR42mP4TyXAMKQMelahgYZINgjTCILGMZBqCi6zGMgwBatZDOSZgmkW"
    "DQwi1RQ0s0YNGhCDBl86omYWoWampWYxQs2CbVgU/gCF2EKMgV5RFQAAAABJRU5ErkJggg==";

inline Json SyntheticComparison::sample_predictions() const {
  Json list = Json::array();
  const std::vector<std::string> texts{
      "Red apple. A ripe apple with a leaf",
      "tux",
      "",
      "L\u00e9zard vert sur une pierre \U0001F98E",
      "\u05E9\u05DC\u05D5\u05DD \u05E2\u05D5\u05DC\u05DD",
      "Map of the world with every border drawn in a colour of its own, the rivers, the "
      "capitals and a legend in four languages, as used in schools since 1998",
      "roadsign_<stop>&\"go\"",
      "\u5730\u56F3"};
  for (size_t i = 0; i < texts.size(); ++i) {
    Json p{{"id", "sample-" + std::to_string(i)},
           {"text", texts[i]},
           {"label", labels[i % labels.size()]},
           {"predicted", labels[(i % 3 == 0 ? i + 1 : i) % labels.size()]},
           {"probability", 0.91 - 0.07 * static_cast<double>(i)}};
    if (i != 5) p["image_png_base64"] = tiny_png;
    list.push_back(p);
  }
  return list;
}

inline Json SyntheticComparison::cells() const {
  Json all = Json::array();
  for (int seed = 0; seed < seeds; ++seed)
    for (const double fraction : fractions)
      for (const std::string& method : methods) all.push_back(cell(method, seed, fraction));
  return all;
}

inline Json SyntheticComparison::head() const {
  return {{"dataset",
           {{"name", "openclipart"},
            {"labels", labels},
            {"train", 2540},
            {"validation", 362},
            {"test", 733},
            {"majority_accuracy", 0.2497}}},
          {"command",
           "duet compare --data data/openclipart --vision-data data/fashion-mnist --text-data data/wordnet "
           "--vocab data/vocab.txt --out runs/compare --seeds 3 --fractions 0.1,0.3,1"},
          {"duet_version", "0.1.0"},
          {"machine", "cpu: AMD EPYC 9R14, 2 threads, AVX-512 + bf16, oneDNN 2.6.3"},
          {"created", "2025-05-04T09:31:00Z"},
          {"size", "mini"},
          {"share_pretraining", false},
          {"config",
           {{"data", {"data/openclipart"}},
            {"seeds", seeds},
            {"fractions", fractions},
            {"vision_data", "data/fashion-mnist"},
            {"text_data", "data/wordnet"},
            {"joint_data", ""},
            {"text_objective", "label"},
            {"size", {{"model_type", "vision-text-dual-encoder"}, {"vision_config", {{"hidden_size", 96}}}}},
            {"dropout", -1.0},
            {"finetune", {{"epochs", 12.0}, {"batch", 32}, {"lr", 0.0005}, {"freeze", Json::array()}}},
            {"pretrain_vision", {{"epochs", 2.0}, {"batch", 64}, {"lr", 0.001}}},
            {"pretrain_text", {{"epochs", 2.0}, {"batch", 64}, {"lr", 0.001}}},
            {"pretrain_joint", {{"epochs", 30.0}, {"batch", 128}, {"lr", 0.001}}}}}};
}

}  // namespace duet::train
