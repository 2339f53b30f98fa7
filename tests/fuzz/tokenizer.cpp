#include "duet/train/tokenizer.h"

#include "duet/tests/fuzz/fuzz.h"

namespace {

// What every encoding promises, whatever the tokenizer.
void check_encoding(const duet::train::Tokenizer& tokenizer, const duet::train::Encoding& e) {
  using duet::fuzz::require;
  require(e.type_ids.size() == e.ids.size(), "as many types as ids");
  for (const int32_t id : e.ids) require(id >= 0 && id < tokenizer.size(), "ids are in the vocabulary");
}

}  // namespace

// tokenizer.json, a zero byte, tokenizer_config.json, a zero byte, a text; the last two may be left out.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace duet;
  std::string_view input = fuzz::as_text(data, size);
  const auto take = [&] {
    const size_t end = std::min(input.find('\0'), input.size());
    const std::string_view part = input.substr(0, end);
    input.remove_prefix(std::min(end + 1, input.size()));
    return part;
  };
  const std::string_view pipeline = take(), config = take(), text = input;
  fuzz::allow_errors([&] {
    const train::Tokenizer tokenizer = train::Tokenizer::from_json(pipeline, config);
    fuzz::allow_errors([&] { check_encoding(tokenizer, tokenizer.encode_as_configured(text, text, true)); });
    fuzz::allow_errors([&] {
      const train::Encoding e = tokenizer.encode(text, 8);
      check_encoding(tokenizer, e);
      fuzz::require(e.ids.size() <= 8, "the longest length is kept");
      (void)tokenizer.decode(e.ids, true);
    });
  });
  return 0;
}
