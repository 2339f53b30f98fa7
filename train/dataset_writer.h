#pragma once

#include <map>
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
  std::string origin;  // where the row stands, for messages: "pets.csv line 7"
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
  std::string origin;  // leads the message when the image is bad; may be empty
};

struct ImageOptions {
  int max_side = 256;  // pixels on the longer side, written as PNG on white; 0: copy the file after decoding it once
  int workers = 1;
  BadSample on_bad_sample = BadSample::stop;
  std::string label;  // of the progress display
};

// Writes every target of every task. A whole target that is not older than its source is kept. Returns the reason for
// each source that cannot be read or decoded, by its path; with BadSample::stop the first such (in the order of tasks)
// is thrown. A target that cannot be written is an Error in any case. Throws Interrupted after a signal, with finished
// files in place.
std::map<std::string, std::string> write_images(const std::vector<ImageTask>& tasks, const ImageOptions& options);

// A dataset directory being written. The manifest comes last, so a directory with a manifest is complete; dataset.json
// comes first and says who writes, so that an interrupted run can be repeated and nobody else's files are touched.
class DatasetWriter {
 public:
  struct Claim {
    std::string made_by;  // the command, e.g. "duet data openclipart"
    Json images;          // what decides the content of image files; when an earlier output differs, they are removed
    bool fresh = false;   // remove them also when the earlier output was complete
  };

  // Claims the directory, which must be absent, empty, or an earlier output of the same `made_by`; a second writer at
  // the same time is refused.
  DatasetWriter(std::string directory, Claim claim);
  ~DatasetWriter();
  DatasetWriter(const DatasetWriter&) = delete;
  DatasetWriter& operator=(const DatasetWriter&) = delete;

  const std::string& directory() const { return directory_; }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  // Writes dataset.json and the manifest, whole. `settings` are kept in dataset.json for the reader.
  void finish(const std::string& name, const std::vector<std::string>& labels, const Json& settings,
              const std::vector<SourceRow>& rows);

 private:
  void take_over();

  std::string directory_;
  Claim claim_;
  int lock_ = -1;
};

}  // namespace duet::train
