#include <iostream>

#include "duet/core/file.h"
#include "duet/models/hub.h"
#include "duet/tools/arguments.h"
#include "duet/tools/device_option.h"
#include "duet/tools/workers_option.h"
#include "duet/train/strategies.h"

namespace duet::tools {
namespace {

struct EvaluateCommand {
  std::string model, data, split = "test", out, on_bad_sample = "stop";
  int64_t batch = 64;
  train::Workers workers;
  bool json = false;
  DeviceOption device;
};

void run_evaluate(EvaluateCommand& c) {
  const Device device = c.device.get();
  const std::string model = models::find_model_directory(c.model);
  train::LoadedClassifier loaded = train::load_classifier(model);
  loaded.processors.input.use_labels = true;
  loaded.processors.input.on_bad_sample = c.on_bad_sample == "skip" ? train::BadSample::skip : train::BadSample::stop;
  const train::Dataset dataset = train::Dataset::open(c.data, {.on_bad_sample = loaded.processors.input.on_bad_sample});
  check(dataset.labels() == loaded.config.labels, "evaluate", "the labels of ", c.data, " (", dataset.labels().size(),
        ") are not those of ", c.model, " (", loaded.config.labels.size(), ")");
  std::vector<std::string> skipped = dataset.skipped();
  const auto source = std::make_shared<const train::SampleSource>(
      dataset, train::complete_samples(dataset.split(c.split), loaded.processors.input, skipped),
      loaded.processors.tokenizer, loaded.processors.input);
  train::Loader loader(source, {.batch = c.batch, .shuffle = false, .workers = c.workers.beside(device)});
  loaded.store->to(device);
  train::ClassifyTask task(*loaded.store, *loaded.model, {}, {});
  task.set_bfloat16(c.device.bfloat16());
  const auto predictions = task.predict(loader);
  const train::ClassificationMetrics metrics(predictions.probabilities, predictions.labels,
                                             loaded.config.labels.size());
  Json result = metrics.to_json(loaded.config.labels, predictions.loss);
  result["split"] = c.split;
  result["samples"] = predictions.samples.size();
  for (const std::string& reason : loader.skipped()) skipped.push_back(reason);
  result["skipped"] = skipped;
  const std::string out = c.out.empty() ? model + "/metrics.json" : c.out;
  write_file_atomically(out, result.dump(1) + "\n");
  for (const std::string& line : train::describe_skipped(skipped)) std::cerr << line << '\n';
  if (c.json)
    std::cout << result.dump() << '\n';
  else
    std::cout << metrics.table(loaded.config.labels) << "written   " << out << '\n';
}

}  // namespace

void add_evaluate_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("evaluate", "Accuracy, top-5, macro F1, confusion matrix and loss of a classifier");
  const auto c = std::make_shared<EvaluateCommand>();
  command->add_option("--model", c->model, "Model directory, e.g. RUN/model")->required();
  command->add_option("--data", c->data, "Dataset directory")->required();
  c->device.add_to(*command);
  command->add_option("--split", c->split, "train, val or test")
      ->capture_default_str()
      ->check(CLI::IsMember({"train", "val", "test"}));
  command->add_option("--out", c->out, "Where to write; default MODEL/metrics.json");
  command->add_option("--batch", c->batch, "Samples per batch")->capture_default_str()->check(positive);
  add_workers_option(*command, c->workers);
  command->add_option("--on-bad-sample", c->on_bad_sample, "stop or skip")
      ->capture_default_str()
      ->check(CLI::IsMember({"stop", "skip"}));
  command->add_flag("--json", c->json, "Print the result as JSON");
  command->callback([c] { run_evaluate(*c); });
}

}  // namespace duet::tools
