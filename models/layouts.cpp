#include "duet/models/layouts.h"

#include <array>
#include <cstring>

#include "duet/models/position_embedding.h"

namespace duet::models {
namespace {

using Renaming = std::pair<const char*, const char*>;

// A key that begins with `from` gets `to` in its place; the first that matches wins.
template <size_t n>
bool rename_start(std::string& key, const std::array<Renaming, n>& table) {
  for (const auto& [from, to] : table)
    if (key.starts_with(from)) {
      key.replace(0, std::strlen(from), to);
      return true;
    }
  return false;
}

constexpr std::array torchvision_stems{Renaming{"class_token", "vision_model.embeddings.cls_token"},
                                       Renaming{"encoder.pos_embedding", "vision_model.embeddings.position_embeddings"},
                                       Renaming{"conv_proj.", "vision_model.embeddings.patch_embeddings.projection."},
                                       Renaming{"encoder.ln.", "vision_model.layernorm."},
                                       Renaming{"heads.pre_logits.", "vision_model.pooler.dense."},
                                       Renaming{"heads.head.", "classifier."}};
constexpr std::array torchvision_layer{Renaming{"ln_1.", "layernorm_before."},
                                       Renaming{"ln_2.", "layernorm_after."},
                                       Renaming{"self_attention.in_proj_", "attention.qkv."},
                                       Renaming{"self_attention.out_proj.", "attention.output.dense."},
                                       Renaming{"mlp.0.", "intermediate.dense."},
                                       Renaming{"mlp.linear_1.", "intermediate.dense."},
                                       Renaming{"mlp.3.", "output.dense."},
                                       Renaming{"mlp.linear_2.", "output.dense."}};
constexpr std::array timm_stems{Renaming{"cls_token", "vision_model.embeddings.cls_token"},
                                Renaming{"pos_embed", "vision_model.embeddings.position_embeddings"},
                                Renaming{"patch_embed.proj.", "vision_model.embeddings.patch_embeddings.projection."},
                                Renaming{"norm.", "vision_model.layernorm."},
                                Renaming{"pre_logits.fc.", "vision_model.pooler.dense."},
                                Renaming{"head.", "classifier."}};
constexpr std::array timm_layer{Renaming{"norm1.", "layernorm_before."}, Renaming{"norm2.", "layernorm_after."},
                                Renaming{"attn.qkv.", "attention.qkv."},
                                Renaming{"attn.proj.", "attention.output.dense."},
                                Renaming{"mlp.fc1.", "intermediate.dense."}, Renaming{"mlp.fc2.", "output.dense."},
                                // Folded into the layer before it, see hub.cpp.
                                Renaming{"ls1.gamma", "attention.output.scale"}, Renaming{"ls2.gamma", "output.scale"}};

// Keys PREFIX i . REST name parts of layer i.
template <size_t stems, size_t parts>
std::string foreign_name(std::string key, const char* layers, const std::array<Renaming, stems>& stem_table,
                         const std::array<Renaming, parts>& layer_table) {
  if (!key.starts_with(layers)) {
    rename_start(key, stem_table);
    return key;
  }
  const size_t number = std::strlen(layers), dot = key.find('.', number);
  if (dot == std::string::npos) return key;
  std::string rest = key.substr(dot + 1);
  if (!rename_start(rest, layer_table)) return key;
  return "vision_model.encoder.layer." + key.substr(number, dot - number) + "." + rest;
}

// Transformers 5 renamed the parts of ViT layers; its files normally keep the old names, but need not.
std::string legacy_vit_key(std::string key) {
  for (const auto& [from, to] : {std::pair("vision_model.layers.", "vision_model.encoder.layer."),
                                 {".attention.q_proj.", ".attention.attention.query."},
                                 {".attention.k_proj.", ".attention.attention.key."},
                                 {".attention.v_proj.", ".attention.attention.value."},
                                 {".attention.o_proj.", ".attention.output.dense."},
                                 {".mlp.fc1.", ".intermediate.dense."},
                                 {".mlp.fc2.", ".output.dense."}})
    if (const size_t at = key.find(from); at != std::string::npos) key.replace(at, std::strlen(from), to);
  return key;
}

// Older files call the norm parameters gamma and beta; wrappers add "bert." or "vit."; dual encoders and our own
// classifier add "text_model." or "vision_model.". All are reduced to one form, with the part in front.
std::string hugging_face_name(std::string key, const std::string& type) {
  const auto replace_end = [&](const std::string& from, const std::string& to) {
    if (key.ends_with(from)) key = key.substr(0, key.size() - from.size()) + to;
  };
  replace_end("LayerNorm.gamma", "LayerNorm.weight");
  replace_end("LayerNorm.beta", "LayerNorm.bias");
  if (type == "bert" || type == "vit") {
    const std::string part = type == "bert" ? "text_model." : "vision_model.", wrapper = type + ".";
    const bool head = key.starts_with("classifier.") || key.starts_with("cls.");
    if (key.starts_with(wrapper))
      key = part + key.substr(wrapper.size());
    else if (!head)
      key = part + key;
  }
  return key.starts_with("vision_model.layers.") ? legacy_vit_key(key) : key;
}

int64_t count_layers(const Weights& weights, const std::string& prefix, const std::string& suffix) {
  int64_t layers = 0;
  while (weights.contains(prefix + std::to_string(layers) + suffix)) ++layers;
  return layers;
}

void check_variant(const Weights& weights, const std::string& directory) {
  for (const std::string& name : weights.names())
    for (const char* part : {"fc_norm.", "reg_token", "dist_token", "head_dist.", "norm_pre.", "attn_pool.", ".q_norm.",
                             ".k_norm.", "rope."})
      check(name.find(part) == std::string::npos, "model", directory, ": tensor ", name,
            " belongs to a variant of ViT that is not supported");
}

}  // namespace

Layout layout_of(const Weights& weights) {
  if (weights.contains("conv_proj.weight") && weights.contains("encoder.pos_embedding")) return Layout::torchvision;
  if (weights.contains("patch_embed.proj.weight") && weights.contains("pos_embed")) return Layout::timm;
  return Layout::hugging_face;
}

std::string parameter_name(const std::string& key, Layout layout, const std::string& type) {
  if (layout == Layout::torchvision)
    return foreign_name(key, "encoder.layers.encoder_layer_", torchvision_stems, torchvision_layer);
  if (layout == Layout::timm) return foreign_name(key, "blocks.", timm_stems, timm_layer);
  return hugging_face_name(key, type);
}

std::vector<std::string> unpack(const std::string& parameter) {
  const std::string packed = ".attention.qkv.";
  const size_t at = parameter.find(packed);
  if (at == std::string::npos) return {parameter};
  const char* middle = parameter.starts_with("vision_model.") ? "attention" : "self";
  std::vector<std::string> names;
  for (const char* part : {"query", "key", "value"})
    names.push_back(parameter.substr(0, at) + ".attention." + middle + "." + part + "." +
                    parameter.substr(at + packed.size()));
  return names;
}

Json foreign_config(const Weights& weights, Layout layout, const Json& given, const std::string& directory) {
  check_variant(weights, directory);
  const auto pool = json_get<std::string>(given, "global_pool", "token");
  const auto architecture = json_get<std::string>(given, "architecture", "");
  check(pool == "token", "model", directory, ": global_pool \"", pool, "\" is not supported, \"token\" is");
  check(architecture.find("quickgelu") == std::string::npos, "model", directory, ": ", architecture,
        " uses quick_gelu, which is not supported");
  const bool timm = layout == Layout::timm;
  const std::string patches = timm ? "patch_embed.proj.weight" : "conv_proj.weight";
  const std::string positions = timm ? "pos_embed" : "encoder.pos_embedding";
  const std::string layers = timm ? "blocks." : "encoder.layers.encoder_layer_";
  const auto shape_of = [&](const std::string& name, int rank) {
    const Shape shape = weights.shape(name);
    check(shape.rank() == rank, "model", directory, ": ", name, " is ", shape, ", expected are ", rank, " dimensions");
    return shape;
  };
  const auto kernel = shape_of(patches, 4), table = shape_of(positions, 3);
  const std::string first = layers + "0." +
                            (timm                                          ? "mlp.fc1"
                             : weights.contains(layers + "0.mlp.0.weight") ? "mlp.0"
                                                                           : "mlp.linear_1");
  const int64_t width = kernel[0];
  const int64_t side = grid_side(table[1]);
  check(side > 0, "model", directory, ": ", positions, " of ", table[1],
        " positions is no square grid and a class token");
  Json config = given;
  const auto set = [&](const char* key, const Json& value) {
    if (!config.contains(key)) config[key] = value;
  };
  set("model_type", "vit");
  set("hidden_size", width);
  set("num_hidden_layers", count_layers(weights, layers, timm ? ".norm1.weight" : ".ln_1.weight"));
  const bool wide = width == 1280 || width == 1408 || width == 1664;
  check(config.contains("num_attention_heads") || wide || (width < 1280 && width % 64 == 0), "model", directory,
        ": width ", width, " does not tell the number of attention heads; add config.json with num_attention_heads");
  set("num_attention_heads", wide ? 16 : width / 64);
  set("intermediate_size", shape_of(first + ".weight", 2)[0]);
  set("num_channels", kernel[1]);
  set("patch_size", kernel[2]);
  set("image_size", side * kernel[2]);
  set("layer_norm_eps", 1e-6);
  set("qkv_bias", !timm || weights.contains("blocks.0.attn.qkv.bias"));
  const std::string head = timm ? "head.weight" : "heads.head.weight";
  set("architectures", {weights.contains(head) ? "ViTForImageClassification" : "ViTModel"});
  if (weights.contains(head) && !config.contains("id2label")) {
    Json labels = Json::object();
    for (int64_t i = 0; i < shape_of(head, 2)[0]; ++i)
      append_key(labels, std::to_string(i), "LABEL_" + std::to_string(i));
    config["id2label"] = labels;
  }
  return config;
}

}  // namespace duet::models
