#include "duet/models/bert.h"

#include "duet/core/dispatch.h"
#include "duet/models/vit.h"
#include "duet/ops/dropout.h"
#include "duet/ops/elementwise.h"
#include "duet/ops/embedding.h"
#include "duet/ops/matmul.h"
#include "duet/ops/reshape.h"
#include "duet/ops/slice.h"
#include "duet/ops/tanh.h"

namespace duet::models {

BertConfig BertConfig::from_json(const Json& json) {
  BertConfig c;
  c.read(json);
  c.vocab_size = json_get(json, "vocab_size", c.vocab_size);
  c.max_position_embeddings = json_get(json, "max_position_embeddings", c.max_position_embeddings);
  c.type_vocab_size = json_get(json, "type_vocab_size", c.type_vocab_size);
  c.pad_token_id = json.contains("pad_token_id") ? json_get<int64_t>(json, "pad_token_id", -1) : c.pad_token_id;
  check(c.vocab_size > 0 && c.max_position_embeddings > 0 && c.type_vocab_size > 0, "config",
        "vocab_size, max_position_embeddings and type_vocab_size must be positive");
  const auto positions = json_get<std::string>(json, "position_embedding_type", "absolute");
  check(positions == "absolute", "config", "position_embedding_type \"", positions, "\" is not supported");
  check(!json_get(json, "is_decoder", false) && !json_get(json, "add_cross_attention", false), "config",
        "BERT decoders are not supported (is_decoder, add_cross_attention)");
  return c;
}

Json BertConfig::to_json() const {
  Json json{{"model_type", "bert"}};
  write(json);
  json["vocab_size"] = vocab_size;
  json["max_position_embeddings"] = max_position_embeddings;
  json["type_vocab_size"] = type_vocab_size;
  json["pad_token_id"] = pad_token_id >= 0 ? Json(pad_token_id) : Json();
  return json;
}

namespace {

// The padding token's embedding starts at zero, and stays there (see ops::embedding).
Init word_init(const BertConfig& config) {
  Init init = Init::normal(config.initializer_range);
  if (config.pad_token_id < config.vocab_size) init.zero_row = config.pad_token_id;
  return init;
}

}  // namespace

Bert::Bert(const ParamScope& scope, const BertConfig& config, bool with_pooler)
    : config_(config),
      words_(scope.create("embeddings.word_embeddings.weight", {config.vocab_size, config.hidden_size},
                          word_init(config))),
      positions_(scope.create("embeddings.position_embeddings.weight",
                              {config.max_position_embeddings, config.hidden_size},
                              Init::normal(config.initializer_range))),
      types_(scope.create("embeddings.token_type_embeddings.weight", {config.type_vocab_size, config.hidden_size},
                          Init::normal(config.initializer_range))),
      norm_(scope / "embeddings.LayerNorm", config.hidden_size, config.layer_norm_eps),
      encoder_(scope / "encoder", config, NormPlacement::post) {
  if (with_pooler)
    pooler_.emplace_back(scope / "pooler.dense", config.hidden_size, config.hidden_size,
                         Init::normal(config.initializer_range));
}

Packing Bert::packing_of(const TextInput& text, const Run& run) const {
  const bool may_pack = run.packed && text.ids.device().kind == DeviceKind::cpu && text.ids.rank() == 2 &&
                        text.mask.defined() && text.mask.shape() == text.ids.shape();
  // oneDNN prepares products in bfloat16 for one number of rows, which takes about as long as a small product.
  return may_pack ? Packing::of(text.mask, run.bfloat16 ? 32 : 1) : Packing();
}

Variable Bert::embed(const TextInput& text, const Packing& packing, const Run& run) const {
  check(text.ids.rank() == 2, "bert", "ids must be (B, T), got ", text.ids);
  const int64_t tokens = text.ids.dim(1);
  check(tokens >= 1 && tokens <= config_.max_position_embeddings, "bert", tokens,
        " tokens per text, the model takes 1 to ", config_.max_position_embeddings, "; set a smaller --max-length");
  const auto taken = [&](const Tensor& ids) { return packing.defined() && ids.defined() ? packing.take(ids) : ids; };
  const Tensor ids = taken(text.ids), given_types = taken(text.type_ids);
  const Tensor types = given_types.defined() ? given_types : Tensor::zeros(ids.shape(), DType::i32, ids.device());
  Variable x = ops::add(ops::embedding(ids, words_, config_.pad_token_id), ops::embedding(types, types_));
  x = ops::add(
      x, packing.defined() ? ops::embedding(packing.positions(), positions_) : ops::slice(positions_, 0, 0, tokens));
  return ops::dropout(run.activation(norm_(x)), run.dropout(config_.hidden_dropout_prob),
                      run.random.child("embeddings"), packing.rows);
}

Variable Bert::operator()(const TextInput& text, const Run& run, std::vector<Variable>* hidden_states) const {
  const Packing packing = hidden_states == nullptr ? packing_of(text, run) : Packing();
  const Variable x = encoder_(embed(text, packing, run), {text.mask, text.padding_at_end, packing}, run, hidden_states);
  return packing.defined() ? packing.unpack(x) : x;
}

Variable Bert::class_token(const TextInput& text, const Run& run) const {
  const Packing packing = packing_of(text, run);
  return encoder_.class_token(embed(text, packing, run), {text.mask, text.padding_at_end, packing}, run);
}

Variable Bert::pool(const Variable& class_token) const {
  check(!pooler_.empty(), "bert", "this model was built without a pooler");
  check(class_token.rank() == 2, "bert", "the pooler takes class tokens (B, D), got ", class_token);
  return ops::tanh(pooler_[0](class_token));
}

MlmHead::MlmHead(const ParamScope& scope, const Bert& bert)
    : activation_(bert.config().activation()),
      words_(bert.word_embeddings()),
      bias_(scope.create("bias", {bert.config().vocab_size}, Init::constant(0))),
      dense_(scope / "transform.dense", bert.config().hidden_size, bert.config().hidden_size,
             Init::normal(bert.config().initializer_range)),
      norm_(scope / "transform.LayerNorm", bert.config().hidden_size, bert.config().layer_norm_eps) {}

Variable MlmHead::operator()(const Variable& x) const {
  return widen(ops::linear(norm_(dense_(x, activation_)), words_, bias_));
}

}  // namespace duet::models
