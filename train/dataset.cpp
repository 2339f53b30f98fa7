#include "duet/train/dataset.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "duet/core/file.h"
#include "duet/core/hash.h"
#include "duet/core/json.h"
#include "duet/core/philox.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

bool starts_with_path(const fs::path& path, const fs::path& directory) {
  const auto [end, unused] = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return end == directory.end();
}

// The string under `key`, or null when absent or null. Strings only: a number would silently become another label.
const std::string* get_string(const Json& row, const std::string& key, const std::string& where) {
  const auto it = row.find(key);
  if (it == row.end() || it->is_null()) return nullptr;
  check(it->is_string(), "dataset", where, ": \"", key, "\" must be a string, it is ", it->dump());
  return it->get_ptr<const std::string*>();
}

bool is_index(std::string_view digits) {
  return !digits.empty() && digits.size() <= 9 &&
         std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Looks images up below a directory.
class ImageFinder {
 public:
  explicit ImageFinder(const std::string& directory) : directory_(directory), root_(fs::canonical(directory)) {}

  // The image file's size in bytes; checked once per file, since thousands of rows may share an IDX file.
  uint64_t bytes(const std::string& image, const std::string& at) {
    std::string file = image;
    if (const size_t hash = image.rfind('#'); hash != image.npos && is_index(image.substr(hash + 1)))
      if (!fs::exists(root_ / image)) file = image.substr(0, hash);
    if (const auto known = checked_files_.find(file); known != checked_files_.end()) return known->second;
    std::error_code error;
    const fs::path real = fs::canonical(root_ / file, error);
    check(!error, "dataset", at, ": cannot find image ", (fs::path(directory_) / file).string(), ": ", error.message());
    check(starts_with_path(real, root_), "dataset", at, ": image \"", image,
          "\" leads outside the dataset's directory, to ", real.string(), "; copy the file instead of linking it");
    check(fs::is_regular_file(real, error), "dataset", at, ": image ", real.string(), " is not a file");
    const uint64_t bytes = fs::file_size(real, error);
    check(!error && bytes > 0, "dataset", at, ": image ", real.string(), " is empty");
    checked_files_.emplace(file, bytes);
    return bytes;
  }

 private:
  std::string directory_;
  fs::path root_;  // canonical
  std::unordered_map<std::string, uint64_t> checked_files_;
};

}  // namespace

bool is_split_name(std::string_view name) {
  return name == "train" || name == "val" || name == "test";
}

void check_inside(std::string_view path, const std::string& source) {
  const fs::path parts{path};
  check(!path.empty() && path.find('\0') == path.npos, "dataset", source, ": the image path is empty");
  const bool climbs = std::find(parts.begin(), parts.end(), fs::path("..")) != parts.end();
  check(!parts.is_absolute() && !climbs, "dataset", source, ": image \"", path,
        "\" points outside the dataset's directory; use a path relative to it without \"..\"");
}

// Builds one Dataset; the maps here are only needed while reading.
class ManifestReader {
 public:
  ManifestReader(const DatasetText& source, const OpenOptions& options) : source_(source), options_(options) {
    data_.directory_ = source.directory;
  }

  Dataset read() {
    read_description();
    read_manifest();
    number_labels();
    warn_about_rows();
    hash();
    return std::move(data_);
  }

 private:
  void warn(const std::string& message) {
    data_.warnings_.push_back(message);
    if (options_.report) options_.report("warning: " + message);
  }

  void read_description() {
    const std::string path = (fs::path(data_.directory_) / "dataset.json").string();
    data_.name_ = source_.name;
    if (!source_.description) return;
    const Json description = parse_json(*source_.description, path);
    check(description.is_object(), "dataset", path, ": must be a JSON object");
    if (const std::string* name = get_string(description, "name", path)) data_.name_ = *name;
    const auto labels = description.find("labels");
    if (labels == description.end() || labels->is_null()) return;
    check(labels->is_array(), "dataset", path, ": \"labels\" must be a list of strings");
    for (const Json& label : *labels) {
      check(label.is_string() && !label.get_ref<const std::string&>().empty(), "dataset", path,
            ": \"labels\" must hold non-empty strings, found ", label.dump());
      data_.labels_.push_back(label.get<std::string>());
      const bool fresh = label_index_.emplace(data_.labels_.back(), static_cast<int>(label_index_.size())).second;
      check(fresh, "dataset", path, ": label \"", data_.labels_.back(), "\" is listed twice");
    }
    labels_given_ = true;
  }

  void read_manifest() {
    manifest_ = (fs::path(data_.directory_) / "manifest.jsonl").string();
    const std::string_view content = source_.manifest;
    size_t number = 0;
    for (size_t begin = 0; begin < content.size();) {
      const size_t end = std::min(content.find('\n', begin), content.size());
      const std::string_view line = content.substr(begin, end - begin);
      begin = end + 1;
      ++number;
      if (line.find_first_not_of(" \t\r") == line.npos) continue;
      try {
        read_line(line, text(manifest_, " line ", number), number);
      } catch (const Error& e) {
        if (options_.on_bad_sample == BadSample::stop) throw;
        data_.skipped_.push_back(e.what());
        if (options_.report) options_.report(text("skipped: ", e.what()));
      }
    }
    check(!data_.samples_.empty(), "dataset", manifest_, ": no usable samples among ", number, " lines");
  }

  // Adds one sample, or throws and changes nothing.
  void read_line(std::string_view line, const std::string& where, size_t number) {
    const Json row = parse_json(line, where);
    check(row.is_object(), "dataset", where, ": must be a JSON object, it is ", row.dump().substr(0, 80));
    Sample sample;
    const std::string* id = get_string(row, "id", where);
    check(id != nullptr && !id->empty(), "dataset", where, ": \"id\" is missing");
    sample.id = *id;
    const std::string at = text(where, " (id \"", sample.id, "\")");
    const auto first = lines_by_id_.find(sample.id);
    check(first == lines_by_id_.end(), "dataset", where, ": id \"", sample.id, "\" was already used on line ",
          first == lines_by_id_.end() ? 0 : first->second);

    const std::string* split = get_string(row, "split", at);
    check(split != nullptr, "dataset", at, ": \"split\" is missing; use train, val or test");
    check(is_split_name(*split), "dataset", at, ": unknown split \"", *split, "\"; use train, val or test");
    sample.split = *split;

    if (const std::string* value = get_string(row, "text", at)) {
      sample.text = *value;
      sample.has_text = true;
    }
    uint64_t bytes = 0;
    if (const std::string* image = get_string(row, "image", at)) {
      sample.image = *image;
      check_inside(sample.image, at);
      bytes = source_.image_bytes(sample.image, at);
    }
    check(sample.has_text || sample.has_image(), "dataset", at, ": has neither \"image\" nor \"text\"");

    if (const std::string* label = get_string(row, "label", at)) {
      check(!label->empty(), "dataset", at, ": the label is empty; leave \"label\" out for unlabelled samples");
      const auto known = label_index_.find(*label);
      check(known != label_index_.end() || !labels_given_, "dataset", at, ": label \"", *label, "\" is not among the ",
            data_.labels_.size(), " labels of dataset.json");
      sample.label =
          known != label_index_.end() ? known->second : static_cast<int>(label_index_.size());  // provisional
      label_index_.emplace(*label, sample.label);
    }
    for (const auto& [key, value] : row.items())
      if (key != "id" && key != "image" && key != "text" && key != "label" && key != "split") ++ignored_keys_[key];
    lines_by_id_.emplace(sample.id, number);
    image_bytes_.push_back(bytes);
    data_.samples_.push_back(std::move(sample));
  }

  // Labels found in the manifest get their numbers in byte order, so that the order of lines does not matter.
  void number_labels() {
    if (labels_given_) return;
    std::vector<int> renumber(label_index_.size());
    for (auto& [label, index] : label_index_) {
      renumber[static_cast<size_t>(index)] = static_cast<int>(data_.labels_.size());
      data_.labels_.push_back(label);
    }
    for (Sample& sample : data_.samples_)
      if (sample.has_label()) sample.label = renumber[static_cast<size_t>(sample.label)];
  }

  void warn_about_rows() {
    for (const auto& [key, count] : ignored_keys_)
      warn(text(manifest_, ": key \"", key, "\" is not used (", count, " lines)"));
    std::vector<int> counts(data_.labels_.size());
    for (const Sample& sample : data_.samples_)
      if (sample.has_label()) ++counts[static_cast<size_t>(sample.label)];
    for (size_t i = 0; i < counts.size(); ++i)
      if (counts[i] < 2)
        warn(text(manifest_, ": label \"", data_.labels_[i], "\" has ",
                  counts[i] == 0 ? "no example" : "a single example"));
  }

  void hash() {
    std::string bytes;
    const auto add = [&](std::string_view field) { (bytes += field) += '\0'; };
    for (const std::string& label : data_.labels_) add(label);
    for (size_t i = 0; i < data_.samples_.size(); ++i) {
      const Sample& s = data_.samples_[i];
      for (const std::string* field : {&s.id, &s.image, &s.text, &s.split}) add(*field);
      add(text(s.label, ' ', s.has_text, ' ', image_bytes_[i]));
    }
    data_.fingerprint_ = fnv1a64(bytes);
  }

  const DatasetText& source_;
  const OpenOptions& options_;
  Dataset data_;
  std::string manifest_;
  bool labels_given_ = false;
  std::map<std::string, int> label_index_;
  std::map<std::string, size_t> ignored_keys_;
  std::unordered_map<std::string, size_t> lines_by_id_;
  std::vector<uint64_t> image_bytes_;
};

Dataset Dataset::open(const std::string& directory, const OpenOptions& options) {
  std::error_code error;
  check(fs::is_directory(directory, error), "dataset", directory, " is not a directory");
  const fs::path description = fs::path(directory) / "dataset.json";
  const std::string manifest_text = read_file((fs::path(directory) / "manifest.jsonl").string());
  std::string description_text;
  DatasetText source{
      .directory = directory, .name = fs::canonical(directory).filename().string(), .manifest = manifest_text};
  if (fs::exists(description)) source.description = description_text = read_file(description.string());
  ImageFinder finder(directory);
  source.image_bytes = [&](const std::string& image, const std::string& at) { return finder.bytes(image, at); };
  return parse(source, options);
}

Dataset Dataset::parse(const DatasetText& source, const OpenOptions& options) {
  return ManifestReader(source, options).read();
}

bool Dataset::has_split(std::string_view name) const {
  return std::any_of(samples_.begin(), samples_.end(), [&](const Sample& s) { return s.split == name; });
}

std::vector<Sample> Dataset::split(std::string_view name) const {
  check(is_split_name(name), "dataset", "unknown split \"", name, "\"; use train, val or test");
  std::vector<Sample> selected;
  for (const Sample& sample : samples_)
    if (sample.split == name) selected.push_back(sample);
  check(!selected.empty(), "dataset", directory_, ": split \"", name, "\" is empty; none of the ", samples_.size(),
        " samples belongs to it");
  return selected;
}

std::string Dataset::image_path(const Sample& sample) const {
  check(sample.has_image(), "dataset", directory_, ": sample \"", sample.id, "\" has no image");
  return (fs::path(directory_) / sample.image).string();
}

std::vector<Sample> stratified_fraction(const std::vector<Sample>& samples, double fraction, uint64_t seed) {
  check(fraction > 0 && fraction <= 1, "dataset", "a fraction must be above 0 and at most 1, got ", fraction);
  // A random rank for each sample from its id alone: adding a row moves no other row's rank.
  std::map<int, std::vector<std::pair<uint64_t, size_t>>> classes;
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto bits = philox(RandomKey{seed, fnv1a64(samples[i].id)}, 0);
    classes[samples[i].label].emplace_back(uint64_t{bits[0]} << 32 | bits[1], i);
  }
  std::vector<size_t> chosen;
  for (auto& [label, ranked] : classes) {
    std::sort(ranked.begin(), ranked.end());
    const auto count = std::max(1ll, std::llround(fraction * static_cast<double>(ranked.size())));
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) chosen.push_back(ranked[i].second);
  }
  std::sort(chosen.begin(), chosen.end());
  std::vector<Sample> selected;
  for (const size_t i : chosen) selected.push_back(samples[i]);
  return selected;
}

std::vector<size_t> stratified_limit(const std::vector<int>& classes, size_t limit) {
  std::map<int, double> totals, seen;
  for (const int c : classes) ++totals[c];
  // The k-th row of a class with n rows sorts at (k + 1/2) / n, which interleaves the classes in proportion; each
  // class's first row comes before all that.
  std::vector<std::pair<double, size_t>> ranked;
  for (size_t i = 0; i < classes.size(); ++i) {
    const double k = seen[classes[i]]++;
    ranked.emplace_back(k == 0 ? 0 : (k + 0.5) / totals[classes[i]], i);
  }
  std::sort(ranked.begin(), ranked.end());
  ranked.resize(std::min(limit, ranked.size()));
  std::vector<size_t> chosen;
  for (const auto& [rank, i] : ranked) chosen.push_back(i);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace duet::train
