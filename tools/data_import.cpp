#include <filesystem>
#include <iostream>
#include <memory>
#include <utility>

#include "duet/core/file.h"
#include "duet/core/sha256.h"
#include "duet/tools/arguments.h"
#include "duet/tools/data.h"
#include "duet/train/import.h"
#include "duet/train/interrupt.h"

namespace duet::tools {
namespace {

namespace fs = std::filesystem;

struct ImportArguments {
  train::CsvImport csv;
  std::string folder, out, delimiter, split = "0.7,0.1,0.2";
  uint64_t seed = 0;
  size_t limit = 0;
  train::ImageOptions images;
};

char parse_delimiter(const std::string& name) {
  if (name.empty()) return 0;
  if (name == "tab" || name == "\\t") return '\t';
  if (name == "comma") return ',';
  if (name == "semicolon") return ';';
  check(name.size() == 1 && name != "\"" && name != "\n", "import", "--delimiter ", name,
        ": use tab, comma, semicolon or one character");
  return name[0];
}

bool is_inside(const std::string& path, const std::string& directory) {
  const fs::path below = fs::weakly_canonical(path).lexically_relative(fs::weakly_canonical(directory));
  return !below.empty() && *below.begin() != "..";
}

std::string sha256_of_file(const std::string& path) {
  Sha256 hash;
  hash.update(read_file(path));
  return hash.hex();
}

void run_import(ImportArguments& a) {
  train::catch_interrupts();
  const bool from_csv = !a.csv.file.empty();
  const train::SplitFractions fractions = train::parse_split_fractions(a.split);
  a.csv.delimiter = parse_delimiter(a.delimiter);
  Json images{{"source", from_csv ? a.csv.file : a.folder}, {"max_side", a.images.max_side}};
  // Images are named after the record, so another CSV file means other images.
  if (from_csv) images["sha256"] = sha256_of_file(a.csv.file);
  check(from_csv || !is_inside(a.out, a.folder), "import", "--out ", a.out, " lies inside --folder ", a.folder,
        "; choose a directory elsewhere");
  size_t skipped = 0;
  const train::ImportReport report{a.images.on_bad_sample, [&](const std::string& reason) {
                                     std::cerr << "skipped: " << reason << '\n';
                                     ++skipped;
                                   }};
  const bool convert = a.images.max_side > 0;
  train::Imported imported =
      from_csv ? train::read_csv_rows(a.csv, convert, report) : train::read_folder_rows(a.folder, convert);
  Json settings{{"limit", a.limit}};
  if (!imported.has_splits) {
    train::assign_splits(imported.rows, fractions, a.seed);
    settings["split"] = {
        {"train", fractions.train}, {"val", fractions.val}, {"test", fractions.test}, {"seed", a.seed}};
  }
  const auto rows = train::limit_rows(std::move(imported.rows), a.limit);
  check(!rows.empty(), "import", "no row of ", images["source"].get<std::string>(), " can be used");

  train::DatasetWriter writer(a.out, {"duet data import", images, true});
  std::vector<train::ImageTask> tasks;
  std::map<std::string, bool> listed;
  for (const train::SourceRow& r : rows)
    if (!r.source.empty() && !std::exchange(listed[r.source], true))
      tasks.push_back({r.source, {writer.path(r.image)}, r.origin});
  const auto bad = train::write_images(tasks, a.images);
  report_bad_images(bad);
  const auto good = without_sources(rows, bad);
  check(!good.empty(), "import", "no image of ", images["source"].get<std::string>(), " can be used");
  const fs::path source = fs::path(images["source"].get<std::string>()).lexically_normal();
  writer.finish(from_csv ? source.stem().string() : fs::weakly_canonical(source).filename().string(),
                train::labels_of(good), settings, good);
  if (!imported.has_splits) std::cout << "split by      seed " << a.seed << ", fractions " << a.split << '\n';
  print_summary(good, skipped + rows.size() - good.size(), writer.directory());
}

}  // namespace

void add_data_import_command(CLI::App& data) {
  CLI::App* command =
      data.add_subcommand("import", "Your own images and texts: a CSV or TSV file, or a folder a label");
  const auto arguments = std::make_shared<ImportArguments>();
  ImportArguments& a = *arguments;
  command->add_option("--out", a.out, "Dataset directory to write")->required();
  CLI::Option* csv = command->add_option("--csv", a.csv.file, "File whose first line names the columns");
  CLI::Option* folder = command->add_option("--folder", a.folder, "Directory with one folder of images for each label");
  csv->excludes(folder);
  const auto csv_option = [&](const std::string& name, std::string& value, const std::string& description) {
    return command->add_option(name, value, description)->needs(csv);
  };
  csv_option("--image-column", a.csv.image, "Paths of PNG or JPEG files, relative to the CSV file (default: image)");
  csv_option("--text-column", a.csv.text, "Texts (default: text)");
  csv_option("--label-column", a.csv.label, "Labels; an empty one means none (default: label)");
  CLI::Option* split_column =
      csv_option("--split-column", a.csv.split, "train, val or test (default: split, if there is such a column)");
  csv_option("--id-column", a.csv.id, "Unique names (default: id, or else the record's number)");
  csv_option("--delimiter", a.delimiter, "tab, comma, semicolon or one character (default: by the file's name)");
  command->add_flag("!--no-quotes", a.csv.quotes, "Take quotation marks as they are")->needs(csv);
  command->add_option("--split", a.split, "Without a split column: the fractions of train, val and test in each label")
      ->excludes(split_column)
      ->capture_default_str();
  command->add_option("--seed", a.seed, "Decides which rows go where")->check(not_negative)->capture_default_str();
  a.images.label = "images";
  a.images.max_side = 0;
  command
      ->add_option("--max-side", a.images.max_side,
                   "Write images as PNG with at most so many pixels on the longer side; 0: copy the files")
      ->check(not_negative)
      ->capture_default_str();
  command->add_option("--limit", a.limit, "Keep so many rows, all labels in proportion; 0: all")->capture_default_str();
  add_image_options(*command, a.images);
  command->callback([arguments, csv, folder] {
    if (csv->empty() && folder->empty()) throw CLI::RequiredError("--csv or --folder");
    run_import(*arguments);
  });
}

}  // namespace duet::tools
