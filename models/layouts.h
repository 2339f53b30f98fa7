#pragma once

#include "duet/models/weights.h"

// Whose names a checkpoint's tensors have, and how they map to ours.
namespace duet::models {

enum class Layout { hugging_face, torchvision, timm };

// torchvision's and timm's vision transformers are told apart by their own names; all else counts as Hugging Face's.
Layout layout_of(const Weights& weights);

// The parameter that a tensor of the file is, whole or, in Hugging Face's layout, as the query, key or value of a
// packed one (X.attention.self.query.weight of X.attention.qkv.weight). Names of old and of new files, and prefixes
// ("bert.", "vit."), are reduced to one form; what is no parameter of ours comes back as it is. `type` is the config's
// model_type.
std::string parameter_name(const std::string& key, Layout layout, const std::string& type);

// The three Hugging Face names behind a packed parameter in the order of its rows, or the name itself.
std::vector<std::string> unpack(const std::string& parameter);

// Hugging Face's ViT config of a torchvision or timm checkpoint, from the shapes of its tensors; `given`, its own
// config.json or an empty object, takes precedence. The number of heads is no shape: 16 at widths 1280,
// 1408 and 1664 (huge, giant, gigantic), a head for 64 columns below, as in the ViT models that the two publish. Throws
// Error for variants with other parts (registers, norms of query and key, average pooling, distillation), naming the
// tensor.
Json foreign_config(const Weights& weights, Layout layout, const Json& given, const std::string& directory);

}  // namespace duet::models
