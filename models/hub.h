#pragma once

#include <functional>
#include <optional>
#include <string>

#include "duet/core/json.h"
#include "duet/models/param_store.h"
#include "duet/models/position_embedding.h"

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
  std::vector<std::string> unexpected;       // the files' keys that nothing of ours took
  struct Mismatch {
    std::string parameter, key;
    Shape found, wanted;
  };
  std::vector<Mismatch> mismatched;  // parameters whose tensor has another shape
};

// What a loader makes an Error; each step includes those before it. All else is only reported.
enum class Strictness {
  report,    // nothing: a mismatched parameter keeps its initial values, as a missing one does
  shapes,    // a tensor of the wrong shape
  complete,  // a missing parameter
  exact      // a key that nothing of ours takes (buffers apart)
};

struct LoadOptions {
  std::string prefix = "";  // only our parameters that begin with it, e.g. "vision_model"
  Strictness strictness = Strictness::shapes;
  // How position embeddings of a ViT for another image size are fitted; without it they are a mismatch.
  std::optional<Interpolation> positions = std::nullopt;
};

// Loads parameters from a model directory, straight from the mapped files into the store; those absent from the files
// keep their initial values. NaN and infinity are an Error. Accepts single encoders, headed classifiers,
// masked-language models, dual encoders and our own classifier, with the names of old files (gamma, beta, position_ids)
// and those that Transformers 5 uses for ViT layers in memory, in shards or not; for ViT also the layouts of
// torchvision and timm, whose LayerScale is folded into the linear layers before it.
LoadReport load_parameters(ParamStore& store, const std::string& directory, const LoadOptions& options = {});

// Loads an encoder with what belongs to it (a projection, say), of which only the pooler may be absent: classifiers of
// images and masked-language models have none. Returns whether it is there.
bool load_encoder(ParamStore& store, const std::string& directory);

// `path`, or `path`/model when only that holds weights: where a model is wanted, a run directory will do.
std::string find_model_directory(const std::string& path);

// DIR/config.json; for torchvision's and timm's layouts completed from the shapes of the tensors (see layouts.h).
// Throws Error with what to do when DIR is no model directory.
Json read_model_config(const std::string& directory);

// Calls f(); an Error of it gets the directory in front, for configs, whose own errors name the setting alone.
template <class F>
auto naming(const std::string& directory, F&& f) {
  try {
    return f();
  } catch (const Error& e) {
    fail("model", directory, ": ", e.what());
  }
}

// The config of one encoder of a model of any kind; null when it has no such encoder.
Json encoder_config(const Json& config, bool vision);

}  // namespace duet::models
