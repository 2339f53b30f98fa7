#include "duet/tools/data.h"

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <thread>

#include "duet/core/file.h"
#include "duet/tools/arguments.h"
#include "duet/tools/commands.h"
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

  Json settings() const { return {{"source", source}, {"limit", limit}}; }
};

void run_openclipart(const DataArguments& a) {
  train::catch_interrupts();
  check(a.out != a.unlabelled_out, "data", "--out and --unlabelled-out are both ", a.out,
        "; two directories are needed");
  train::Openclipart data = train::read_openclipart(a.source);
  data.labelled = train::limit_rows(std::move(data.labelled), a.limit);
  data.unlabelled = train::limit_rows(std::move(data.unlabelled), a.limit);
  const Json images{{"source", a.source}, {"max_side", a.images.max_side}};
  train::DatasetWriter labelled(a.out, {"duet data openclipart", images});
  std::unique_ptr<train::DatasetWriter> unlabelled;
  if (!a.unlabelled_out.empty())
    unlabelled = std::make_unique<train::DatasetWriter>(
        a.unlabelled_out, train::DatasetWriter::Claim{"duet data openclipart --unlabelled-out", images});

  std::map<std::string, std::vector<std::string>> targets;  // by source: a drawing of both datasets is decoded once
  for (const SourceRow& r : data.labelled) targets[r.source].push_back(labelled.path(r.image));
  if (unlabelled)
    for (const SourceRow& r : data.unlabelled) targets[r.source].push_back(unlabelled->path(r.image));
  std::vector<train::ImageTask> tasks;
  for (auto& [source, paths] : targets) tasks.push_back({source, std::move(paths), ""});
  const auto bad = train::write_images(tasks, a.images);
  report_bad_images(bad);
  const auto finish = [&](train::DatasetWriter& writer, const std::string& name, const std::vector<std::string>& labels,
                          const Rows& rows) {
    const Rows good = without_sources(rows, bad);
    writer.finish(name, labels, a.settings(), good);
    print_summary(good, rows.size() - good.size(), writer.directory());
  };
  finish(labelled, "openclipart", train::openclipart_labels(), data.labelled);
  if (!unlabelled) return;
  std::cout << '\n';
  finish(*unlabelled, "openclipart pairs", {}, data.unlabelled);
}

void run_wordnet(const DataArguments& a) {
  const Rows rows = train::limit_rows(train::read_wordnet(a.source), a.limit);
  train::DatasetWriter writer(a.out, {"duet data wordnet", Json::object()});
  writer.finish("wordnet", train::wordnet_labels(), a.settings(), rows);
  print_summary(rows, 0, writer.directory());
}

void run_fashion_mnist(const DataArguments& a) {
  const Rows rows = train::limit_rows(train::read_fashion_mnist(a.source), a.limit);
  train::DatasetWriter writer(a.out, {"duet data fashion-mnist", Json::object()});
  for (const std::string& file : train::fashion_mnist_image_files())
    write_file_atomically(writer.path(file), read_file(a.source + "/" + file));
  writer.finish("fashion-mnist", train::fashion_mnist_labels(), a.settings(), rows);
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

void add_image_options(CLI::App& command, train::ImageOptions& images) {
  images.workers = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  command.add_option("--workers", images.workers, "Threads that convert images")
      ->check(positive)
      ->capture_default_str();
  command
      .add_option("--on-bad-sample", images.on_bad_sample,
                  "stop, or skip: leave out rows that cannot be used, name and count them")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, train::BadSample>{{"stop", train::BadSample::stop}, {"skip", train::BadSample::skip}}))
      ->default_str("stop");
}

void report_bad_images(const std::map<std::string, std::string>& bad) {
  for (const auto& [source, reason] : bad) std::cerr << "skipped: " << reason << '\n';
}

Rows without_sources(const Rows& rows, const std::map<std::string, std::string>& bad) {
  Rows good;
  std::copy_if(rows.begin(), rows.end(), std::back_inserter(good),
               [&](const SourceRow& r) { return !bad.contains(r.source); });
  return good;
}

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
            << '\n'
            << "labels        ";
  if (labels.empty()) {
    std::cout << "none\n";
  } else {
    const auto [fewest, most] = std::minmax_element(labels.begin(), labels.end(),
                                                    [](const auto& a, const auto& b) { return a.second < b.second; });
    std::cout << labels.size() << ", from " << fewest->second << " rows (" << fewest->first << ") to " << most->second
              << " (" << most->first << ")\n";
  }
  std::cout << "empty texts   " << empty << '\n'
            << "skipped       " << skipped << '\n'
            << "sha256        " << train::rows_checksum(rows) << '\n'
            << "written to    " << directory << '\n';
}

void add_data_command(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "Write a dataset directory from a Debian package or your own files");
  data->require_subcommand(1);

  const auto openclipart = std::make_shared<DataArguments>();
  openclipart->images.label = "openclipart";
  CLI::App* command =
      add_dataset(*data, "openclipart", "Drawings with a title, 16 categories", openclipart, "/usr/share/openclipart");
  command->add_option("--unlabelled-out", openclipart->unlabelled_out,
                      "Also write a directory of pairs without labels for pretraining, with the drawings of train that "
                      "the task leaves out");
  command->add_option("--max-side", openclipart->images.max_side, "Pixels on the longer side of the images written")
      ->check(positive)
      ->capture_default_str();
  add_image_options(*command, openclipart->images);
  command->callback([openclipart] { run_openclipart(*openclipart); });

  const auto wordnet = std::make_shared<DataArguments>();
  add_dataset(*data, "wordnet", "Dictionary entries, 45 categories", wordnet, "/usr/share/wordnet")
      ->callback([wordnet] { run_wordnet(*wordnet); });

  const auto fashion = std::make_shared<DataArguments>();
  add_dataset(*data, "fashion-mnist", "Small grey images of clothing, 10 categories", fashion,
              "/usr/share/datasets/fashion-mnist")
      ->callback([fashion] { run_fashion_mnist(*fashion); });

  add_data_import_command(*data);
}

}  // namespace duet::tools
