#include "duet/models/weights.h"

#include <filesystem>
#include <set>

#include "duet/core/file.h"

namespace duet::models {
namespace {

namespace fs = std::filesystem;

std::string whole_file(const std::string& directory) {
  return directory + "/model.safetensors";
}

std::string index_file(const std::string& directory) {
  return directory + "/model.safetensors.index.json";
}

}  // namespace

bool Weights::exist(const std::string& directory) {
  return fs::exists(whole_file(directory)) || fs::exists(index_file(directory));
}

void Weights::add(SafetensorsFile file) {
  for (const std::string& name : file.names()) {
    const auto [at, fresh] = file_of_.emplace(name, files_.size());
    check(fresh, "model", directory_, ": tensor ", name, " is in ", fresh ? "" : files_[at->second].path(), " and in ",
          file.path());
  }
  files_.push_back(std::move(file));
}

Weights Weights::open(const std::string& directory) {
  Weights weights;
  weights.directory_ = directory;
  if (fs::exists(whole_file(directory))) {
    weights.add(SafetensorsFile::open(whole_file(directory)));
    return weights;
  }
  const std::string path = index_file(directory);
  for (const char* other : {"pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"})
    check(fs::exists(path) || !fs::exists(directory + "/" + other), "model", directory, " has weights as ", other,
          " only, which is not read; save them as safetensors: in Python, "
          "AutoModel.from_pretrained(DIR).save_pretrained(DIR)");
  check(fs::exists(path), "model", directory,
        " is no model directory: it has no model.safetensors (a run keeps its model under RUN/model)");
  const SortedJson index = parse_sorted_json(read_file(path), path);
  check(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object() &&
            !index["weight_map"].empty(),
        "model", path, ": weight_map is missing or empty");
  std::set<std::string> shards;
  for (const auto& [name, shard] : index["weight_map"].items()) {
    check(shard.is_string() && !shard.get_ref<const std::string&>().empty() &&
              shard.get_ref<const std::string&>().find_first_of("/\\") == std::string::npos,
          "model", path, ": the file of tensor ", name, " must be a name within the directory, got ", shard.dump());
    shards.insert(shard.get<std::string>());
  }
  for (const std::string& shard : shards) weights.add(SafetensorsFile::open(directory + "/" + shard));
  for (const auto& [name, shard] : index["weight_map"].items()) {
    const auto at = weights.file_of_.find(name);
    check(at != weights.file_of_.end() &&
              weights.files_[at->second].path() == directory + "/" + shard.get_ref<const std::string&>(),
          "model", path, ": tensor ", name, " is not in ", shard.get_ref<const std::string&>());
  }
  return weights;
}

std::vector<std::string> Weights::names() const {
  std::vector<std::string> result;
  for (const auto& [name, file] : file_of_) result.push_back(name);
  return result;
}

const SafetensorsFile& Weights::file_of(const std::string& name) const {
  const auto at = file_of_.find(name);
  check(at != file_of_.end(), "model", directory_, " has no tensor ", name);
  return files_[at->second];
}

}  // namespace duet::models
