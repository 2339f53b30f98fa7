#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "duet/core/tensor.h"

namespace duet {

// A safetensors file: u64 header length, JSON header, one data buffer (https://github.com/huggingface/safetensors).
// Opening maps the file and checks the whole header against it; errors carry the reference implementation's name of the
// violated rule, e.g. InvalidOffset. Weights are read from the page cache when a tensor is loaded, and never held
// twice.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::string& path);
  // The content of a file; `source` names it in errors.
  static SafetensorsFile parse(std::string bytes, const std::string& source);

  struct Entry {
    std::string dtype;  // as in the file, e.g. "F16"
    std::vector<int64_t> shape;
    uint64_t begin = 0, end = 0;  // bytes in the data buffer
  };

  const std::string& path() const { return path_; }
  std::vector<std::string> names() const;  // in the order of the data
  bool contains(const std::string& name) const { return entries_.contains(name); }
  const Entry& entry(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  Shape shape(const std::string& name) const;  // throws Error above Shape::max_rank dimensions
  // The elements as the file has them, little-endian and perhaps unaligned; valid as long as this object or a copy is.
  std::string_view bytes(const std::string& name) const;
  // F64, F32, BF16, I64, I32 and U8 as they are, BOOL as u8, F16 widened to f32. Other dtypes are an Error.
  Tensor load(const std::string& name) const;
  // The same straight into `target`, converted to its dtype. Throws Error unless the shapes are equal.
  void load_into(const std::string& name, const Tensor& target) const;

 private:
  SafetensorsFile() = default;
  void read_header();

  std::string path_;
  std::shared_ptr<const void> owner_;  // of the memory behind bytes_
  std::string_view bytes_;
  uint64_t data_start_ = 0;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

// Writes aside, tensor by tensor, and renames into place; flushed to the disk on return. Tensors are ordered as the
// reference writer orders them: larger elements first, then by name.
void save_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                      const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace duet
