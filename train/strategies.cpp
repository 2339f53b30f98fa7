#include "duet/train/strategies.h"

#include <filesystem>

#include "duet/core/file.h"
#include "duet/models/hub.h"
#include "duet/models/weights.h"
#include "duet/train/interrupt.h"
#include "duet/train/model_readme.h"

namespace duet::train {
namespace {

template <class EncoderSize>
void set_size(EncoderSize& c, int64_t width, int64_t layers, int64_t heads) {
  c.hidden_size = width;
  c.num_hidden_layers = layers;
  c.num_attention_heads = heads;
  c.intermediate_size = 4 * width;
}

// The samples of one split of all data directories, each behind its own source. Stages train on one source, so several
// directories are only allowed where samples need no common label set.
struct Split {
  Dataset dataset;
  std::shared_ptr<const SampleSource> training, validation;
  std::vector<Sample> training_samples;
  Json description = Json::array();
};

void print_skipped(const std::vector<std::string>& skipped) {
  for (const std::string& line : describe_skipped(skipped)) std::fprintf(stderr, "%s\n", line.c_str());
}

void print_warnings(const Dataset& dataset) {
  for (const std::string& w : dataset.warnings()) std::fprintf(stderr, "warning: %s\n", w.c_str());
  print_skipped(dataset.skipped());
}

Dataset open_dataset(const std::string& directory, const InputConfig& input) {
  Dataset dataset = Dataset::open(directory, {.on_bad_sample = input.on_bad_sample});
  print_warnings(dataset);
  return dataset;
}

Json describe(const Dataset& dataset, size_t train_size, size_t validation_size) {
  return {{"directory", dataset.directory()},
          {"name", dataset.name()},
          {"fingerprint", text(std::hex, dataset.fingerprint())},
          {"train", train_size},
          {"validation", validation_size}};
}

// Rows that have what the stage uses; the others are not errors, because unlabelled or partial rows are normal there.
std::vector<Sample> usable(std::vector<Sample> samples, const InputConfig& input) {
  std::erase_if(samples, [&](const Sample& s) {
    return (input.use_images && !s.has_image()) || (input.use_text && (!s.has_text || s.text.empty())) ||
           (input.use_labels && !s.has_label());
  });
  return samples;
}

Split open_split(const StageConfig& config, const InputConfig& input, std::shared_ptr<const Tokenizer> tokenizer,
                 double fraction, bool only_usable) {
  check(config.data.size() == 1, "strategy", "exactly one --data directory is needed, got ", config.data.size());
  Split split{.dataset = open_dataset(config.data[0], input)};
  const Dataset& dataset = split.dataset;
  // What a stage cannot use is normal in unlabelled or partial data, and bad in the task's.
  std::vector<std::string> skipped;
  const auto samples_of = [&](const std::string& name) {
    return only_usable ? usable(dataset.split(name), input) : complete_samples(dataset.split(name), input, skipped);
  };
  std::vector<Sample> training = samples_of("train");
  if (fraction < 1) training = stratified_fraction(training, fraction, config.options.seed);
  check(!training.empty(), "strategy", config.data[0], ": no training sample has all of what this stage needs",
        input.use_images ? " image" : "", input.use_text ? " text" : "", input.use_labels ? " label" : "");
  check(!input.use_labels || dataset.labels().size() >= 2, "strategy", config.data[0], " has ", dataset.labels().size(),
        " label(s); classification needs at least two");
  split.training_samples = training;
  split.training = std::make_shared<const SampleSource>(dataset, std::move(training), tokenizer, input);
  if (dataset.has_split("val")) {
    std::vector<Sample> validation = samples_of("val");
    if (!validation.empty())
      split.validation = std::make_shared<const SampleSource>(dataset, std::move(validation), tokenizer, input);
  }
  print_skipped(skipped);
  split.description.push_back(
      describe(dataset, split.training->size(), split.validation ? split.validation->size() : 0));
  return split;
}

// A run is never written over something else: somebody's model directory, say, that --vision or --text names too.
void check_run_directory(const std::string& out) {
  const std::string config = out + "/config.json";
  check(!models::Weights::exist(out), "run", out, " holds a model and is no run; choose another --out");
  if (!std::filesystem::exists(config)) return;
  const Json json = read_json(config);
  check(json.is_object() && json.contains("stage"), "run", config, " was not written by a run; choose another --out");
}

Json describe_run(const StageConfig& config, const char* stage, const Json& model, const Json& data) {
  return {{"stage", stage},
          {"command", config.command},
          {"data", data},
          {"vocab", config.vocab},
          {"from", config.from.to_json()},
          {"max_length", config.input.max_length},
          {"fit", fit_name(config.input.steps.fit)},
          {"options", config.options.to_json()},
          {"model", model}};
}

RunOptions run_options(const StageConfig& config, Json description, const SampleSource& source) {
  RunOptions run{config.out, config.label, config.resume, std::move(description), {}, config.graphs, config.trace};
  if (source.config().use_images)
    for (size_t i = 0; i < source.size() && run.example_images.size() < 4; ++i) try {
        run.example_images.emplace_back("example/" + source.samples()[i].id, encode_png(source.image(i)));
      } catch (const Error&) {
        if (source.config().on_bad_sample == BadSample::stop) throw;
      }
  return run;
}

void save_model(const StageConfig& config, const models::ParamStore& store, const Json& model,
                const Processors& processors, const Json& description) {
  models::save_model_directory(config.out + "/model", store, model, [&](const std::string& directory) {
    processors.save(directory);
    write_file_atomically(directory + "/README.md", model_readme(model, processors.input, description));
  });
}

// A finished stage leaves result.json; with --resume it is not run again, if it is the stage that `description` is of.
std::optional<StageResult> finished(const StageConfig& config, const Json& description) {
  const std::string path = config.out + "/result.json";
  if (!config.resume || !std::filesystem::exists(path)) return std::nullopt;
  check_same_run(read_json(config.out + "/config.json"), description, config.out);
  return StageResult::from_json(read_json(path).at("training"));
}

// Only what result.json completes can do without its checkpoints: until then they are all that a resumed run has.
void write_result(const StageConfig& config, const Json& result) {
  write_file_atomically(config.out + "/result.json", result.dump(1) + "\n");
  if (!config.keep_checkpoints) std::filesystem::remove_all(config.out + "/checkpoints");
}

StageResult finish(const StageConfig& config, const StageResult& result) {
  write_result(config, {{"training", result.to_json()}});
  return result;
}

// Classification from scratch over one part: both halves of the component strategy's first stage.
StageResult pretrain_classifier(const StageConfig& config, bool image) {
  check_run_directory(config.out);
  InputConfig input = config.input;
  input.use_images = image;
  input.use_text = !image;
  input.use_labels = true;
  models::ClassifierConfig model_config;
  std::shared_ptr<const Tokenizer> tokenizer;
  if (image) {
    model_config.vision = vision_encoder(config, input);
  } else {
    model_config.text = text_encoder(config, input, tokenizer);
  }
  const Split split = open_split(config, input, tokenizer, 1, true);
  model_config.labels = split.dataset.labels();
  const Json description =
      describe_run(config, image ? "pretrain vision" : "pretrain text", model_config.to_json(), split.description);
  if (auto result = finished(config, description)) return *result;
  models::ParamStore store(config.options.seed, DType::f32, false);
  models::Classifier model({store, ""}, model_config);
  load_encoders(store, config.from);
  store.to(config.device);
  ClassifyTask task(store, model, config.options, split.training_samples);
  const StageResult result =
      train(task, split.training, split.validation, config.options, run_options(config, description, *split.training));
  save_model(config, store, model_config.to_json(), {tokenizer, input}, description);
  return finish(config, result);
}

}  // namespace

models::DualEncoderConfig preset_size(const std::string& name) {
  models::DualEncoderConfig c;
  c.vision.layer_norm_eps = 1e-6;
  if (name == "base") return c;
  if (name == "tiny") {
    set_size(c.vision, 192, 12, 3);
    set_size(c.text, 256, 4, 4);
    c.projection_dim = 256;
    return c;
  }
  check(name == "mini", "size", "unknown size \"", name, "\"; use mini, tiny or base");
  set_size(c.vision, 96, 3, 3);
  c.vision.image_size = 64;
  c.vision.patch_size = 8;
  set_size(c.text, 128, 2, 4);
  c.text.max_position_embeddings = 64;
  c.projection_dim = 128;
  // Narrow encoders learn faster from a wider start than the 0.02 of the 768-wide models: about 0.5 / sqrt(width).
  c.vision.initializer_range = c.text.initializer_range = 0.05;
  return c;
}

StageResult pretrain_vision(const StageConfig& config) {
  return pretrain_classifier(config, true);
}

StageResult pretrain_text(const StageConfig& config, const std::string& objective) {
  if (objective == "label") return pretrain_classifier(config, false);
  check(objective == "mlm", "pretrain", "unknown objective \"", objective, "\"; use label or mlm");
  check_run_directory(config.out);
  InputConfig input = config.input;
  input.use_images = input.use_labels = false;
  input.use_text = true;
  std::shared_ptr<const Tokenizer> tokenizer;
  const models::BertConfig bert_config = text_encoder(config, input, tokenizer);
  const Split split = open_split(config, input, tokenizer, 1, true);
  Json model = bert_config.to_json();
  model["architectures"] = {"BertForMaskedLM"};
  const Json description = describe_run(config, "pretrain text", model, split.description);
  if (auto result = finished(config, description)) return *result;
  models::ParamStore store(config.options.seed, DType::f32, false);
  models::Bert bert({store, "text_model"}, bert_config, false);
  models::MlmHead head({store, "cls.predictions"}, bert);
  load_encoders(store, config.from);
  store.to(config.device);
  MlmTask task(store, bert, head);
  const StageResult result = train(task, split.training, split.validation, config.options,
                                   run_options(config, description, *split.training), {"cls"});
  save_model(config, store, model, {tokenizer, input}, description);
  return finish(config, result);
}

StageResult pretrain_joint(const StageConfig& config) {
  check_run_directory(config.out);
  InputConfig input = config.input;
  input.use_images = input.use_text = true;
  input.use_labels = false;
  std::shared_ptr<const Tokenizer> tokenizer;
  models::DualEncoderConfig model_config = config.size;
  model_config.vision = vision_encoder(config, input);
  model_config.text = text_encoder(config, input, tokenizer);
  const Split split = open_split(config, input, tokenizer, 1, true);
  const Json description = describe_run(config, "pretrain joint", model_config.to_json(), split.description);
  if (auto result = finished(config, description)) return *result;
  models::ParamStore store(config.options.seed, DType::f32, false);
  models::DualEncoder model({store, ""}, model_config);
  load_encoders(store, config.from);
  store.to(config.device);
  ContrastiveTask task(store, model);
  const StageResult result =
      train(task, split.training, split.validation, config.options, run_options(config, description, *split.training),
            {"visual_projection", "text_projection"});
  save_model(config, store, model_config.to_json(), {tokenizer, input}, description);
  return finish(config, result);
}

FinetuneResult finetune(const StageConfig& config, const FinetuneParts& parts, double fraction) {
  check_run_directory(config.out);
  check(fraction > 0 && fraction <= 1, "finetune", "the fraction of labels must be in (0, 1], got ", fraction);
  InputConfig input = config.input;
  input.use_images = parts.image;
  input.use_text = parts.text;
  input.use_labels = true;
  models::ClassifierConfig model_config;
  std::shared_ptr<const Tokenizer> tokenizer;
  if (parts.image) model_config.vision = vision_encoder(config, input);
  if (parts.text) model_config.text = text_encoder(config, input, tokenizer);
  const Split split = open_split(config, input, tokenizer, fraction, false);
  FinetuneResult result;
  // Opened before training, so that a test sample without image or text is found now and not hours later.
  std::shared_ptr<const SampleSource> test;
  if (split.dataset.has_split("test")) {
    std::vector<std::string> skipped;
    result.samples = complete_samples(split.dataset.split("test"), input, skipped);
    print_skipped(skipped);
    test = std::make_shared<const SampleSource>(split.dataset, result.samples, tokenizer, input);
  }
  model_config.labels = split.dataset.labels();
  model_config.head_dropout = std::max(0.0, config.dropout);
  if (parts.image && parts.text) model_config.text_pooling = config.text_pooling;
  models::ParamStore store(config.options.seed, DType::f32, false);
  models::Classifier model({store, ""}, model_config);
  load_encoders(store, config.from);
  store.to(config.device);

  ClassifyTask task(store, model, config.options, split.training_samples);
  Json description = describe_run(config, "finetune", model_config.to_json(), split.description);
  description["fraction"] = fraction;
  result.training =
      train(task, split.training, split.validation, config.options, run_options(config, description, *split.training));
  save_model(config, store, model_config.to_json(), {tokenizer, input}, description);

  if (test) {
    Loader loader(test, {.batch = 64, .shuffle = false, .workers = config.options.workers.beside(config.device)});
    const ClassifyTask::Predictions p = task.predict(
        loader, [&] { throw_if_interrupted("predicting the test split; continue with --resume --out " + config.out); });
    print_skipped(loader.skipped());
    const size_t classes = model_config.labels.size();
    result.test = ClassificationMetrics(p.probabilities, p.labels, classes).to_json(model_config.labels, p.loss);
    for (size_t i = 0; i < p.samples.size(); ++i) {
      const auto first = p.probabilities.begin() + static_cast<int64_t>(i * classes);
      const auto top = std::max_element(first, first + static_cast<int64_t>(classes));
      result.predictions.push_back({p.samples[i], top - first, *top});
    }
  }
  write_result(config, result.to_json());
  return result;
}

Json FinetuneResult::to_json() const {
  return {{"training", training.to_json()}, {"test", test}};
}

LoadedClassifier load_classifier(const std::string& directory) {
  LoadedClassifier c;
  c.config = models::naming(directory,
                            [&] { return models::ClassifierConfig::from_json(models::read_model_config(directory)); });
  c.store = std::make_unique<models::ParamStore>(0, DType::f32, false);
  c.model = std::make_unique<models::Classifier>(models::ParamScope(*c.store, ""), c.config);
  // Exact: a layer that we leave out (a representation layer before the head, say) would change the results.
  models::load_parameters(*c.store, directory, {.strictness = models::Strictness::exact});
  c.processors = Processors::load(directory);
  c.processors.input.use_images = c.config.vision.has_value();
  if (c.config.vision) c.processors.input.image_size = static_cast<int>(c.config.vision->image_size);
  c.processors.input.use_text = c.config.text.has_value();
  if (c.config.text)
    c.processors.input.max_length =
        static_cast<int>(std::min<int64_t>(c.processors.input.max_length, c.config.text->max_position_embeddings));
  check(!c.config.text || c.processors.tokenizer, "model", directory, " has neither tokenizer.json nor vocab.txt");
  if (c.config.text) check_tokenizer(*c.processors.tokenizer, *c.config.text, directory);
  return c;
}

}  // namespace duet::train
