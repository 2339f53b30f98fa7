#include "duet/core/json.h"

#include "duet/models/dual_encoder.h"
#include "duet/models/multimodal.h"
#include "duet/tests/fuzz/fuzz.h"

// config.json of every kind of model. What is accepted must survive being written and read again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace duet;
  Json json;
  try {
    json = parse_json(fuzz::as_text(data, size), "config.json");
  } catch (const Error&) {
    return 0;
  }
  const auto read = [&]<class Config>() {
    fuzz::allow_errors([&] {
      const Json written = Config::from_json(json).to_json();
      fuzz::require(Config::from_json(written).to_json() == written, "a config reads back as it was written");
    });
  };
  read.operator()<models::BertConfig>();
  read.operator()<models::VitConfig>();
  read.operator()<models::DualEncoderConfig>();
  read.operator()<models::ClassifierConfig>();
  return 0;
}
