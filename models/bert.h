#pragma once

#include "duet/models/encoder.h"

namespace duet::models {

// BERT encoder (Devlin et al. 2019) with the structure of Hugging Face's BertModel.
struct BertConfig : EncoderConfig {
  int64_t vocab_size = 30522;
  int64_t max_position_embeddings = 512;
  int64_t type_vocab_size = 2;
  int64_t pad_token_id = 0;  // negative (null in JSON) = none

  BertConfig() { hidden_dropout_prob = attention_probs_dropout_prob = 0.1; }
  static BertConfig from_json(const Json& json);
  Json to_json() const;
};

// A batch of token sequences, all (B, T): ids int32, type ids int32 (undefined = zeros), mask u8 (undefined = ones).
struct TextInput {
  Tensor ids, type_ids, mask;
  bool padding_at_end = false;  // known of the mask: every row is some ones, at least one, and then zeros
};

class Bert {
 public:
  Bert(const ParamScope& scope, const BertConfig& config, bool with_pooler);

  // -> last hidden state (B, T, D). hidden_states: embedding output and every layer's output. On the CPU padding at the
  // end of texts is not computed and its states are zero, unless hidden_states are wanted; elsewhere they are what BERT
  // makes of them.
  Variable operator()(const TextInput& text, const Run& run, std::vector<Variable>* hidden_states = nullptr) const;
  // The first token of that, [CLS]: (B, D); what it does not depend on is not computed.
  Variable class_token(const TextInput& text, const Run& run) const;
  // tanh(W x + b) of first tokens: (B, D) -> (B, D). Throws Error for a model built without pooler.
  Variable pool(const Variable& class_token) const;
  const BertConfig& config() const { return config_; }
  const Variable& word_embeddings() const { return words_; }

 private:
  Packing packing_of(const TextInput& text, const Run& run) const;
  Variable embed(const TextInput& text, const Packing& packing, const Run& run) const;

  BertConfig config_;
  Variable words_, positions_, types_;
  LayerNorm norm_;
  Encoder encoder_;
  std::vector<Linear> pooler_;  // none or one
};

// Masked-language-modelling head: logits = LN(act(dense(x))) E^T + bias, E the word embeddings.
class MlmHead {
 public:
  MlmHead(const ParamScope& scope, const Bert& bert);
  // x (M, D), the rows to predict -> (M, V).
  Variable operator()(const Variable& x) const;

 private:
  ops::Activation activation_;
  Variable words_, bias_;
  Linear dense_;
  LayerNorm norm_;
};

}  // namespace duet::models
