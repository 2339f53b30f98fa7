#pragma once

#include <optional>

#include "duet/models/dual_encoder.h"
#include "duet/models/multimodal.h"
#include "duet/models/onnx_graph.h"

// Models as ONNX graphs for inference, without dropout. Weights keep our names and values; names and types of inputs
// and outputs are those of Transformers' own exports, sizes "batch" and "sequence" may vary:
//   pixel_values (batch, C, H, W) float32; input_ids, attention_mask, token_type_ids (batch, sequence) int64
//   logits (batch, labels), last_hidden_state (batch, tokens, D), pooler_output (batch, D),
//   image_embeds and text_embeds (batch, projection), unit vectors; all float32
namespace duet::models {

enum class OnnxPart { classifier, vision, text };
std::string_view name_of(OnnxPart part);

// What an encoder's graph gives besides last_hidden_state.
struct OnnxHeads {
  bool pooler = false;
  bool projection = false;  // needs the pooler
};

// logits. The labels in their order are also in the file's metadata, as a JSON list under "labels".
OnnxGraph classifier_graph(ParamStore& store, const ClassifierConfig& config);
// An encoder whose parameters are under vision_model or text_model, and under visual_projection or text_projection.
OnnxGraph vision_graph(ParamStore& store, const VitConfig& config, const OnnxHeads& heads);
OnnxGraph text_graph(ParamStore& store, const BertConfig& config, const OnnxHeads& heads);

// What a model directory is exported as when nobody says: its classifier if its architecture is one that duet knows,
// else its only encoder. Throws Error for a dual encoder, which has two.
OnnxPart default_onnx_part(const std::string& directory);
// The graph of a model directory's part. Throws Error when it has no such part or lacks weights.
OnnxGraph export_onnx(const std::string& directory, OnnxPart part);

}  // namespace duet::models
