#include <algorithm>
#include <iostream>
#include <optional>

#include "duet/autograd/grad_mode.h"
#include "duet/core/file.h"
#include "duet/core/safetensors.h"
#include "duet/models/dual_encoder.h"
#include "duet/models/hub.h"
#include "duet/ops/l2_normalize.h"
#include "duet/tools/arguments.h"
#include "duet/tools/device_option.h"
#include "duet/tools/model_input.h"
#include "duet/tools/workers_option.h"

namespace duet::tools {
namespace {

struct EmbedCommand {
  std::string model, image, text_value, data, split, modality, output;
  bool hidden = false;
  int64_t max_length = 0, batch = 32;
  train::Workers workers;
  DeviceOption device;
};

// What an encoder makes of a batch of B samples.
struct Vectors {
  Tensor hidden;     // (B, T, D), where asked for
  Tensor mask;       // (B, T), or undefined when no token is padding
  Tensor pooled;     // (B, D)
  Tensor projected;  // (B, P) unit vectors of a dual encoder, else undefined
};

// Where the vectors go.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void add(const std::vector<std::string>& ids, const Vectors& vectors) = 0;
  virtual void finish() {}
};

// A line per sample on standard output.
class JsonLines : public Sink {
 public:
  explicit JsonLines(bool with_hidden) : with_hidden_(with_hidden) {}

  void add(const std::vector<std::string>& ids, const Vectors& v) override {
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      Json line{{"id", ids[i]}, {"pooled", vector_at(v.pooled, row)}};
      if (v.projected.defined()) line["projected"] = vector_at(v.projected, row);
      if (with_hidden_) {
        const Tensor tokens = v.hidden.rows_view(row, row + 1).reshape({v.hidden.dim(1), v.hidden.dim(2)});
        Json list = Json::array();
        for (int64_t t = 0; t < tokens.dim(0); ++t)
          if (!v.mask.defined() || v.mask.at(row * tokens.dim(0) + t) != 0) list.push_back(vector_at(tokens, t));
        line["last_hidden_state"] = std::move(list);
      }
      std::cout << line.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
    }
    check(std::cout.good(), "embed", "cannot write to standard output");
  }

 private:
  static std::vector<float> vector_at(const Tensor& rows, int64_t i) {
    const auto values = rows.rows_view(i, i + 1).values<float>();
    return {values.begin(), values.end()};
  }

  bool with_hidden_;
};

// One safetensors file: pooled (N, D), projected (N, P) of a dual encoder, and with hidden states last_hidden_state
// (N, T, D) and attention_mask (N, T) u8, T the longest sample's tokens, zeros behind shorter ones. The metadata's
// "ids" is a JSON list of the N ids.
class TensorFile : public Sink {
 public:
  TensorFile(std::string path, bool with_hidden) : path_(std::move(path)), with_hidden_(with_hidden) {
    AtomicFile writable(path_);  // found out now and not after all the work
  }

  void add(const std::vector<std::string>& ids, const Vectors& v) override {
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    batches_.push_back(v);
    if (!with_hidden_) batches_.back().hidden = batches_.back().mask = Tensor();
  }

  void finish() override {
    std::vector<std::pair<std::string, Tensor>> tensors{{"pooled", joined(&Vectors::pooled)}};
    if (batches_[0].projected.defined()) tensors.emplace_back("projected", joined(&Vectors::projected));
    if (with_hidden_) add_hidden(tensors);
    const std::string ids = Json(ids_).dump(-1, ' ', false, Json::error_handler_t::replace);
    save_safetensors(path_, tensors, {{"format", "pt"}, {"ids", ids}});
    std::cout << "written   " << path_ << ": " << ids_.size() << " vectors of " << tensors[0].second.dim(1) << '\n';
  }

 private:
  int64_t count() const { return static_cast<int64_t>(ids_.size()); }

  Tensor joined(Tensor Vectors::*part) const {
    const Tensor all = Tensor::empty({count(), (batches_[0].*part).dim(1)}, DType::f32);
    int64_t row = 0;
    for (const Vectors& v : batches_) {
      all.rows_view(row, row + (v.*part).dim(0)).copy_from(v.*part);
      row += (v.*part).dim(0);
    }
    return all;
  }

  void add_hidden(std::vector<std::pair<std::string, Tensor>>& tensors) const {
    int64_t longest = 0;
    for (const Vectors& v : batches_) longest = std::max(longest, v.hidden.dim(1));
    const int64_t width = batches_[0].hidden.dim(2);
    const Tensor hidden = Tensor::zeros({count(), longest, width}, DType::f32);
    const Tensor mask = Tensor::zeros({count(), longest}, DType::u8);
    int64_t row = 0;
    for (const Vectors& v : batches_)
      for (int64_t i = 0; i < v.hidden.dim(0); ++i, ++row)
        for (int64_t t = 0; t < v.hidden.dim(1); ++t) {
          const int64_t from = i * v.hidden.dim(1) + t, to = row * longest + t;
          if (v.mask.defined() && v.mask.at(from) == 0) continue;
          mask.data<uint8_t>()[to] = 1;
          std::copy_n(v.hidden.data<float>() + from * width, width, hidden.data<float>() + to * width);
        }
    tensors.emplace_back("last_hidden_state", hidden);
    tensors.emplace_back("attention_mask", mask);
  }

  std::string path_;
  bool with_hidden_;
  std::vector<std::string> ids_;
  std::vector<Vectors> batches_;
};

// One encoder of a model directory with what turns its output into vectors.
class Embedder {
 public:
  // A copy, since get() replaces a dtype that the device lacks.
  Embedder(EmbedCommand c, bool image)
      : there_(c.device.get()),
        processors_(train::Processors::load(c.model)),
        with_hidden_(c.hidden),
        bfloat16_(c.device.bfloat16()) {
    const std::string& directory = c.model;
    const Json config = models::read_model_config(directory);
    const Json part = models::encoder_config(config, image);
    check(!part.is_null(), "embed", directory, " holds a model of type \"",
          json_get<std::string>(config, "model_type", ""), "\" and no ", image ? "vision" : "text", " encoder");
    int64_t width = 0;
    if (image) {
      const auto vision = models::naming(directory, [&] { return models::VitConfig::from_json(part); });
      vit_.emplace(models::ParamScope(store_, "vision_model"), vision, true);
      processors_.input.image_size = static_cast<int>(vision.image_size);
      width = vision.hidden_size;
    } else {
      const auto text = models::naming(directory, [&] { return models::BertConfig::from_json(part); });
      bert_.emplace(models::ParamScope(store_, "text_model"), text, true);
      check(processors_.tokenizer != nullptr, "embed", directory, " has no vocab.txt");
      train::check_tokenizer(*processors_.tokenizer, text, directory);
      check(c.max_length <= text.max_position_embeddings, "embed", "--max-length ", c.max_length,
            ": the model takes up to ", text.max_position_embeddings, " tokens");
      processors_.input.max_length = static_cast<int>(c.max_length > 0 ? c.max_length : text.max_position_embeddings);
      width = text.hidden_size;
    }
    processors_.input.use_images = image;
    processors_.input.use_text = !image;
    processors_.input.use_labels = false;
    if (json_get<std::string>(config, "model_type", "") == "vision-text-dual-encoder")
      projection_.emplace(models::ParamScope(store_, image ? "visual_projection" : "text_projection"), width,
                          models::DualEncoderConfig::from_json(config).projection_dim, models::Init::constant(0),
                          false);
    load(directory);
    store_.to(there_);
  }

  const train::Processors& processors() const { return processors_; }
  Device device() const { return there_; }

  Vectors operator()(const Tensor& images, const models::TextInput& text) const {
    const NoGrad no_grad;
    const models::Run run{.bfloat16 = bfloat16_};
    const auto there = [&](const Tensor& t) { return t.defined() ? t.to(store_.device()) : t; };
    const Variable seen = vit_ ? Variable(there(images)) : Variable();
    const models::TextInput read{there(text.ids), there(text.type_ids), there(text.mask)};
    Variable hidden;
    if (with_hidden_) hidden = vit_ ? (*vit_)(seen, run) : (*bert_)(read, run);
    Variable pooled = with_hidden_ ? models::first_token(hidden)
                      : vit_       ? vit_->class_token(seen, run)
                                   : bert_->class_token(read, run);
    if (has_pooler_) pooled = vit_ ? vit_->pool(pooled) : bert_->pool(pooled);
    pooled = models::widen(pooled);
    const auto here = [](const Variable& v) { return v.data().to(Device{}); };
    return {.hidden = with_hidden_ ? here(models::widen(hidden)) : Tensor(),
            .mask = text.mask,
            .pooled = here(pooled),
            .projected = projection_ ? here(ops::l2_normalize((*projection_)(pooled))) : Tensor()};
  }

 private:
  void load(const std::string& directory) {
    has_pooler_ = models::load_encoder(store_, directory);
    check(has_pooler_ || !projection_, "embed", directory, ": the pooler is missing, which a dual encoder needs");
    if (!has_pooler_)
      std::cerr << "note: the model has no pooler; pooled is the first token of the last hidden state\n";
  }

  Device there_;
  train::Processors processors_;
  models::ParamStore store_{0, DType::f32, false};
  std::optional<models::Vit> vit_;
  std::optional<models::Bert> bert_;
  std::optional<models::Linear> projection_;
  bool has_pooler_ = true;
  bool with_hidden_, bfloat16_;
};

// What to embed of a dataset's rows when the command line does not say: what both the model and the rows have.
bool embeds_images(const EmbedCommand& c, const std::vector<train::Sample>& samples) {
  if (!c.modality.empty()) return c.modality == "image";
  const Json config = models::read_model_config(c.model);
  const bool image = !models::encoder_config(config, true).is_null() &&
                     std::any_of(samples.begin(), samples.end(), [](const auto& s) { return s.has_image(); });
  const bool text = !models::encoder_config(config, false).is_null() &&
                    std::any_of(samples.begin(), samples.end(), [](const auto& s) { return s.has_text; });
  check(image || text, "embed", c.data, " has nothing that ", c.model, " can embed");
  check(!image || !text, "embed", "both ", c.data, " and ", c.model,
        " have images and texts; pass --modality image or --modality text");
  return image;
}

void embed_dataset(const EmbedCommand& c, Sink& sink) {
  const train::Dataset dataset = train::Dataset::open(c.data);
  std::vector<train::Sample> samples = c.split.empty() ? dataset.samples() : dataset.split(c.split);
  const bool image = embeds_images(c, samples);
  const auto without =
      std::erase_if(samples, [&](const train::Sample& s) { return image ? !s.has_image() : !s.has_text; });
  const char* what = image ? "image" : "text";
  check(!samples.empty(), "embed", "no row of ", c.data, " has ", image ? "an image" : "a text");
  if (without > 0) std::cerr << "note: " << without << " rows without " << what << " are left out\n";
  const Embedder embedder(c, image);
  const auto source = std::make_shared<const train::SampleSource>(dataset, samples, embedder.processors().tokenizer,
                                                                  embedder.processors().input);
  train::Loader loader(source, {.batch = c.batch, .shuffle = false, .workers = c.workers.beside(embedder.device())});
  for (int64_t i = 0; i < loader.batches_per_epoch(); ++i) {
    const train::Batch batch = loader.next();
    std::vector<std::string> ids;
    for (const size_t s : batch.samples) ids.push_back(samples[s].id);
    sink.add(ids, embedder(batch.images, batch.text));
  }
}

void run_embed(const EmbedCommand& c, bool has_text) {
  std::unique_ptr<Sink> sink;
  if (c.output.empty())
    sink = std::make_unique<JsonLines>(c.hidden);
  else
    sink = std::make_unique<TensorFile>(c.output, c.hidden);
  if (!c.data.empty()) {
    embed_dataset(c, *sink);
  } else {
    const Embedder embedder(c, !has_text);
    if (has_text)
      sink->add({c.text_value}, embedder({}, text_input(c.text_value, embedder.processors())));
    else
      sink->add({c.image}, embedder(image_input(c.image, embedder.processors().input), {}));
  }
  sink->finish();
}

}  // namespace

void add_embed_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("embed",
                                         "Vectors of an image, a text or a dataset, as JSON lines or a safetensors "
                                         "file: the pooled output, and with a dual "
                                         "encoder the projected unit vector");
  const auto c = std::make_shared<EmbedCommand>();
  command->add_option("--model", c->model, "Model or run directory")->required();
  CLI::App* inputs = command->add_option_group("input", "What to embed");
  inputs->add_option("--image", c->image, "PNG or JPEG file, or FILE.idx#INDEX; its id is the path");
  CLI::Option* text_option = inputs->add_option("--text", c->text_value, "A text; its id is the text");
  CLI::Option* data = inputs->add_option("--data", c->data, "Dataset directory");
  c->device.add_to(*command);
  inputs->require_option(1);
  command->add_option("--split", c->split, "Only this split of the dataset")
      ->needs(data)
      ->check(CLI::IsMember({"train", "val", "test"}));
  command->add_option("--modality", c->modality, "image or text; needed when dataset and model have both")
      ->needs(data)
      ->check(CLI::IsMember({"image", "text"}));
  command->add_option("--output", c->output,
                      "Write FILE.safetensors with the tensors pooled, projected and, with --hidden, last_hidden_state "
                      "and attention_mask, instead of printing");
  command->add_flag("--hidden", c->hidden, "Also last_hidden_state, a vector per token without padding");
  command->add_option("--max-length", c->max_length, "Cut texts to so many tokens; 0 = as many as the model takes")
      ->capture_default_str()
      ->check(not_negative);
  command->add_option("--batch", c->batch, "Samples per batch")->capture_default_str()->check(positive);
  add_workers_option(*command, c->workers);
  command->callback([c, text_option] {
    c->model = models::find_model_directory(c->model);
    run_embed(*c, text_option->count() > 0);
  });
}

}  // namespace duet::tools
