#include "duet/train/compare.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <numeric>

#include "duet/core/file.h"
#include "duet/core/hash.h"
#include "duet/models/weights.h"
#include "duet/train/idx.h"
#include "duet/train/interrupt.h"
#include "duet/train/report.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

std::string base64(std::string_view bytes) {
  constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t triple = 0;
    for (size_t k = 0; k < 3; ++k)
      triple = triple << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? digits[triple >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

class Comparison {
 public:
  Comparison(const CompareConfig& config, bool resume) : config_(config), resume_(resume) {}
  Json run();

 private:
  StageConfig stage(const std::string& name, const std::string& data, const TrainOptions& options, uint64_t seed) const;
  // Pretrains unless it is done; returns the model directory and adds what it cost to `stages`.
  std::string pretrained(const std::string& which, uint64_t seed, Json& stages);
  Json cell(const std::string& method, uint64_t seed, double fraction);
  Json predictions(const FinetuneResult& result) const;
  std::vector<std::string> methods() const { return config_.methods.empty() ? all_methods : config_.methods; }
  Json fingerprints() const;
  void check_same_settings(const Json& fingerprints) const;
  Json dataset_description() const;
  Json given_models() const;

  const CompareConfig& config_;
  bool resume_;
};

Json cost(const std::string& name, const StageResult& r, bool shared) {
  return {{"stage", name},        {"samples_seen", r.samples_seen},     {"flops", r.flops},
          {"seconds", r.seconds}, {"peak_rss_bytes", r.peak_rss_bytes}, {"shared", shared}};
}

StageConfig Comparison::stage(const std::string& name, const std::string& data, const TrainOptions& options,
                              uint64_t seed) const {
  StageConfig s = config_.finetune;
  s.data = {data.empty() ? config_.finetune.data.at(0) : data};
  s.out = config_.out + "/" + name;
  s.label = fs::path(name).filename();
  s.options = options;
  s.options.seed = seed;
  s.resume = true;  // whatever is there belongs to this comparison
  s.keep_checkpoints = config_.keep_checkpoints;
  return s;
}

std::string Comparison::pretrained(const std::string& which, uint64_t seed, Json& stages) {
  const std::string& given = which == "vision" ? config_.vision_from
                             : which == "text" ? config_.text_from
                                               : config_.joint_from;
  if (!given.empty()) return given;
  if (config_.share_pretraining) seed = config_.finetune.options.seed;
  const std::string name =
      "pretrain/" + which + (config_.share_pretraining ? "-shared" : "-seed" + std::to_string(seed));
  StageResult result;
  StageConfig s;
  if (which == "vision") {
    s = stage(name, config_.vision_data, config_.vision, seed);
    s.dropout = config_.vision_dropout.value_or(s.dropout);
    result = pretrain_vision(s);
  } else if (which == "text") {
    s = stage(name, config_.text_data, config_.text, seed);
    s.dropout = config_.text_dropout.value_or(s.dropout);
    result = pretrain_text(s, config_.text_objective);
  } else {
    s = stage(name, config_.joint_data, config_.joint, seed);
    s.dropout = config_.joint_dropout.value_or(s.dropout);
    result = pretrain_joint(s);
  }
  stages.push_back(cost("pretrain-" + which, result, config_.share_pretraining));
  return s.out + "/model";
}

// A few test samples with the verdict, the same ones for every method: those with the smallest hash of their id.
Json Comparison::predictions(const FinetuneResult& result) const {
  std::vector<Prediction> chosen = result.predictions;
  std::sort(chosen.begin(), chosen.end(), [&](const Prediction& a, const Prediction& b) {
    return fnv1a64(result.samples[a.sample].id) < fnv1a64(result.samples[b.sample].id);
  });
  chosen.resize(std::min<size_t>(chosen.size(), 12));
  const Dataset dataset =
      Dataset::open(config_.finetune.data[0], {.on_bad_sample = config_.finetune.input.on_bad_sample});
  Json list = Json::array();
  for (const Prediction& p : chosen) {
    const Sample& s = result.samples[p.sample];
    Json entry{{"id", s.id},
               {"text", s.text},
               {"label", dataset.labels().at(static_cast<size_t>(s.label))},
               {"predicted", dataset.labels().at(static_cast<size_t>(p.predicted))},
               {"probability", p.probability}};
    if (s.has_image()) {
      const Image image = load_fitted_reference(dataset.image_path(s), {.fit = Fit::pad, .resample = Resample::bicubic},
                                                96, config_.finetune.input.decode);
      entry["image_png_base64"] = base64(encode_png(image));
    }
    list.push_back(entry);
  }
  return list;
}

Json Comparison::cell(const std::string& method, uint64_t seed, double fraction) {
  const std::string name = "cells/" + method + "-seed" + std::to_string(seed) + "-fraction" + text(fraction);
  const std::string path = config_.out + "/" + name + "/cell.json";
  if (fs::exists(path)) return read_json(path);
  Json stages = Json::array();
  FinetuneParts parts;
  parts.image = method != "text-only";
  parts.text = method != "image-only";
  StageConfig s = stage(name, "", config_.finetune.options, seed);
  if (method == "whole") s.from.vision = s.from.text = pretrained("joint", seed, stages);
  if (method == "component") {
    s.from.vision = pretrained("vision", seed, stages);
    s.from.text = pretrained("text", seed, stages);
  }
  const FinetuneResult result = finetune(s, parts, fraction);
  check(!result.test.is_null(), "compare", config_.finetune.data[0], " has no test split; a comparison needs one");
  stages.push_back(cost("finetune", result.training, false));

  Json cell{{"method", method}, {"seed", seed}, {"fraction", fraction}};
  for (const char* key : {"accuracy", "macro_f1", "top5", "loss", "confusion"}) cell[key] = result.test.at(key);
  cell["loss_per_epoch"] = result.training.loss_per_epoch;
  cell["validation_loss_per_epoch"] = cell["validation_accuracy_per_epoch"] = Json::array();
  for (const Json& e : result.training.evaluations) {
    cell["validation_loss_per_epoch"].push_back(e.at("validation_loss"));
    cell["validation_accuracy_per_epoch"].push_back(e.at("validation_accuracy"));
  }
  // The cell's cost is that of all its stages.
  double samples = 0, flops = 0, seconds = 0, peak = 0;
  for (const Json& st : stages) {
    samples += st["samples_seen"].get<double>();
    flops += st["flops"].get<double>();
    seconds += st["seconds"].get<double>();
    peak = std::max(peak, st["peak_rss_bytes"].get<double>());
  }
  cell["samples_seen"] = static_cast<int64_t>(samples);
  cell["flops"] = flops;
  cell["seconds"] = seconds;
  cell["peak_rss_bytes"] = static_cast<int64_t>(peak);
  cell["stages"] = stages;
  cell["config"] = read_json(s.out + "/config.json");
  const bool shown = seed == config_.finetune.options.seed &&
                     fraction == *std::max_element(config_.fractions.begin(), config_.fractions.end());
  if (shown && (method == "whole" || method == "component")) cell["predictions"] = predictions(result);
  write_file_atomically(path, cell.dump(1) + "\n");
  return cell;
}

// Of everything the methods read, by path: opened before training, so that a wrong path or file shows now and not hours
// later, and kept, so that changed data cannot continue a comparison.
Json Comparison::fingerprints() const {
  const auto uses = [&](const char* method) {
    const std::vector<std::string> all = methods();
    return std::find(all.begin(), all.end(), method) != all.end();
  };
  const std::string& task = config_.finetune.data.at(0);
  std::vector<std::string> directories{task};
  if (uses("whole")) directories.push_back(config_.joint_data);
  if (uses("component")) directories.insert(directories.end(), {config_.vision_data, config_.text_data});
  Json result = Json::object();
  for (const std::string& directory : directories)
    if (!directory.empty() && !result.contains(directory))
      result[directory] = text(
          std::hex, Dataset::open(directory, {.on_bad_sample = config_.finetune.input.on_bad_sample}).fingerprint());
  // A model directory counts by its weights' headers and its config: enough to tell models apart, and quick.
  const auto add_model = [&](const std::string& directory) {
    if (directory.empty()) return;
    std::string identity = models::read_model_config(directory).dump();
    const models::Weights weights = models::Weights::open(directory);
    for (const std::string& tensor : weights.names())
      identity += tensor + std::string(weights.file_of(tensor).bytes(tensor).substr(0, 64));
    result[directory] = text(std::hex, fnv1a64(identity));
  };
  if (uses("whole")) add_model(config_.joint_from);
  if (uses("component")) {
    add_model(config_.vision_from);
    add_model(config_.text_from);
  }
  const std::string& vocab = config_.finetune.vocab;
  // Whether a text encoder starts from scratch somewhere.
  const auto all = methods();
  if (std::all_of(all.begin(), all.end(), [&](const std::string& m) {
        return m == "image-only" || (m == "whole" && !config_.joint_from.empty()) ||
               (m == "component" && !config_.text_from.empty());
      }))
    return result;
  check(!vocab.empty(), "compare", "the text encoders need a vocabulary: pass --vocab FILE (duet vocab makes one)");
  Tokenizer::from_vocab_file(vocab, {});
  result[vocab] = text(std::hex, fnv1a64(read_file(vocab)));
  return result;
}

// More seeds, fractions or methods extend a comparison; everything else must be as it was.
void Comparison::check_same_settings(const Json& fingerprints) const {
  check(!models::Weights::exist(config_.out), "compare", config_.out, " holds a model; choose another --out");
  const std::string path = config_.out + "/config.json";
  Json now = config_.to_json();
  now["fingerprints"] = fingerprints;
  if (fs::exists(path)) {
    check(resume_, "compare", config_.out,
          " already holds a comparison; pass --resume to go on with it, or another --out");
    const Json before = read_json(path);
    for (const auto& [key, value] : now.items())
      check(key == "seeds" || key == "fractions" || key == "methods" || key == "fingerprints" ||
                before.value(key, Json()) == value || ((value == "" || value == "pooler") && !before.contains(key)),
            "compare", config_.out, " was started with another \"", key, "\": ", before.value(key, Json()).dump(),
            ", now ", value.dump(), "; repeat the settings or use another --out");
    const Json known = before.value("fingerprints", Json::object());
    for (const auto& [file, fingerprint] : known.items()) {
      check(!fingerprints.contains(file) || fingerprints[file] == fingerprint, "compare", file, " has changed since ",
            config_.out, " was started; use another --out");
      now["fingerprints"][file] = fingerprint;
    }
  }
  make_directories(config_.out);
  write_file_atomically(path, now.dump(2) + "\n");
}

// The model directories that took the place of a first stage, by that stage.
Json Comparison::given_models() const {
  Json given = Json::object();
  for (const auto& [part, directory] :
       {std::pair("joint", config_.joint_from), {"vision", config_.vision_from}, {"text", config_.text_from}})
    if (!directory.empty()) given[part] = directory;
  return given;
}

Json Comparison::dataset_description() const {
  const Dataset dataset =
      Dataset::open(config_.finetune.data[0], {.on_bad_sample = config_.finetune.input.on_bad_sample});
  // Rows without a label are fine-tuning's to report.
  const auto counts = [&](const char* split) {
    std::vector<double> count(dataset.labels().size());
    for (const Sample& s : dataset.split(split))
      if (s.has_label()) count.at(static_cast<size_t>(s.label)) += 1;
    return count;
  };
  const std::vector<double> train_counts = counts("train"), test_counts = counts("test");
  const double test_size = std::accumulate(test_counts.begin(), test_counts.end(), 0.0);
  check(test_size > 0, "compare", config_.finetune.data[0], ": no row of split \"test\" has a label");
  // What always answering the most frequent training label would score.
  const auto majority =
      static_cast<size_t>(std::max_element(train_counts.begin(), train_counts.end()) - train_counts.begin());
  return {{"name", dataset.name()},
          {"labels", dataset.labels()},
          {"train", dataset.split("train").size()},
          {"validation", dataset.has_split("val") ? dataset.split("val").size() : 0},
          {"test", static_cast<int64_t>(test_size)},
          {"majority_accuracy", test_counts[majority] / test_size}};
}

Json Comparison::run() {
  const Json dataset = dataset_description();  // first, so that unusable data leave nothing behind
  check_same_settings(fingerprints());
  const size_t total = methods().size() * static_cast<size_t>(config_.seeds) * config_.fractions.size();
  Json cells = Json::array();
  for (int64_t i = 0; i < config_.seeds; ++i)
    for (const double fraction : config_.fractions)
      for (const std::string& method : methods()) {
        const uint64_t seed = config_.finetune.options.seed + static_cast<uint64_t>(i);
        std::cerr << "cell " << cells.size() + 1 << "/" << total << "  " << method << ", seed " << seed << ", fraction "
                  << fraction << '\n';
        try {
          throw_if_interrupted("the comparison");
          cells.push_back(cell(method, seed, fraction));
        } catch (const Interrupted&) {
          throw Interrupted(text("interrupted in cell ", cells.size() + 1, " of ", total,
                                 "; continue with --resume --out ", config_.out));
        }
        std::cerr << "  test accuracy " << cells.back()["accuracy"] << ", macro F1 " << cells.back()["macro_f1"]
                  << '\n';
      }
  char created[32] = "";
  const std::time_t now = std::time(nullptr);
  std::strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  const Json head{{"dataset", dataset},
                  {"command", config_.finetune.command},
                  {"duet_version", config_.version},
                  {"machine", config_.machine},
                  {"created", created},
                  {"size", config_.size_name},
                  {"share_pretraining", config_.share_pretraining},
                  {"given_models", given_models()},
                  {"config", config_.to_json()}};
  const Json report = summarise(cells, head);
  write_file_atomically(config_.out + "/report.json", report.dump(1) + "\n");
  write_report_html(report, config_.out + "/report.html");
  return report;
}

}  // namespace

Json CompareConfig::to_json() const {
  return {{"data", finetune.data},
          {"methods", methods.empty() ? all_methods : methods},
          {"seed", finetune.options.seed},
          {"seeds", seeds},
          {"fractions", fractions},
          {"share_pretraining", share_pretraining},
          {"vision_data", vision_data},
          {"text_data", text_data},
          {"joint_data", joint_data},
          {"text_objective", text_objective},
          {"vision_from", vision_from},
          {"text_from", text_from},
          {"joint_from", joint_from},
          {"vocab", finetune.vocab},
          {"size", finetune.size.to_json()},
          {"text_pooling", finetune.text_pooling == models::ClassifierConfig::TextPooling::mean ? "mean" : "pooler"},
          {"dropout", finetune.dropout},
          {"vision_dropout", vision_dropout.value_or(finetune.dropout)},
          {"text_dropout", text_dropout.value_or(finetune.dropout)},
          {"joint_dropout", joint_dropout.value_or(finetune.dropout)},
          {"max_length", finetune.input.max_length},
          {"fit", fit_name(finetune.input.steps.fit)},
          {"finetune", finetune.options.to_json()},
          {"pretrain_vision", vision.to_json()},
          {"pretrain_text", text.to_json()},
          {"pretrain_joint", joint.to_json()}};
}

Json compare(const CompareConfig& config, bool resume) {
  check(config.seeds >= 1, "compare", "--seeds must be at least 1, got ", config.seeds);
  check(!config.fractions.empty(), "compare", "--fractions needs at least one value");
  for (const double f : config.fractions) check(f > 0 && f <= 1, "compare", "fraction ", f, " is not in (0, 1]");
  for (const std::string& m : config.methods)
    check(std::find(all_methods.begin(), all_methods.end(), m) != all_methods.end(), "compare", "unknown method \"", m,
          "\"; use whole, component, image-only, text-only, concat-scratch");
  return Comparison(config, resume).run();
}

}  // namespace duet::train
