#include "duet/train/import.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "duet/core/file.h"
#include "duet/core/hash.h"
#include "duet/core/philox.h"
#include "duet/train/csv.h"
#include "duet/train/unicode.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

constexpr size_t absent = SIZE_MAX;

// The names of splits that people use, to ours; empty for anything else.
std::string split_named(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  if (name == "train" || name == "training") return "train";
  if (name == "val" || name == "valid" || name == "validation" || name == "dev") return "val";
  if (name == "test" || name == "testing") return "test";
  return "";
}

std::string lower_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return extension;
}

bool is_image_extension(const std::string& extension) {
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

struct Columns {
  size_t id, image, text, label, split;
};

Columns find_columns(const std::vector<std::string>& header, const CsvImport& csv) {
  std::string names;
  for (const std::string& name : header) names += (names.empty() ? "\"" : ", \"") + name + "\"";
  const auto find = [&](const std::string& given, const std::string& usual, const char* option) {
    const std::string& name = given.empty() ? usual : given;
    const auto at = std::find(header.begin(), header.end(), name);
    if (at == header.end()) {
      check(given.empty(), "import", csv.file, ": ", option, " ", given, ": the header has no such column, only ",
            names);
      return absent;
    }
    check(std::find(at + 1, header.end(), name) == header.end(), "import", csv.file, ": the header has two columns \"",
          name, "\"");
    return static_cast<size_t>(at - header.begin());
  };
  const Columns c{find(csv.id, "id", "--id-column"), find(csv.image, "image", "--image-column"),
                  find(csv.text, "text", "--text-column"), find(csv.label, "label", "--label-column"),
                  find(csv.split, "split", "--split-column")};
  check(c.image != absent || c.text != absent, "import", csv.file, ": name the columns with --image-column and ",
        "--text-column (one is enough); the header has ", names, header.size() == 1 ? "; is --delimiter right?" : "");
  return c;
}

// Makes rows of records; remembers the ids and image files seen.
class RowReader {
 public:
  RowReader(const CsvImport& csv, const std::vector<std::string>& header, bool convert_to_png)
      : header_(header.size()),
        columns_(find_columns(header, csv)),
        directory_(fs::path(csv.file).parent_path()),
        convert_to_png_(convert_to_png) {}

  bool has_splits() const { return columns_.split != absent; }

  // `number` counts the records below the header from 1.
  SourceRow read(const std::vector<std::string>& fields, size_t number, const std::string& where) {
    check(fields.size() == header_, "import", where, ": ", fields.size(), " fields, but the header has ", header_);
    for (const std::string& field : fields)
      check(unicode::is_valid_utf8(field), "import", where, ": \"", field.substr(0, 40), "\" is not UTF-8");
    const auto get = [&](size_t column) { return column == absent ? "" : fields[column]; };
    SourceRow row{.id = columns_.id == absent ? std::to_string(number) : get(columns_.id),
                  .text = get(columns_.text),
                  .label = get(columns_.label),
                  .origin = where,
                  .has_text = columns_.text != absent};
    check(!row.id.empty(), "import", where, ": the id is empty");
    if (has_splits()) {
      row.split = split_named(get(columns_.split));
      check(!row.split.empty(), "import", where, ": split \"", get(columns_.split),
            "\" is none of train, val and test");
    }
    if (const std::string image = get(columns_.image); !image.empty()) place_image(row, image, number);
    check(!row.source.empty() || !row.text.empty(), "import", where, ": there is neither an image nor a text");
    check(ids_.insert(row.id).second, "import", where, ": id \"", row.id, "\" occurs for the second time");
    return row;
  }

 private:
  void place_image(SourceRow& row, const std::string& image, size_t number) {
    std::error_code error;
    const fs::path path = directory_ / image, real = fs::canonical(path, error);
    check(!error, "import", row.origin, ": image ", path.string(), ": ", error.message());
    check(fs::is_regular_file(real), "import", row.origin, ": image ", path.string(), " is not a file");
    row.source = real.string();
    std::string extension = convert_to_png_ ? ".png" : lower_extension(real);
    if (!is_image_extension(extension)) extension.clear();  // files are told apart by content
    row.image = names_.emplace(row.source, text("images/", number, extension)).first->second;
  }

  size_t header_;
  Columns columns_;
  fs::path directory_;
  bool convert_to_png_;
  std::unordered_set<std::string> ids_;
  std::unordered_map<std::string, std::string> names_;  // of images, by source
};

std::vector<fs::path> sorted_entries(const fs::path& directory) {
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(directory))
    if (!entry.path().filename().string().starts_with('.')) entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

}  // namespace

SplitFractions parse_split_fractions(const std::string& given) {
  std::array<double, 3> values{};
  const char *at = given.data(), *end = at + given.size();
  for (size_t i = 0; i < 3; ++i) {
    const auto [stop, error] = std::from_chars(at, end, values[i]);
    const bool separated = i < 2 ? stop != end && *stop == ',' : stop == end;
    check(error == std::errc() && separated && values[i] >= 0, "import", "--split ", given,
          ": three fractions are wanted, for train, val and test, such as 0.7,0.1,0.2");
    at = stop + (i < 2);
  }
  const double sum = values[0] + values[1] + values[2];
  check(values[0] > 0 && std::abs(sum - 1) < 1e-6, "import", "--split ", given,
        ": the fractions must add up to 1 and train's be above 0; they add up to ", sum);
  return {values[0], values[1], values[2]};
}

void assign_splits(std::vector<SourceRow>& rows, const SplitFractions& fractions, uint64_t seed) {
  const auto key = [](const SourceRow& r) { return r.source.empty() ? "id " + r.id : "image " + r.source; };
  // The first row of each image (or each row without one) is drawn. Its rank comes from its id, so that the draw does
  // not change when the files move.
  std::map<std::string, std::vector<std::pair<uint64_t, size_t>>> drawn;  // by label
  std::unordered_map<std::string, size_t> first;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!first.emplace(key(rows[i]), i).second) continue;
    const auto bits = philox(RandomKey{seed, fnv1a64(rows[i].id)}, 0);
    drawn[rows[i].label].emplace_back(uint64_t{bits[0]} << 32 | bits[1], i);
  }
  for (auto& [label, ranked] : drawn) {
    std::sort(ranked.begin(), ranked.end());
    const auto n = static_cast<double>(ranked.size());
    const auto train = std::max<size_t>(1, static_cast<size_t>(std::llround(n * fractions.train)));
    const auto test = std::max(train, static_cast<size_t>(std::llround(n * (fractions.train + fractions.val))));
    for (size_t k = 0; k < ranked.size(); ++k)
      rows[ranked[k].second].split = k < train ? "train" : k < test ? "val" : "test";
  }
  for (SourceRow& r : rows) r.split = rows[first.at(key(r))].split;
}

Imported read_csv_rows(const CsvImport& csv, bool convert_to_png, const ImportReport& report) {
  const std::string extension = lower_extension(csv.file);
  const char usual = extension == ".tsv" || extension == ".tab" ? '\t' : ',';
  CsvReader reader(read_file(csv.file), csv.delimiter ? csv.delimiter : usual, csv.file, csv.quotes);
  std::vector<std::string> fields;
  check(reader.next(fields), "import", csv.file, " is empty; its first line must name the columns");
  RowReader row_reader(csv, fields, convert_to_png);
  Imported imported;
  imported.has_splits = row_reader.has_splits();
  bool more = true;
  for (size_t number = 1; more; ++number) try {
      more = reader.next(fields);
      if (more) imported.rows.push_back(row_reader.read(fields, number, reader.where()));
    } catch (const Error& e) {
      if (report.on_bad_sample == BadSample::stop)
        throw Error(text(e.what(), " (--on-bad-sample skip leaves such rows out)"));
      if (report.skipped) report.skipped(e.what());
    }
  return imported;
}

Imported read_folder_rows(const std::string& folder, bool convert_to_png) {
  check(fs::is_directory(folder), "import", folder, " is not a directory");
  Imported imported;
  std::vector<fs::path> tops;
  for (const fs::path& path : sorted_entries(folder))
    if (fs::is_directory(path)) tops.push_back(path);
  imported.has_splits = !tops.empty() && std::all_of(tops.begin(), tops.end(), [](const fs::path& p) {
    return !split_named(p.filename().string()).empty();
  });
  const auto add_label = [&](const fs::path& top, const std::string& split) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(top))
      if (entry.is_regular_file() && is_image_extension(lower_extension(entry.path()))) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      const std::string path = file.lexically_relative(folder).string();
      check(unicode::is_valid_utf8(path), "import", file.string(), ": the file's name is not UTF-8; rename it");
      imported.rows.push_back({.id = path,
                               .label = top.filename().string(),
                               .split = split,
                               .image = "images/" + path + (convert_to_png ? ".png" : ""),
                               .source = file.string(),
                               .origin = "",
                               .has_text = false});
    }
  };
  for (const fs::path& top : tops)
    if (!imported.has_splits)
      add_label(top, "");
    else
      for (const fs::path& label : sorted_entries(top))
        if (fs::is_directory(label)) add_label(label, split_named(top.filename().string()));
  check(!imported.rows.empty(), "import", folder,
        ": no folder in it holds a PNG or JPEG file; one folder for each label ", "is expected");
  return imported;
}

std::vector<std::string> labels_of(const std::vector<SourceRow>& rows) {
  std::set<std::string> labels;
  for (const SourceRow& r : rows)
    if (!r.label.empty()) labels.insert(r.label);
  return {labels.begin(), labels.end()};
}

}  // namespace duet::train
