#include "duet/core/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>

#include "duet/core/file.h"
#include "duet/core/json.h"

namespace duet {
namespace {

constexpr uint64_t max_header = 100'000'000;

struct DTypeInfo {
  const char* name;
  int bits;
};
// In the reference writer's ascending alignment order.
constexpr std::array dtype_table = {
    DTypeInfo{"BOOL", 8},    DTypeInfo{"F4", 4},          DTypeInfo{"F6_E2M3", 6},     DTypeInfo{"F6_E3M2", 6},
    DTypeInfo{"U8", 8},      DTypeInfo{"I8", 8},          DTypeInfo{"F8_E5M2", 8},     DTypeInfo{"F8_E4M3", 8},
    DTypeInfo{"F8_E8M0", 8}, DTypeInfo{"F8_E4M3FNUZ", 8}, DTypeInfo{"F8_E5M2FNUZ", 8}, DTypeInfo{"I16", 16},
    DTypeInfo{"U16", 16},    DTypeInfo{"F16", 16},        DTypeInfo{"BF16", 16},       DTypeInfo{"I32", 32},
    DTypeInfo{"U32", 32},    DTypeInfo{"F32", 32},        DTypeInfo{"C64", 64},        DTypeInfo{"F64", 64},
    DTypeInfo{"I64", 64},    DTypeInfo{"U64", 64}};

const char* file_name(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return "F64";
    case DType::f32:
      return "F32";
    case DType::bf16:
      return "BF16";
    case DType::i64:
      return "I64";
    case DType::i32:
      return "I32";
    case DType::u8:
      return "U8";
  }
  return "";
}

size_t dtype_rank(std::string_view name) {
  const auto it =
      std::find_if(dtype_table.begin(), dtype_table.end(), [&](const DTypeInfo& d) { return name == d.name; });
  return static_cast<size_t>(it - dtype_table.begin());
}

// a * b, or false when it does not fit.
bool multiply(uint64_t a, uint64_t b, uint64_t& product) {
  return !__builtin_mul_overflow(a, b, &product);
}

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000 | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return sign ? -magnitude : magnitude;
}

uint64_t unsigned_value(const SortedJson& json, const std::string& path, const std::string& name) {
  check(json.is_number_unsigned(), "safetensors", path, ": InvalidHeaderDeserialization: tensor ", name,
        " needs non-negative integers, got ", json.dump());
  return json.get<uint64_t>();
}

SafetensorsFile::Entry parse_entry(const SortedJson& json, const std::string& path, const std::string& name) {
  const auto field = [&](const char* key) -> const SortedJson& {
    check(json.is_object() && json.contains(key), "safetensors", path, ": InvalidHeaderDeserialization: tensor ", name,
          " has no ", key);
    return json[key];
  };
  SafetensorsFile::Entry entry;
  const SortedJson &dtype = field("dtype"), &shape = field("shape"), &offsets = field("data_offsets");
  check(dtype.is_string() && dtype_rank(dtype.get<std::string>()) < dtype_table.size(), "safetensors", path,
        ": InvalidHeaderDeserialization: tensor ", name, " has dtype ", dtype.dump());
  check(shape.is_array() && offsets.is_array() && offsets.size() == 2, "safetensors", path,
        ": InvalidHeaderDeserialization: tensor ", name, " needs a shape list and two data_offsets");
  entry.dtype = dtype.get<std::string>();
  entry.begin = unsigned_value(offsets[0], path, name);
  entry.end = unsigned_value(offsets[1], path, name);
  for (const SortedJson& dim : shape) {
    const uint64_t value = unsigned_value(dim, path, name);
    check(value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()), "safetensors", path,
          ": ValidationOverflow: tensor ", name, " has a dimension of ", value);
    entry.shape.push_back(static_cast<int64_t>(value));
  }
  return entry;
}

void check_size(const SafetensorsFile::Entry& entry, const std::string& path, const std::string& name) {
  uint64_t bits = 1;
  for (const int64_t dim : entry.shape)
    check(multiply(bits, static_cast<uint64_t>(dim), bits), "safetensors", path, ": ValidationOverflow: tensor ", name,
          " is too large to count");
  check(multiply(bits, static_cast<uint64_t>(dtype_table[dtype_rank(entry.dtype)].bits), bits), "safetensors", path,
        ": ValidationOverflow: tensor ", name, " is too large to count");
  check(bits % 8 == 0, "safetensors", path, ": MisalignedSlice: tensor ", name, " of ", bits,
        " bits ends inside a byte");
  check(entry.end - entry.begin == bits / 8, "safetensors", path, ": TensorInvalidInfo: tensor ", name, " has ",
        entry.end - entry.begin, " bytes of data, its shape and dtype need ", bits / 8);
}

// What a tensor of this file dtype becomes in memory.
std::optional<DType> tensor_dtype(const std::string& name) {
  if (name == "F16") return DType::f32;
  if (name == "BOOL") return DType::u8;
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::i64, DType::i32, DType::u8})
    if (name == file_name(dtype)) return dtype;
  return std::nullopt;
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  const auto mapped = std::make_shared<const MappedFile>(path);
  SafetensorsFile file;
  file.path_ = path;
  file.bytes_ = mapped->bytes();
  file.owner_ = mapped;
  file.read_header();
  return file;
}

SafetensorsFile SafetensorsFile::parse(std::string bytes, const std::string& source) {
  const auto owned = std::make_shared<const std::string>(std::move(bytes));
  SafetensorsFile file;
  file.path_ = source;
  file.bytes_ = *owned;
  file.owner_ = owned;
  file.read_header();
  return file;
}

void SafetensorsFile::read_header() {
  check(!is_lfs_pointer(bytes_), "safetensors", path_,
        " is a Git LFS pointer, not the weights; fetch them with: git lfs pull");
  check(bytes_.size() >= 8, "safetensors", path_, ": HeaderTooSmall: ", bytes_.size(), " bytes");
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes_.data(), 8);
  check(header_size <= max_header, "safetensors", path_, ": HeaderTooLarge: ", header_size,
        " bytes; is this a safetensors file?");
  check(8 + header_size <= bytes_.size(), "safetensors", path_, ": InvalidHeaderLength: ", header_size,
        " bytes, but the file has ", bytes_.size());
  data_start_ = 8 + header_size;
  const std::string_view header_text = bytes_.substr(8, header_size);
  // The JSON library skips a byte-order mark; the format allows JSON white space only.
  check(!header_text.starts_with("\xEF\xBB\xBF"), "safetensors", path_,
        ": InvalidHeaderDeserialization: the header begins with a byte-order mark");
  SortedJson header;
  try {
    header = parse_sorted_json(header_text, path_);
  } catch (const Error& e) {
    fail("safetensors", path_, ": InvalidHeaderDeserialization: ", e.what());
  }
  check(header.is_object(), "safetensors", path_, ": InvalidHeaderDeserialization: the header is no object");
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries_[name] = parse_entry(value, path_, name);
      continue;
    }
    check(value.is_object(), "safetensors", path_, ": InvalidHeaderDeserialization: __metadata__ is no object");
    for (const auto& [key, text_value] : value.items()) {
      check(text_value.is_string(), "safetensors", path_, ": InvalidHeaderDeserialization: __metadata__ \"", key,
            "\" is no string");
      metadata_[key] = text_value.get<std::string>();
    }
  }
  uint64_t start = 0;
  for (const std::string& name : names()) {
    const Entry& entry = entries_.at(name);
    check(entry.begin == start && entry.end >= entry.begin, "safetensors", path_, ": InvalidOffset: tensor ", name,
          " at [", entry.begin, ", ", entry.end, "), expected to begin at ", start);
    start = entry.end;
    check_size(entry, path_, name);
  }
  check(data_start_ + start == bytes_.size(), "safetensors", path_,
        ": MetadataIncompleteBuffer: ", bytes_.size() - data_start_, " bytes of data, the header describes ", start);
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> result;
  for (const auto& [name, entry] : entries_) result.push_back(name);
  std::stable_sort(result.begin(), result.end(), [&](const std::string& a, const std::string& b) {
    const Entry &x = entries_.at(a), &y = entries_.at(b);
    return std::pair(x.begin, x.end) < std::pair(y.begin, y.end);
  });
  return result;
}

const SafetensorsFile::Entry& SafetensorsFile::entry(const std::string& name) const {
  const auto it = entries_.find(name);
  check(it != entries_.end(), "safetensors", path_, " has no tensor ", name);
  return it->second;
}

Shape SafetensorsFile::shape(const std::string& name) const {
  const std::vector<int64_t>& dims = entry(name).shape;
  check(dims.size() <= Shape::max_rank, "safetensors", path_, ": tensor ", name, " has ", dims.size(),
        " dimensions, at most ", Shape::max_rank, " can be loaded");
  Shape shape;
  for (const int64_t dim : dims) shape.append(dim);
  return shape;
}

std::string_view SafetensorsFile::bytes(const std::string& name) const {
  const Entry& e = entry(name);
  return bytes_.substr(data_start_ + e.begin, e.end - e.begin);
}

Tensor SafetensorsFile::load(const std::string& name) const {
  const Entry& e = entry(name);
  const std::optional<DType> dtype = tensor_dtype(e.dtype);
  check(dtype.has_value(), "safetensors", path_, ": tensor ", name, " has dtype ", e.dtype, ", which cannot be loaded");
  const Tensor tensor = Tensor::empty(shape(name), *dtype);
  load_into(name, tensor);
  return tensor;
}

void SafetensorsFile::load_into(const std::string& name, const Tensor& target) const {
  const Entry& e = entry(name);
  const std::optional<DType> dtype = tensor_dtype(e.dtype);
  check(dtype.has_value(), "safetensors", path_, ": tensor ", name, " has dtype ", e.dtype, ", which cannot be loaded");
  check(shape(name) == target.shape(), "safetensors", path_, ": tensor ", name, " is ", shape(name), ", wanted is ",
        target.shape());
  // The file does not promise alignment, so elements are copied, never looked at in place.
  const std::string_view source = bytes(name);
  if (target.dtype() == DType::f32 && e.dtype == "F16") {
    for (size_t i = 0; i < source.size() / 2; ++i) {
      uint16_t half = 0;
      std::memcpy(&half, source.data() + 2 * i, 2);
      target.data<float>()[i] = half_to_float(half);
    }
  } else if (target.dtype() == DType::f32 && e.dtype == "BF16") {
    for (size_t i = 0; i < source.size() / 2; ++i) {
      uint16_t high = 0;
      std::memcpy(&high, source.data() + 2 * i, 2);
      target.data<float>()[i] = std::bit_cast<float>(static_cast<uint32_t>(high) << 16);
    }
  } else if (target.dtype() == *dtype) {
    if (!source.empty()) std::memcpy(target.raw(), source.data(), source.size());
  } else {
    target.copy_from(load(name).to(target.dtype()));
  }
}

void save_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<const std::pair<std::string, Tensor>*> order;
  for (const auto& entry : tensors) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    const size_t ra = dtype_rank(file_name(a->second.dtype())), rb = dtype_rank(file_name(b->second.dtype()));
    return ra != rb ? ra > rb : a->first < b->first;
  });
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const auto* entry : order) {
    const auto& [name, tensor] = *entry;
    check(tensor.defined(), "safetensors", path, ": tensor ", name, " was never given a value");
    check(name != "__metadata__", "safetensors", path, ": a tensor may not be named __metadata__");
    check(!header.contains(name), "safetensors", path, ": two tensors are named ", name);
    Json shape = Json::array();
    for (int i = 0; i < tensor.rank(); ++i) shape.push_back(tensor.dim(i));
    header[name] = {
        {"dtype", file_name(tensor.dtype())}, {"shape", shape}, {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
  }
  std::string text_header;
  try {
    text_header = header.dump();
  } catch (const Json::exception& e) {
    fail("safetensors", path, ": a name or the metadata is not UTF-8: ", e.what());
  }
  text_header.resize((text_header.size() + 7) / 8 * 8, ' ');
  check(text_header.size() <= max_header, "safetensors", path, ": HeaderTooLarge: ", text_header.size(), " bytes");
  const uint64_t size = text_header.size();
  AtomicFile file(path);
  file.write({reinterpret_cast<const char*>(&size), sizeof(size)});
  file.write(text_header);
  for (const auto* entry : order) {
    const Tensor here = entry->second.to(Device{});  // one at a time
    file.write({reinterpret_cast<const char*>(here.raw()), here.bytes()});
  }
  file.commit();
}

}  // namespace duet
