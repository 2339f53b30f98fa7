#pragma once

#include "duet/models/bert.h"
#include "duet/models/vit.h"

namespace duet::models {

// Small, with sizes that differ from each other, so that a mix-up changes a shape.
inline VitConfig small_vit() {
  VitConfig c;
  c.hidden_size = 8;
  c.intermediate_size = 10;
  c.num_attention_heads = 2;
  c.num_hidden_layers = 2;
  c.image_size = 6;
  c.patch_size = 2;
  c.layer_norm_eps = 1e-6;
  return c;
}

inline BertConfig small_bert() {
  BertConfig c;
  c.hidden_size = 6;
  c.intermediate_size = 14;
  c.num_attention_heads = 3;
  c.num_hidden_layers = 2;
  c.vocab_size = 20;
  c.max_position_embeddings = 9;
  c.type_vocab_size = 3;
  return c;
}

}  // namespace duet::models
