#pragma once

#include <functional>
#include <string>

#include "duet/core/json.h"
#include "duet/models/param_store.h"

// Model directories in the Hugging Face layout: config.json, model.safetensors, vocab.txt, preprocessor_config.json.
namespace duet::models {

// Which Hugging Face key(s) a parameter of ours corresponds to. Query, key and value are one packed parameter here and
// three tensors there, in this order.
struct HubKey {
  std::vector<std::string> keys;  // one, or three for packed qkv
};

// The key(s) for a parameter path. Below vision_model and text_model the paths are those of ViTModel and BertModel but
// for attention.qkv. In files of type vit and bert these two prefixes become "vit." and "bert.", or nothing when the
// config's architecture is the bare encoder (ViTModel, BertModel, or none given).
HubKey hub_key(const std::string& parameter, const Json& config);

// Writes model.safetensors and config.json (and the tokenizer's and image processor's files through `extra`, which gets
// the directory). The directory appears at once, whole.
void save_model_directory(const std::string& directory, const ParamStore& store, const Json& config,
                          const std::function<void(const std::string&)>& extra = {});

struct LoadReport {
  std::vector<std::string> loaded, missing;  // our parameters
  std::vector<std::string> unexpected;       // the file's keys that nothing of ours took
};

// Loads parameters from a model directory by Hugging Face key. `prefix` selects our parameters, e.g. "vision_model";
// those absent from the file keep their initial values and are reported as missing. A wrong shape is an Error.
// Accepts single encoders, headed classifiers, masked-language models and dual encoders as sources, with the names of
// old files (gamma, beta, position_ids) and those that Transformers 5 uses for ViT layers in memory.
LoadReport load_parameters(ParamStore& store, const std::string& directory, const std::string& prefix = "");

// `path`, or `path`/model when only that holds weights: where a model is wanted, a run directory will do.
std::string find_model_directory(const std::string& path);

// Reads DIR/config.json; throws Error with what to do when DIR is no model directory.
Json read_model_config(const std::string& directory);

}  // namespace duet::models
