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

// Older files call the norm parameters gamma and beta; wrappers add "bert." or "vit."; dual encoders and our own
// classifier add "text_model." or "vision_model.". All are reduced to one form, with the part in front.
std::string canonical(std::string key, const std::string& type) {
  const auto replace_end = [&](const std::string& from, const std::string& to) {
    if (key.ends_with(from)) key = key.substr(0, key.size() - from.size()) + to;
  };
  replace_end("LayerNorm.gamma", "LayerNorm.weight");
  replace_end("LayerNorm.beta", "LayerNorm.bias");
  if (type != "bert" && type != "vit") return key;
  const std::string part = type == "bert" ? "text_model." : "vision_model.", wrapper = type + ".";
  if (key.starts_with(wrapper)) return part + key.substr(wrapper.size());
  const bool head = key.starts_with("classifier.") || key.starts_with("cls.");
  return head ? key : part + key;
}

bool ignorable(const std::string& key) {
  return key.ends_with("embeddings.position_ids") || key.ends_with("embeddings.token_type_ids") ||
         key.ends_with("predictions.decoder.weight") || key.ends_with("predictions.decoder.bias");
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
      if (key.starts_with(part)) key = type + "." + key.substr(part.size());
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
  const std::string type = model_type(read_model_config(directory));
  const SafetensorsFile file = SafetensorsFile::open(directory + "/model.safetensors");
  std::map<std::string, std::string> by_canonical;
  for (const std::string& name : file.names()) by_canonical[canonical(name, type)] = name;

  LoadReport report;
  std::set<std::string> used;
  for (Parameter& p : store.parameters()) {
    if (!p.name.starts_with(prefix)) continue;
    const bool vision = p.name.starts_with("vision_model.");
    const std::vector<std::string> keys = unpack(p.name, vision ? "attention" : "self");
    std::vector<Tensor> parts;
    for (const std::string& key : keys) {
      const auto it = by_canonical.find(key);
      if (it == by_canonical.end()) continue;
      parts.push_back(file.load(it->second).to(store.dtype()));
      used.insert(key);
    }
    if (parts.empty()) {
      report.missing.push_back(p.name);
      continue;
    }
    check(parts.size() == keys.size(), "model", directory, ": ", p.name, " needs all of query, key and value");
    for (size_t i = 0; i < parts.size(); ++i) {
      const Tensor target = keys.size() == 1 ? p.value.data() : part_of(p.value.data(), i, keys.size());
      check(parts[i].shape() == target.shape(), "model", directory, ": ", keys[i], " is ", parts[i].shape(),
            ", the model wants ", target.shape());
      target.copy_from(parts[i]);
    }
    report.loaded.push_back(p.name);
  }
  for (const auto& [key, name] : by_canonical)
    if (!used.contains(key) && !ignorable(key)) report.unexpected.push_back(name);
  return report;
}

}  // namespace duet::models
