#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "duet/models/dual_encoder.h"
#include "duet/models/hub.h"
#include "duet/models/multimodal.h"
#include "duet/tests/golden/golden.h"
#include "duet/tests/train/expect.h"

namespace duet::golden {
namespace {

using namespace models;

// Creates the parameters of the fixture's model and returns the config that duet saves with it.
Json create_model(ParamStore& store, const Json& config) {
  const auto architecture = config.at("architectures").at(0).get<std::string>();
  if (architecture == "VisionTextDualEncoderModel")
    return DualEncoder({store, ""}, DualEncoderConfig::from_json(config)).config().to_json();
  if (architecture == "ViTModel")
    return Vit({store, "vision_model"}, VitConfig::from_json(config), true).config().to_json();
  if (architecture == "BertModel")
    return Bert({store, "text_model"}, BertConfig::from_json(config), true).config().to_json();
  if (architecture == "BertForMaskedLM") {
    const Bert bert({store, "text_model"}, BertConfig::from_json(config), false);
    MlmHead({store, "cls.predictions"}, bert);
    Json saved = bert.config().to_json();
    saved["architectures"] = {architecture};
    return saved;
  }
  return Classifier({store, ""}, ClassifierConfig::from_json(config)).config().to_json();
}

class Export : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Fixture, Export,
                         ::testing::Values("vit_model", "vit_classifier", "bert_model", "bert_classifier",
                                           "bert_masked_lm", "dual_encoder", "multimodal"),
                         [](const auto& parameter) { return std::string(parameter.param); });

// What duet saves holds the same tensors as what Transformers saved, to the bit. With DUET_EXPORT_DIR set the
// directories stay there for bench/parity/check_export.py, which loads them in Transformers.
TEST_P(Export, SavesWhatTransformersSaved) {
  const Fixture fixture(GetParam());
  ParamStore store(0);
  const Json config = create_model(store, fixture.config());
  load_weights(store, fixture);
  const train::TemporaryDirectory temporary;
  const char* kept = std::getenv("DUET_EXPORT_DIR");
  const std::string directory = (kept ? std::string(kept) : temporary.path()) + "/" + GetParam();
  save_model_directory(directory, store, config);

  const SafetensorsFile theirs = SafetensorsFile::open(fixture.directory() + "/model.safetensors");
  const SafetensorsFile ours = SafetensorsFile::open(directory + "/model.safetensors");
  EXPECT_EQ(ours.names(), theirs.names());
  EXPECT_EQ(ours.metadata(), theirs.metadata());
  for (const std::string& name : theirs.names()) {
    const Tensor a = ours.load(name), b = theirs.load(name);
    ASSERT_EQ(text(a), text(b)) << name;
    EXPECT_EQ(std::memcmp(a.raw(), b.raw(), a.bytes()), 0) << name;
  }
  // Settings that both files have must agree.
  for (const auto& [key, value] : config.items()) {
    if (fixture.config().contains(key) && !fixture.config()[key].is_null() && !value.is_object()) {
      EXPECT_EQ(value, fixture.config()[key]) << key;
    }
  }
}

}  // namespace
}  // namespace duet::golden
