#include "duet/models/hub.h"

#include <unistd.h>

#include <filesystem>
#include <set>

#include "duet/core/dispatch.h"
#include "duet/core/file.h"
#include "duet/models/layouts.h"

namespace duet::models {
namespace {

namespace fs = std::filesystem;

constexpr const char* supported_types = "vit, bert, vision-text-dual-encoder and duet-multimodal-classifier are";

std::string model_type(const Json& config) {
  return json_get<std::string>(config, "model_type", "");
}

bool is_supported(const std::string& type) {
  return type == "vit" || type == "bert" || type == "vision-text-dual-encoder" || type == "duet-multimodal-classifier";
}

// Whether the config describes a bare encoder, whose keys have no "bert." or "vit." in front.
bool is_bare_encoder(const Json& config) {
  const auto names = json_get(config, "architectures", std::vector<std::string>());
  return names.empty() || names[0] == "BertModel" || names[0] == "ViTModel";
}

// Buffers that older files hold; they are no parameters.
bool is_buffer(const std::string& key) {
  return key.ends_with("embeddings.position_ids") || key.ends_with("embeddings.token_type_ids");
}

const std::string decoder_weight = "cls.predictions.decoder.weight", decoder_bias = "cls.predictions.decoder.bias",
                  prediction_bias = "cls.predictions.bias",
                  word_embeddings = "text_model.embeddings.word_embeddings.weight";

// Our masked-language-modelling head has no decoder of its own: its weight is the word embeddings, its bias the
// predictions' bias. Files may hold either name, or both when a tool saved tied tensors twice.
void untie_decoder(std::map<std::string, std::string>& keys, const Weights& weights, const Json& config,
                   const std::string& directory) {
  if (keys.contains(decoder_bias) && !keys.contains(prediction_bias)) keys[prediction_bias] = keys[decoder_bias];
  keys.erase(decoder_bias);
  if (!keys.contains(decoder_weight)) return;
  const bool tied = json_get(config, "tie_word_embeddings", true);
  const auto content = [&](const std::string& name) { return weights.file_of(name).bytes(name); };
  const bool equal = keys.contains(word_embeddings) && content(keys[decoder_weight]) == content(keys[word_embeddings]);
  check(tied || equal, "model", directory,
        ": tie_word_embeddings false is not supported, and decoder.weight differs from the word embeddings");
  // A tied decoder that differs is ignored, as in Transformers, and stays to be reported.
  if (equal) keys.erase(decoder_weight);
}

// Rows [part / parts) of a tensor whose first dimension packs `parts` equal ones.
Tensor part_of(const Tensor& tensor, size_t part, size_t parts) {
  const int64_t rows = tensor.dim(0) / static_cast<int64_t>(parts);
  return tensor.rows_view(static_cast<int64_t>(part) * rows, static_cast<int64_t>(part + 1) * rows);
}

class ParameterLoader {
 public:
  ParameterLoader(ParamStore& store, Weights weights, const Json& config, const std::string& directory,
                  const LoadOptions& options)
      : store_(store), weights_(std::move(weights)), directory_(directory), options_(options) {
    const Layout layout = layout_of(weights_);
    for (const std::string& key : weights_.names()) {
      const auto [at, fresh] = keys_.emplace(parameter_name(key, layout, model_type(config)), key);
      // Some tools save a tensor under an old and a new name.
      check(fresh || weights_.file_of(key).bytes(key) == weights_.file_of(at->second).bytes(at->second), "model",
            directory, ": ", at->second, " and ", key, " are the same parameter and differ");
    }
    untie_decoder(keys_, weights_, config, directory);
  }

  LoadReport load() {
    for (Parameter& p : store_.parameters())
      if (p.name.starts_with(options_.prefix)) load(p);
    for (const auto& [name, key] : keys_)
      if (name.starts_with(options_.prefix) && !used_.contains(name) && !is_buffer(name))
        report_.unexpected.push_back(key);
    check_encoders();
    check(options_.strictness < Strictness::complete || report_.missing.empty(), "model", directory_,
          ": weights are missing: ", list(report_.missing));
    check(options_.strictness < Strictness::exact || report_.unexpected.empty(), "model", directory_,
          ": tensors that the model has no place for: ", list(report_.unexpected));
    return std::move(report_);
  }

 private:
  // Heads and poolers may be absent or left over. A layer of an encoder may not: the config and the weights contradict
  // each other then, and the results would be wrong.
  void check_encoders() const {
    if (options_.strictness < Strictness::shapes) return;
    const auto in_layer = [](const std::string& name) { return name.find("_model.encoder.layer.") != name.npos; };
    for (const std::string& name : report_.missing) {
      const std::string part = name.substr(0, name.find('.') + 1);
      const auto first = keys_.lower_bound(part);
      const bool there = first != keys_.end() && first->first.starts_with(part);
      check(!there || !part.ends_with("_model.") || name.find("pooler") != name.npos, "model", directory_,
            ": weights are missing: ", list(report_.missing), "; does config.json belong to these weights?");
    }
    for (const auto& [name, key] : keys_) {
      if (used_.contains(name) || !in_layer(name) || !name.starts_with(options_.prefix)) continue;
      const std::string part = name.substr(0, name.find('.') + 1);
      check(!store_.has_part(part), "model", directory_, ": ", key,
            " has no place in a model of this config; does config.json belong to these "
            "weights?");
    }
  }

  void load(Parameter& p) {
    const Tensor target = p.value.data();
    if (keys_.contains(p.name)) {
      if (!copy(p, p.name, target)) return;
    } else {
      const std::vector<std::string> parts = unpack(p.name);
      size_t found = 0;
      for (const std::string& part : parts) found += keys_.contains(part);
      if (parts.size() == 1 || found == 0) return report_.missing.push_back(p.name);
      check(found == parts.size(), "model", directory_, ": ", p.name, " needs all of query, key and value, of which ",
            found, " are there");
      for (size_t i = 0; i < parts.size(); ++i)
        if (!copy(p, parts[i], part_of(target, i, parts.size()))) return;
    }
    fold_scale(p);
    check_finite(p);
    p.ready = true;
    report_.loaded.push_back(p.name);
  }

  // False when the shapes differ and that is only reported.
  bool copy(const Parameter& p, const std::string& name, const Tensor& target) {
    const std::string& key = keys_.at(name);
    used_.insert(name);
    const SafetensorsFile& file = weights_.file_of(key);
    const Shape shape = file.shape(key);
    const std::string& dtype = file.entry(key).dtype;
    check(dtype == "F32" || dtype == "F16" || dtype == "BF16" || dtype == "F64", "model", directory_, ": ", key,
          " has dtype ", dtype, ", weights must be F32, F16, BF16 or F64");
    if (shape == target.shape()) {
      file.load_into(key, target);
      return true;
    }
    if (options_.positions && p.name.ends_with("embeddings.position_embeddings") && shape.rank() == 3 &&
        shape[0] == 1 && shape[2] == target.dim(2)) {
      const int64_t side = grid_side(target.dim(1));
      target.copy_from(interpolate_positions(file.load(key).to(target.dtype()), side, side, *options_.positions));
      return true;
    }
    report_.mismatched.push_back({p.name, key, shape, target.shape()});
    check(options_.strictness < Strictness::shapes, "model", directory_, ": ", key, " is ", shape, ", the model wants ",
          target.shape());
    return false;
  }

  // LayerScale multiplies the output of the linear layer before it: W' = diag(g) W, b' = g b.
  void fold_scale(const Parameter& p) {
    const size_t dot = p.name.rfind('.'), dense = p.name.rfind(".dense.");
    if (dense == std::string::npos) return;
    const auto at = keys_.find(p.name.substr(0, dense) + ".scale");
    if (at == keys_.end()) return;
    used_.insert(at->first);
    const Tensor data = p.value.data(), scale = Tensor::empty({data.dim(0)}, data.dtype());
    weights_.file_of(at->second).load_into(at->second, scale);
    const int64_t width = p.name.substr(dot) == ".bias" ? 1 : data.dim(1);
    dispatch_cpu("checkpoint", data, [&]<class T>(Type<T>) {
      for (int64_t i = 0; i < data.numel(); ++i) data.data<T>()[i] *= scale.data<T>()[i / width];
    });
  }

  void check_finite(const Parameter& p) const {
    const Tensor data = p.value.data();
    dispatch_cpu("checkpoint", data, [&]<class T>(Type<T>) {
      // x * 0 is 0 for finite numbers and NaN for all others, and sums vectorise where tests do not.
      T sum = 0;
      for (const T value : data.values<T>()) sum += value * T(0);
      check(sum == 0, "model", directory_, ": the tensor of ", p.name, " holds NaN or infinity");
    });
  }

  static std::string list(const std::vector<std::string>& names) {
    std::string result;
    for (size_t i = 0; i < std::min<size_t>(names.size(), 5); ++i) result += (i ? ", " : "") + names[i];
    return names.size() > 5 ? text(result, " and ", names.size() - 5, " more") : result;
  }

  ParamStore& store_;
  Weights weights_;
  std::string directory_;
  LoadOptions options_;
  std::map<std::string, std::string> keys_;  // the files' keys by our names
  std::set<std::string> used_;
  LoadReport report_;
};

}  // namespace

HubKey hub_key(const std::string& parameter, const Json& config) {
  const std::string type = model_type(config);
  const bool vision = parameter.starts_with("vision_model.");
  HubKey result{unpack(parameter)};
  if (type == "vit" || type == "bert")
    for (std::string& key : result.keys) {
      const std::string part = vision ? "vision_model." : "text_model.";
      if (key.starts_with(part)) key = (is_bare_encoder(config) ? "" : type + ".") + key.substr(part.size());
    }
  return result;
}

void save_model_directory(const std::string& directory, const ParamStore& store, const Json& config,
                          const std::function<void(const std::string&)>& extra) {
  const std::string aside = directory + ".tmp-" + std::to_string(::getpid());
  fs::remove_all(aside);
  make_directories(aside);
  try {
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (const Parameter& p : store.parameters()) {
      const HubKey key = hub_key(p.name, config);
      for (size_t i = 0; i < key.keys.size(); ++i)
        tensors.emplace_back(key.keys[i],
                             key.keys.size() == 1 ? p.value.data() : part_of(p.value.data(), i, key.keys.size()));
    }
    save_safetensors(aside + "/model.safetensors", tensors);
    write_file_atomically(aside + "/config.json", config.dump(2) + "\n");
    if (extra) extra(aside);
    sync_path(aside);
    fs::remove_all(directory);
    fs::rename(aside, directory);
    const auto parent = fs::path(directory).parent_path();
    sync_path(parent.empty() ? "." : parent.string());
  } catch (const std::exception& e) {
    std::error_code ignored;
    fs::remove_all(aside, ignored);
    fail("model", "cannot save ", directory, ": ", e.what());
  }
}

std::string find_model_directory(const std::string& path) {
  return !Weights::exist(path) && Weights::exist(path + "/model") ? path + "/model" : path;
}

namespace {

Json read_config(const std::string& directory, const Weights& weights) {
  const std::string path = directory + "/config.json";
  Json config = fs::exists(path) ? read_json(path) : Json::object();
  check(config.is_object(), "model", path, " holds no JSON object");
  if (layout_of(weights) != Layout::hugging_face) return foreign_config(weights, layout_of(weights), config, directory);
  check(!config.empty(), "model", directory, " has no config.json");
  return config;
}

}  // namespace

Json read_model_config(const std::string& directory) {
  return read_config(directory, Weights::open(directory));
}

Json encoder_config(const Json& config, bool vision) {
  const char *key = vision ? "vision_config" : "text_config", *wanted = vision ? "vit" : "bert";
  const std::string type = model_type(config);
  if (type == wanted) return config;
  check(is_supported(type), "config", "model_type \"", type, "\" is not supported; ", supported_types);
  if (!config.contains(key)) return Json();
  // Other models can have the same keys and mean something else by them, as RoBERTa's positions start at two.
  const std::string part = model_type(config[key]);
  check(part == wanted, "config", key, " of model_type \"", part, "\" is not supported; ", wanted, " is");
  return config[key];
}

LoadReport load_parameters(ParamStore& store, const std::string& directory, const LoadOptions& options) {
  Weights weights = Weights::open(directory);
  const Json config = read_config(directory, weights);
  const std::string type = model_type(config);
  check(is_supported(type), "model", directory, ": model_type \"", type, "\" is not supported; ", supported_types);
  return ParameterLoader(store, std::move(weights), config, directory, options).load();
}

bool load_encoder(ParamStore& store, const std::string& directory) {
  LoadReport report = load_parameters(store, directory);
  const size_t of_pooler =
      std::erase_if(report.missing, [](const std::string& name) { return name.find("pooler.dense") != name.npos; });
  check(report.missing.empty() && (of_pooler == 0 || of_pooler == 2), "model", directory,
        ": weights are missing, e.g. ", report.missing.empty() ? "a part of the pooler" : report.missing[0]);
  return of_pooler == 0;
}

}  // namespace duet::models
