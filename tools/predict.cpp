#include <iostream>

#include "duet/autograd/grad_mode.h"
#include "duet/models/hub.h"
#include "duet/ops/softmax.h"
#include "duet/tools/arguments.h"
#include "duet/tools/device_option.h"
#include "duet/tools/model_input.h"
#include "duet/tools/workers_option.h"
#include "duet/train/strategies.h"

namespace duet::tools {
namespace {

struct PredictCommand {
  std::string model, image, text_value, data, split, on_bad_sample = "stop";
  bool has_text = false;
  train::Workers workers;
  DeviceOption device;
};

void print_prediction(const std::string& id, const std::vector<std::string>& labels, const float* probabilities) {
  Json all = Json::object();
  size_t best = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    // ImageNet has two cranes: a label that occurs again gets its number.
    const bool again = all.contains(labels[i]);
    all[again ? text(labels[i], " (", i, ")") : labels[i]] = probabilities[i];
    if (probabilities[i] > probabilities[best]) best = i;
  }
  Json line = Json::object();
  if (!id.empty()) line["id"] = id;
  line["label"] = labels[best];
  line["probability"] = probabilities[best];
  line["probabilities"] = all;
  std::cout << line.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
}

void predict_one(const PredictCommand& c, train::LoadedClassifier& loaded) {
  const auto& input = loaded.processors.input;
  check_usage(!input.use_images || !c.image.empty(), "predict", "this model looks at images: pass --image FILE");
  check_usage(!input.use_text || c.has_text, "predict", "this model reads text: pass --text STRING");
  check_usage(input.use_images || c.image.empty(), "predict", "this model takes no image");
  check_usage(input.use_text || !c.has_text, "predict", "this model takes no text");
  const Device device = loaded.store->device();
  const Variable images = input.use_images ? Variable(image_input(c.image, input).to(device)) : Variable();
  models::TextInput text = input.use_text ? text_input(c.text_value, loaded.processors) : models::TextInput();
  if (input.use_text) text.ids = text.ids.to(device);
  const NoGrad no_grad;
  const Tensor probabilities =
      ops::softmax((*loaded.model)(images, text, {.bfloat16 = c.device.bfloat16()})).data().to(Device{});
  print_prediction("", loaded.config.labels, probabilities.data<float>());
}

void predict_dataset(const PredictCommand& c, train::LoadedClassifier& loaded) {
  auto& bad = loaded.processors.input.on_bad_sample;
  bad = c.on_bad_sample == "skip" ? train::BadSample::skip : train::BadSample::stop;
  const train::Dataset dataset = train::Dataset::open(c.data, {.on_bad_sample = bad});
  std::vector<std::string> skipped = dataset.skipped();
  const std::vector<train::Sample> samples = train::complete_samples(
      c.split.empty() ? dataset.samples() : dataset.split(c.split), loaded.processors.input, skipped);
  const auto source = std::make_shared<const train::SampleSource>(dataset, samples, loaded.processors.tokenizer,
                                                                  loaded.processors.input);
  train::Loader loader(source, {.batch = 64, .shuffle = false, .workers = c.workers.beside(loaded.store->device())});
  train::ClassifyTask task(*loaded.store, *loaded.model, {}, {});
  task.set_bfloat16(c.device.bfloat16());
  const auto predictions = task.predict(loader);
  for (size_t i = 0; i < predictions.samples.size(); ++i)
    print_prediction(samples[predictions.samples[i]].id, loaded.config.labels,
                     predictions.probabilities.data() + i * loaded.config.labels.size());
  for (const std::string& reason : loader.skipped()) skipped.push_back(reason);
  for (const std::string& line : train::describe_skipped(skipped)) std::cerr << line << '\n';
}

}  // namespace

void add_predict_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("predict", "Label and probabilities of one image and text, or of a dataset, as JSON lines");
  const auto c = std::make_shared<PredictCommand>();
  command->add_option("--model", c->model, "Model directory, e.g. RUN/model")->required();
  command->add_option("--image", c->image, "PNG or JPEG file, or FILE.idx#INDEX");
  CLI::Option* text_option = command->add_option("--text", c->text_value, "The text; may be empty");
  command->add_option("--data", c->data, "Dataset directory, instead of --image and --text");
  c->device.add_to(*command);
  command->add_option("--split", c->split, "Only this split of the dataset")
      ->check(CLI::IsMember({"train", "val", "test"}));
  add_workers_option(*command, c->workers);
  command->add_option("--on-bad-sample", c->on_bad_sample, "With --data: stop or skip")
      ->capture_default_str()
      ->check(CLI::IsMember({"stop", "skip"}));
  command->callback([c, text_option] {
    c->has_text = text_option->count() > 0;
    const bool one = !c->image.empty() || c->has_text;
    check_usage(one || !c->data.empty(), "predict", "pass --image FILE, --text STRING or both, or --data DIR");
    check_usage(!one || c->data.empty(), "predict", "--data does not go with --image or --text");
    const Device device = c->device.get();
    train::LoadedClassifier loaded = train::load_classifier(models::find_model_directory(c->model));
    loaded.store->to(device);
    loaded.processors.input.use_labels = false;
    if (one) return predict_one(*c, loaded);
    predict_dataset(*c, loaded);
  });
}

}  // namespace duet::tools
