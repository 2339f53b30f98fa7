#include "duet/train/checkpoint.h"

#include <algorithm>
#include <filesystem>

#include "duet/core/file.h"
#include "duet/core/hash.h"
#include "duet/core/safetensors.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

uint32_t crc_of(std::string_view bytes) {
  return crc32c({reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()});
}

// The state without its own checksum, in the one form that writing and reading agree on.
uint32_t state_crc(Json state) {
  state.erase("state_crc32c");
  return crc_of(state.dump());
}

}  // namespace

CheckpointDirectory::CheckpointDirectory(std::string path) : path_(std::move(path)) {
  make_directories(path_);
  // What a killed process was writing.
  for (const auto& entry : fs::directory_iterator(path_))
    if (entry.path().filename().string().starts_with(".tmp-")) fs::remove_all(entry.path());
}

std::string CheckpointDirectory::step_path(int64_t step) const {
  return path_ + "/step-" + std::to_string(step);
}

void CheckpointDirectory::save(int64_t step, const NamedTensors& tensors, Json state) {
  const std::string aside = path_ + "/.tmp-step-" + std::to_string(step);
  try {
    fs::remove_all(aside);
    make_directories(aside);
    save_safetensors(aside + "/tensors.safetensors", tensors);
    state["step"] = step;
    state["tensors_crc32c"] = crc_of(read_file(aside + "/tensors.safetensors"));
    state["state_crc32c"] = state_crc(state);
    write_file_atomically(aside + "/state.json", state.dump(1) + "\n");
    sync_path(aside);
    fs::remove_all(step_path(step));
    fs::rename(aside, step_path(step));
    sync_path(path_);
  } catch (const std::exception& e) {
    std::error_code ignored;
    fs::remove_all(aside, ignored);
    fail("checkpoint", "cannot save step ", step, " under ", path_, ": ", e.what());
  }
}

std::vector<int64_t> CheckpointDirectory::steps() const {
  std::vector<int64_t> found;
  for (const auto& entry : fs::directory_iterator(path_)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("step-") || name.size() > 20 ||
        name.find_first_not_of("0123456789", 5) != std::string::npos || name.size() == 5)
      continue;
    found.push_back(std::stoll(name.substr(5)));
  }
  std::sort(found.begin(), found.end());
  return found;
}

void CheckpointDirectory::prune(int64_t keep, const std::vector<int64_t>& also_keep) {
  const std::vector<int64_t> all = steps();
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); ++i)
    if (std::find(also_keep.begin(), also_keep.end(), all[i]) == also_keep.end()) {
      // Renamed first, so that a kill during the removal does not leave half a checkpoint under its real name.
      const std::string aside = path_ + "/.tmp-old-" + std::to_string(all[i]);
      fs::rename(step_path(all[i]), aside);
      fs::remove_all(aside);
    }
}

void CheckpointDirectory::set_aside_after(int64_t step) {
  for (const int64_t s : steps()) {
    if (s <= step) continue;
    const std::string aside = path_ + "/damaged-step-" + std::to_string(s);
    fs::remove_all(aside);
    fs::rename(step_path(s), aside);
  }
}

CheckpointDirectory::Loaded CheckpointDirectory::load(int64_t step) const {
  const std::string path = step_path(step);
  Loaded loaded{step, read_json(path + "/state.json"), {}};
  const std::string file = path + "/tensors.safetensors";
  check(loaded.state.is_object() && json_get<int64_t>(loaded.state, "step", -1) == step, "checkpoint", path,
        "/state.json is not the state of step ", step);
  check(json_get<uint32_t>(loaded.state, "state_crc32c", 0) == state_crc(loaded.state), "checkpoint", path,
        "/state.json does not match its checksum: damaged");
  check(json_get<uint32_t>(loaded.state, "tensors_crc32c", 0) == crc_of(read_file(file)), "checkpoint", file,
        " does not match its checksum: damaged or truncated");
  const SafetensorsFile tensors = SafetensorsFile::open(file);
  for (const std::string& name : tensors.names()) loaded.tensors.emplace_back(name, tensors.load(name));
  return loaded;
}

std::optional<CheckpointDirectory::Loaded> CheckpointDirectory::load_newest(
    const std::function<void(const std::string&)>& warn) const {
  const std::vector<int64_t> all = steps();
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    try {
      return load(*it);
    } catch (const Error& e) {
      warn(text("checkpoint ", step_path(*it), " cannot be used, trying the one before: ", e.what()));
    }
  }
  return std::nullopt;
}

}  // namespace duet::train
