#pragma once

#include <string>
#include <vector>

#include "duet/core/json.h"
#include "duet/train/dataset.h"

namespace duet::train {

// One row to be written: as in the manifest, plus the image file it comes from.
struct SourceRow {
  std::string id;
  std::string text;
  std::string label;   // empty: none
  std::string split;   // train, val or test
  std::string image;   // as the manifest names it; empty: none
  std::string source;  // image file to read; empty when `image` needs no conversion
  bool has_text = true;
};

// SHA-256 over one line "id<TAB>text<TAB>label<TAB>split" a row: two people compare this to know that they have the
// same rows.
std::string rows_checksum(const std::vector<SourceRow>& rows);

// `limit` of the rows (0: all), every pair of label and split in proportion; see stratified_limit.
std::vector<SourceRow> limit_rows(std::vector<SourceRow> rows, size_t limit);

// One image file to convert, into one or several places.
struct ImageTask {
  std::string source;
  std::vector<std::string> targets;
};

struct ImageOptions {
  int max_side = 256;  // pixels on the longer side, written as PNG on white; 0: copy the file after a look at it
  int workers = 1;
  BadSample on_bad_sample = BadSample::stop;
  std::string label;  // of the progress display
};

// Writes every target of every task. A target that is there already and not older than its source is kept: files
// appear whole or not at all. Returns the reason for each failed task, empty for the others; with BadSample::stop the
// first failure (by position) is thrown instead. Throws Interrupted after a signal, with finished files in place.
std::vector<std::string> write_images(const std::vector<ImageTask>& tasks, const ImageOptions& options);

// A dataset directory being written. The manifest comes last, so a directory with a manifest is complete; dataset.json
// comes first and says who writes, so that an interrupted run can be repeated and nobody else's files are touched.
class DatasetWriter {
 public:
  // Claims the directory, which must be absent, empty, or an earlier output of the same `made_by`; a second writer at
  // the same time is refused. `settings` are recorded in dataset.json; when an earlier output had others, or with
  // `fresh` when it was complete, its images are removed first.
  DatasetWriter(std::string directory, std::string name, std::vector<std::string> labels, std::string made_by,
                Json settings, bool fresh = false);
  ~DatasetWriter();
  DatasetWriter(const DatasetWriter&) = delete;
  DatasetWriter& operator=(const DatasetWriter&) = delete;

  const std::string& directory() const { return directory_; }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  // Writes dataset.json and the manifest, whole.
  void finish(const std::vector<SourceRow>& rows);

 private:
  void claim(const Json& settings, bool fresh);

  std::string directory_;
  Json description_;
  int lock_ = -1;
};

}  // namespace duet::train
