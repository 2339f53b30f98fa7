#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <thread>

#include "duet/core/file.h"
#include "duet/tools/commands.h"
#include "duet/train/dataset_writer.h"
#include "duet/train/fashion_mnist.h"
#include "duet/train/interrupt.h"
#include "duet/train/openclipart.h"
#include "duet/train/wordnet.h"

namespace duet::tools {
namespace {

using train::SourceRow;
using Rows = std::vector<SourceRow>;

struct DataArguments {
  std::string out, source, unlabelled_out;
  size_t limit = 0;
  train::ImageOptions images;
};

void print_summary(const Rows& rows, size_t skipped, const std::string& directory) {
  std::map<std::string, size_t> splits, labels;
  size_t empty = 0;
  for (const SourceRow& r : rows) {
    ++splits[r.split];
    if (!r.label.empty()) ++labels[r.label];
    empty += r.has_text && r.text.empty();
  }
  std::cout << "rows          " << rows.size() << '\n'
            << "splits        train " << splits["train"] << ", val " << splits["val"] << ", test " << splits["test"]
            << '\n';
  if (labels.empty()) {
    std::cout << "labels        none\n";
  } else {
    const auto [fewest, most] = std::minmax_element(labels.begin(), labels.end(),
                                                    [](const auto& a, const auto& b) { return a.second < b.second; });
    std::cout << "labels        " << labels.size() << ", from " << fewest->second << " rows (" << fewest->first
              << ") to " << most->second << " (" << most->first << ")\n";
  }
  std::cout << "empty texts   " << empty << '\n'
            << "skipped       " << skipped << '\n'
            << "sha256        " << train::rows_checksum(rows) << '\n'
            << "written to    " << directory << '\n';
}

Rows without(const Rows& rows, const std::map<std::string, std::string>& bad_sources) {
  Rows good;
  for (const SourceRow& r : rows)
    if (!bad_sources.contains(r.source)) good.push_back(r);
  return good;
}

void run_openclipart(const DataArguments& a) {
  train::catch_interrupts();
  check(a.out != a.unlabelled_out, "data", "--out and --unlabelled-out must be two directories");
  const Json settings{{"source", a.source}, {"max_side", a.images.max_side}, {"limit", a.limit}};
  train::DatasetWriter labelled(a.out, "openclipart", train::openclipart_labels(), "duet data openclipart", settings);
  std::unique_ptr<train::DatasetWriter> unlabelled;
  if (!a.unlabelled_out.empty())
    unlabelled =
        std::make_unique<train::DatasetWriter>(a.unlabelled_out, "openclipart pairs", std::vector<std::string>{},
                                               "duet data openclipart --unlabelled-out", settings);
  train::Openclipart data = train::read_openclipart(a.source);
  data.labelled = train::limit_rows(std::move(data.labelled), a.limit);
  data.unlabelled = train::limit_rows(std::move(data.unlabelled), a.limit);

  std::map<std::string, std::vector<std::string>> targets;  // by source: a drawing of both datasets is decoded once
  for (const SourceRow& r : data.labelled) targets[r.source].push_back(labelled.path(r.image));
  if (unlabelled)
    for (const SourceRow& r : data.unlabelled) targets[r.source].push_back(unlabelled->path(r.image));
  std::vector<train::ImageTask> tasks;
  for (auto& [source, paths] : targets) tasks.push_back({source, std::move(paths)});
  const std::vector<std::string> errors = train::write_images(tasks, a.images);
  std::map<std::string, std::string> bad;
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (errors[i].empty()) continue;
    bad.emplace(tasks[i].source, errors[i]);
    std::cerr << "skipped: " << errors[i] << '\n';
  }
  const auto finish = [&](train::DatasetWriter& writer, const Rows& rows) {
    const Rows good = without(rows, bad);
    writer.finish(good);
    print_summary(good, rows.size() - good.size(), writer.directory());
  };
  finish(labelled, data.labelled);
  if (unlabelled) finish(*unlabelled, data.unlabelled);
}

void run_wordnet(const DataArguments& a) {
  train::DatasetWriter writer(a.out, "wordnet", train::wordnet_labels(), "duet data wordnet",
                              {{"source", a.source}, {"limit", a.limit}});
  const Rows rows = train::limit_rows(train::read_wordnet(a.source), a.limit);
  writer.finish(rows);
  print_summary(rows, 0, writer.directory());
}

void run_fashion_mnist(const DataArguments& a) {
  train::DatasetWriter writer(a.out, "fashion-mnist", train::fashion_mnist_labels(), "duet data fashion-mnist",
                              {{"source", a.source}, {"limit", a.limit}});
  const Rows rows = train::limit_rows(train::read_fashion_mnist(a.source), a.limit);
  for (const std::string& file : train::fashion_mnist_image_files())
    write_file_atomically(writer.path(file), read_file(a.source + "/" + file));
  writer.finish(rows);
  print_summary(rows, 0, writer.directory());
}

// The options that all datasets share.
CLI::App* add_dataset(CLI::App& data, const std::string& name, const std::string& description,
                      const std::shared_ptr<DataArguments>& arguments, const std::string& source) {
  CLI::App* command = data.add_subcommand(name, description);
  command->add_option("--out", arguments->out, "Dataset directory to write")->required();
  command->add_option("--source", arguments->source, "Where the package's files are")->default_val(source);
  command->add_option("--limit", arguments->limit, "Keep so many rows, all classes in proportion; 0: all")
      ->capture_default_str();
  return command;
}

}  // namespace

void add_data_command(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "Write a dataset directory from a Debian package or your own files");
  data->require_subcommand(1);

  const auto openclipart = std::make_shared<DataArguments>();
  openclipart->images.label = "openclipart";
  openclipart->images.workers = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  CLI::App* command =
      add_dataset(*data, "openclipart", "Drawings with a title, 16 categories", openclipart, "/usr/share/openclipart");
  command->add_option("--unlabelled-out", openclipart->unlabelled_out,
                      "Also write a directory of pairs without labels for pretraining, with the drawings of train that "
                      "the task leaves out");
  command->add_option("--max-side", openclipart->images.max_side, "Pixels on the longer side of the images written")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--workers", openclipart->images.workers, "Threads that convert images")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->callback([openclipart] { run_openclipart(*openclipart); });

  const auto wordnet = std::make_shared<DataArguments>();
  add_dataset(*data, "wordnet", "Dictionary entries, 45 categories", wordnet, "/usr/share/wordnet")
      ->callback([wordnet] { run_wordnet(*wordnet); });

  const auto fashion = std::make_shared<DataArguments>();
  add_dataset(*data, "fashion-mnist", "Small grey images of clothing, 10 categories", fashion,
              "/usr/share/datasets/fashion-mnist")
      ->callback([fashion] { run_fashion_mnist(*fashion); });
}

}  // namespace duet::tools
