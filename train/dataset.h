#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "duet/core/error.h"

namespace duet::train {

// One line of manifest.jsonl. `image` is relative to the dataset's directory: a PNG or JPEG file, or "FILE.idx#17" for
// the 17th image of an IDX file. An absent image is empty, an absent label is -1; a text may be present and empty.
struct Sample {
  std::string id;
  std::string image;
  std::string text;
  std::string split;  // train, val or test
  int label = -1;     // index into Dataset::labels()
  bool has_text = false;

  bool has_image() const { return !image.empty(); }
  bool has_label() const { return label >= 0; }
};

// What to do with a line that cannot be used: fail, or leave it out, count it and name it.
enum class BadSample { stop, skip };

struct OpenOptions {
  BadSample on_bad_sample = BadSample::stop;
  // Receives one line of text per warning and per skipped sample, as it is found. Nothing is printed when empty.
  std::function<void(const std::string&)> report;
};

// A dataset's files as texts, for whoever has no directory.
struct DatasetText {
  std::string directory;  // as errors name it, and where image_path points
  std::string name;       // unless dataset.json has one
  std::string_view manifest;
  std::optional<std::string_view> description;  // dataset.json
  // The size in bytes of the image that a line names, which is a relative path below the directory; throws Error,
  // beginning with `at`, when there is none.
  std::function<uint64_t(const std::string& image, const std::string& at)> image_bytes;
};

// A dataset directory: manifest.jsonl, one JSON object a line, {"id", "image", "text", "label", "split"}, where id and
// split are required and at least one of image and text; and dataset.json, {"name", "labels": [...], ...}. Without
// labels in dataset.json, or without the file, the labels are those of the manifest in byte order.
//
// Everything is checked on opening, so that a training run cannot die on its last batch: images exist and lie inside
// the directory also after following symbolic links, labels are known, ids are unique. Errors name file and line.
class Dataset {
 public:
  static Dataset open(const std::string& directory, const OpenOptions& options = {});
  static Dataset parse(const DatasetText& source, const OpenOptions& options = {});

  const std::string& directory() const { return directory_; }
  const std::string& name() const { return name_; }
  const std::vector<std::string>& labels() const { return labels_; }
  const std::vector<Sample>& samples() const { return samples_; }  // in the order of the manifest

  // The samples of "train", "val" or "test", in order. Throws Error when there are none.
  std::vector<Sample> split(std::string_view name) const;
  bool has_split(std::string_view name) const;

  // The path to hand to the image loader. Throws Error when the sample has no image.
  std::string image_path(const Sample& sample) const;

  // FNV-1a over labels, rows and image sizes: changes when the data do, not when the directory is copied.
  uint64_t fingerprint() const { return fingerprint_; }

  const std::vector<std::string>& warnings() const { return warnings_; }
  const std::vector<std::string>& skipped() const { return skipped_; }  // one reason a line left out

 private:
  friend class ManifestReader;

  std::string directory_, name_;
  std::vector<std::string> labels_, warnings_, skipped_;
  std::vector<Sample> samples_;
  uint64_t fingerprint_ = 0;
};

bool is_split_name(std::string_view name);

// Throws Error unless `path` is a relative path that stays below its directory ("a/b.png"; no "/a", "..", or "").
void check_inside(std::string_view path, const std::string& source);

// About `fraction` of each class (unlabelled samples count as one class), at least one sample of each, in the given
// order. Which samples is a function of (seed, id) alone, and a smaller fraction is inside every larger one.
std::vector<Sample> stratified_fraction(const std::vector<Sample>& samples, double fraction, uint64_t seed);

// Positions of `limit` of the rows, first rows first, every class in proportion and, when the limit allows, present.
// `classes` gives a number for each row's class. Ascending.
std::vector<size_t> stratified_limit(const std::vector<int>& classes, size_t limit);

}  // namespace duet::train
