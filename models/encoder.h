#pragma once

#include <vector>

#include "duet/core/json.h"
#include "duet/models/layers.h"
#include "duet/models/packing.h"

namespace duet::models {

// Of an encoder's output: every token, or each sample's first, the class token.
enum class Wanted { all_tokens, class_token };

// What ViT and BERT encoders share; the defaults are those of the base models. Field names in JSON are Hugging Face's.
struct EncoderConfig {
  int64_t hidden_size = 768;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t intermediate_size = 3072;
  std::string hidden_act = "gelu";
  double hidden_dropout_prob = 0;
  double attention_probs_dropout_prob = 0;
  double initializer_range = 0.02;
  double layer_norm_eps = 1e-12;

  ops::Activation activation() const;  // throws Error for an activation that is not supported
  void read(const Json& json);         // keeps the defaults of absent keys; throws Error for impossible values
  void write(Json& json) const;
  // Matmul FLOPs of one forward pass over `tokens` positions of one sample, 2 per multiply-add.
  double forward_flops(int64_t tokens) const { return forward_flops(tokens, Wanted::all_tokens, DeviceKind::cpu); }
  double forward_flops(int64_t tokens, Wanted wanted, DeviceKind on) const;
};

// Where the layer norms sit: ViT normalises before each block (pre), BERT after each residual sum (post).
enum class NormPlacement { pre, post };

// Which tokens of a batch (B, T, D) are padding, as ops::AttentionOptions takes it; or, as rows (N, D), how it was left
// out.
struct Padding {
  Tensor mask;  // (B, T) u8 or undefined
  bool at_end = false;
  Packing packing;
};

// One transformer layer: self-attention and a two-layer MLP, each with a residual connection.
class EncoderLayer {
 public:
  EncoderLayer(const ParamScope& scope, const EncoderConfig& config, NormPlacement placement, bool qkv_bias);
  // x (B, T, D) -> (B, T, D), or packed (N, D) -> (N, D). Where only the class token is wanted -> (B, D): of other
  // tokens only what it attends to is computed.
  Variable operator()(const Variable& x, const Padding& padding, const Run& run,
                      Wanted wanted = Wanted::all_tokens) const;

 private:
  Variable attend(const Variable& x, const Padding& padding, const Run& run, Wanted wanted) const;
  Variable feed_forward(const Variable& x, const Run& run, const Tensor& rows) const;

  EncoderConfig config_;
  NormPlacement placement_;
  // Query, key and value are one matrix (3D, D): one matmul instead of three.
  Linear qkv_, attention_output_, intermediate_, output_;
  LayerNorm attention_norm_, output_norm_;
};

class Encoder {
 public:
  Encoder(const ParamScope& scope, const EncoderConfig& config, NormPlacement placement, bool qkv_bias = true);
  // When hidden_states is given, it receives the input and every layer's output (L + 1 tensors).
  Variable operator()(Variable x, const Padding& padding, const Run& run,
                      std::vector<Variable>* hidden_states = nullptr) const;
  // Of the last layer's output the class token, (B, D), without computing what it does not depend on.
  Variable class_token(Variable x, const Padding& padding, const Run& run) const;

 private:
  Variable run_layer(size_t i, const Variable& x, const Padding& padding, const Run& run, Wanted wanted) const;

  std::vector<EncoderLayer> layers_;
};

}  // namespace duet::models
