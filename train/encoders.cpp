#include "duet/train/encoders.h"

#include "duet/train/strategies.h"

namespace duet::train {
namespace {

template <class EncoderConfig>
void set_dropout(EncoderConfig& c, double dropout) {
  if (dropout < 0) return;
  c.hidden_dropout_prob = dropout;
  c.attention_probs_dropout_prob = dropout;
}

std::shared_ptr<const Tokenizer> open_vocabulary(const StageConfig& config) {
  check(!config.vocab.empty(), "strategy",
        "a text encoder from scratch needs a vocabulary: pass --vocab FILE (duet vocab makes one)");
  return std::make_shared<const Tokenizer>(Tokenizer::from_vocab_file(config.vocab, {}));
}

Json part_config(const std::string& directory, bool vision) {
  const Json config = models::read_model_config(directory), part = models::encoder_config(config, vision);
  check(!part.is_null(), "model", directory, " holds a model of type \"",
        json_get<std::string>(config, "model_type", ""), "\", no ", vision ? "vision" : "text", " encoder");
  return part;
}

void load_part(models::ParamStore& store, const std::string& directory, const models::LoadOptions& options) {
  const models::LoadReport report = models::load_parameters(store, directory, options);
  check(!report.loaded.empty(), "model", directory, " has no weights for ", options.prefix);
  for (const std::string& name : report.missing)
    std::fprintf(stderr, "note: %s is not in %s and starts fresh\n", name.c_str(), directory.c_str());
  // Heads are expected to be left out; of the encoder itself nothing should be.
  for (const std::string& key : report.unexpected)
    if (key.find("pooler") == std::string::npos)
      std::fprintf(stderr, "warning: %s of %s has no place in the encoder and is left out\n", key.c_str(),
                   directory.c_str());
}

}  // namespace

Json EncoderSources::to_json() const {
  return {{"vision", vision},
          {"text", text},
          {"image_size", image_size},
          {"positions", positions == models::Interpolation::timm ? "timm" : "hugging_face"}};
}

models::VitConfig vision_encoder(const StageConfig& config, InputConfig& input) {
  const EncoderSources& from = config.from;
  models::VitConfig encoder = config.size.vision;
  if (!from.vision.empty()) {
    Json json = part_config(from.vision, true);
    input.steps = Processors::load(from.vision).input.steps;
    if (from.image_size > 0) {
      json["image_size"] = from.image_size;
      input.steps = steps_of_size(input.steps, from.image_size);
    }
    encoder = models::naming(from.vision, [&] { return models::VitConfig::from_json(json); });
  }
  set_dropout(encoder, config.dropout);
  input.image_size = static_cast<int>(encoder.image_size);
  return encoder;
}

models::BertConfig text_encoder(const StageConfig& config, const InputConfig& input,
                                std::shared_ptr<const Tokenizer>& tokenizer) {
  models::BertConfig encoder = config.size.text;
  if (config.from.text.empty()) {
    tokenizer = open_vocabulary(config);
    encoder.vocab_size = tokenizer->size();
  } else {
    const std::string& directory = config.from.text;
    encoder = models::naming(directory, [&] { return models::BertConfig::from_json(part_config(directory, false)); });
    tokenizer = Processors::load(directory).tokenizer;
    check(tokenizer != nullptr, "model", directory, " has neither tokenizer.json nor vocab.txt");
    check_tokenizer(*tokenizer, encoder, directory);
  }
  set_dropout(encoder, config.dropout);
  check(input.max_length <= encoder.max_position_embeddings, "strategy", "--max-length ", input.max_length,
        " is more than the text encoder's ", encoder.max_position_embeddings, " positions");
  return encoder;
}

void load_encoders(models::ParamStore& store, const EncoderSources& from) {
  const std::optional<models::Interpolation> positions =
      from.image_size > 0 ? std::optional(from.positions) : std::nullopt;
  if (!from.vision.empty() && store.has_part("vision_model"))
    load_part(store, from.vision, {.prefix = "vision_model", .positions = positions});
  if (!from.text.empty() && store.has_part("text_model")) load_part(store, from.text, {.prefix = "text_model"});
  store.initialise_rest();
}

}  // namespace duet::train
