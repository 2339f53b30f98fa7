#include "duet/models/hub.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <set>

#include "duet/core/file.h"
#include "duet/core/safetensors.h"

namespace duet::models {
namespace {

namespace fs = std::filesystem;

// Splits packed names: "X.attention.qkv.weight" -> "X.attention.{self|attention}.{query,key,value}.weight".
std::vector<std::string> unpack(const std::string& name, const char* middle) {
  const std::string packed = ".attention.qkv.";
  const size_t at = name.find(packed);
  if (at == std::string::npos) return {name};
  std::vector<std::string> names;
  for (const char* part : {"query", "key", "value"})
    names.push_back(name.substr(0, at) + ".attention." + middle + "." + part + "." + name.substr(at + packed.size()));
  return names;
}

std::string model_type(const Json& config) {
  return json_get<std::string>(config, "model_type", "");
}

// Transformers 5 renamed the parts of ViT layers; its files normally keep the old names, but need not.
std::string legacy_vit_key(std::string key) {
  for (const auto& [from, to] : {std::pair("vision_model.layers.", "vision_model.encoder.layer."),
                                 {".attention.q_proj.", ".attention.attention.query."},
                                 {".attention.k_proj.", ".attention.attention.key."},
                                 {".attention.v_proj.", ".attention.attention.value."},
                                 {".attention.o_proj.", ".attention.output.dense."},
                                 {".mlp.fc1.", ".intermediate.dense."},
                                 {".mlp.fc2.", ".output.dense."}})
    if (const size_t at = key.find(from); at != std::string::npos) key.replace(at, std::strlen(from), to);
  return key;
}

// Older files call the norm parameters gamma and beta; wrappers add "bert." or "vit."; dual encoders and our own
// classifier add "text_model." or "vision_model.". All are reduced to one form, with the part in front.
std::string canonical(std::string key, const std::string& type) {
  const auto replace_end = [&](const std::string& from, const std::string& to) {
    if (key.ends_with(from)) key = key.substr(0, key.size() - from.size()) + to;
  };
  replace_end("LayerNorm.gamma", "LayerNorm.weight");
  replace_end("LayerNorm.beta", "LayerNorm.bias");
  if (type == "bert" || type == "vit") {
    const std::string part = type == "bert" ? "text_model." : "vision_model.", wrapper = type + ".";
    const bool head = key.starts_with("classifier.") || key.starts_with("cls.");
    if (key.starts_with(wrapper))
      key = part + key.substr(wrapper.size());
    else if (!head)
      key = part + key;
  }
  return key.starts_with("vision_model.layers.") ? legacy_vit_key(key) : key;
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

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

const std::string decoder_weight = "cls.predictions.decoder.weight", decoder_bias = "cls.predictions.decoder.bias",
                  prediction_bias = "cls.predictions.bias",
                  word_embeddings = "text_model.embeddings.word_embeddings.weight";

// Our masked-language-modelling head has no decoder of its own: its weight is the word embeddings, its bias the
// predictions' bias. Files may hold either name, or both when a tool saved tied tensors twice.
void untie_decoder(std::map<std::string, std::string>& keys, const SafetensorsFile& file, const Json& config,
                   const std::string& directory) {
  if (keys.contains(decoder_bias) && !keys.contains(prediction_bias)) keys[prediction_bias] = keys[decoder_bias];
  keys.erase(decoder_bias);
  if (!keys.contains(decoder_weight)) return;
  const bool tied = json_get(config, "tie_word_embeddings", true);
  const bool equal =
      keys.contains(word_embeddings) && same_bits(file.load(keys[decoder_weight]), file.load(keys[word_embeddings]));
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

}  // namespace

HubKey hub_key(const std::string& parameter, const Json& config) {
  const std::string type = model_type(config);
  const bool vision = parameter.starts_with("vision_model.");
  HubKey result{unpack(parameter, vision ? "attention" : "self")};
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
  if (fs::exists(path + "/model.safetensors") || !fs::exists(path + "/model/model.safetensors")) return path;
  return path + "/model";
}

Json read_model_config(const std::string& directory) {
  const std::string path = directory + "/config.json";
  check(fs::exists(path) && fs::exists(directory + "/model.safetensors"), "model", directory,
        " is no model directory: it needs config.json and model.safetensors (a run keeps its model under RUN/model)");
  return read_json(path);
}

LoadReport load_parameters(ParamStore& store, const std::string& directory, const std::string& prefix) {
  const Json config = read_model_config(directory);
  const std::string type = model_type(config);
  check(type == "vit" || type == "bert" || type == "vision-text-dual-encoder" || type == "duet-multimodal-classifier",
        "model", directory, ": model_type \"", type,
        "\" is not supported; vit, bert, vision-text-dual-encoder and duet-multimodal-classifier are");
  const SafetensorsFile file = SafetensorsFile::open(directory + "/model.safetensors");
  std::map<std::string, std::string> by_canonical;
  for (const std::string& name : file.names()) by_canonical[canonical(name, type)] = name;
  untie_decoder(by_canonical, file, config, directory);

  LoadReport report;
  std::set<std::string> used;
  for (Parameter& p : store.parameters()) {
    if (!p.name.starts_with(prefix)) continue;
    const bool vision = p.name.starts_with("vision_model.");
    const std::vector<std::string> keys = unpack(p.name, vision ? "attention" : "self");
    std::vector<Tensor> parts;
    std::vector<std::string> names;
    for (const std::string& key : keys) {
      const auto it = by_canonical.find(key);
      if (it == by_canonical.end()) continue;
      parts.push_back(file.load(it->second).to(store.dtype()));
      names.push_back(it->second);
      used.insert(key);
    }
    if (parts.empty()) {
      report.missing.push_back(p.name);
      continue;
    }
    check(parts.size() == keys.size(), "model", directory, ": ", p.name,
          " needs all of query, key and value, the file has only ", names[0]);
    for (size_t i = 0; i < parts.size(); ++i) {
      const Tensor target = keys.size() == 1 ? p.value.data() : part_of(p.value.data(), i, keys.size());
      check(parts[i].shape() == target.shape(), "model", directory, ": ", names[i], " is ", parts[i].shape(),
            ", the model wants ", target.shape());
      target.copy_from(parts[i]);
    }
    report.loaded.push_back(p.name);
  }
  for (const auto& [key, name] : by_canonical)
    if (key.starts_with(prefix) && !used.contains(key) && !is_buffer(key)) report.unexpected.push_back(name);
  return report;
}

}  // namespace duet::models
