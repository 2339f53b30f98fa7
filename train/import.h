#pragma once

#include <array>
#include <functional>

#include "duet/train/dataset_writer.h"

namespace duet::train {

struct SplitFractions {
  double train = 0.7, val = 0.1, test = 0.2;
};

// "0.7,0.1,0.2": train, val, test; each at least 0, train above 0, together 1.
SplitFractions parse_split_fractions(const std::string& text);

// Gives every row a split: in each label (rows without one count as one label) the given fractions, drawn by `seed` and
// the row's image or id. Rows that share an image file share the split of the first of them, so that no image is both
// trained on and tested.
void assign_splits(std::vector<SourceRow>& rows, const SplitFractions& fractions, uint64_t seed);

struct CsvImport {
  std::string file;
  char delimiter = 0;  // 0: a tab when the file's name ends in .tsv or .tab, else a comma
  bool quotes = true;  // false: quotation marks are characters like any other
  // Column names in the header. When empty, the column called id, image, text, label or split is used if there is one.
  std::string id, image, text, label, split;
};

struct ImportReport {
  BadSample on_bad_sample = BadSample::stop;
  std::function<void(const std::string&)> skipped;  // receives the reason for each line left out
};

struct Imported {
  std::vector<SourceRow> rows;
  bool has_splits = false;  // given by the source; otherwise see assign_splits
};

// Rows in file order. Image paths are relative to the CSV file; ids are the record's number where no column gives them.
// Image files are checked for existence and are to be copied to what `image` says; rows that name the same file share
// one copy. Throws Error naming the line for a bad row unless they are skipped.
Imported read_csv_rows(const CsvImport& csv, bool convert_to_png, const ImportReport& report);

// One folder a label with PNG and JPEG files at any depth, in byte order of their path; or, when every folder is named
// after a split, such a folder for each. Other files are ignored.
Imported read_folder_rows(const std::string& folder, bool convert_to_png);

// The labels that occur, in byte order.
std::vector<std::string> labels_of(const std::vector<SourceRow>& rows);

}  // namespace duet::train
