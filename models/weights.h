#pragma once

#include "duet/core/json.h"
#include "duet/core/safetensors.h"

namespace duet::models {

// The tensors of a model directory: those of model.safetensors, or of the shards that model.safetensors.index.json
// names. Opening reads the headers only.
class Weights {
 public:
  // Throws Error when the directory has neither, or when the index and its shards disagree: a file name that leaves the
  // directory, a tensor that its file lacks, a tensor in two files.
  static Weights open(const std::string& directory);
  static bool exist(const std::string& directory);

  const std::vector<SafetensorsFile>& files() const { return files_; }
  std::vector<std::string> names() const;  // in byte order
  bool contains(const std::string& name) const { return file_of_.contains(name); }
  const SafetensorsFile& file_of(const std::string& name) const;  // throws Error when no file has it
  Shape shape(const std::string& name) const { return file_of(name).shape(name); }

 private:
  void add(SafetensorsFile file);

  std::string directory_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> file_of_;  // by tensor
};

}  // namespace duet::models
