#include <algorithm>

#include "duet/tests/fuzz/fuzz.h"
#include "duet/train/tokenizer.h"

// A byte of options, vocab.txt, a zero byte, and a text to encode with it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace duet;
  if (size == 0) return 0;
  const unsigned choice = data[0];
  const std::string_view input = fuzz::as_text(data + 1, size - 1);
  const size_t zero = std::min(input.find('\0'), input.size());
  const std::string_view text = input.substr(std::min(zero + 1, input.size()));
  train::TokenizerOptions options;
  options.lowercase = choice & 1;
  options.tokenize_chinese_chars = choice & 2;
  if (choice & 4) options.strip_accents = (choice & 8) != 0;
  if (choice & 16) options.semantics = train::Semantics::slow;
  fuzz::allow_errors([&] {
    const auto tokenizer = train::Tokenizer::from_vocab_text(input.substr(0, zero), options);
    const std::vector<int32_t> ids = tokenizer.ids(text);
    for (const int32_t id : ids) fuzz::require(id >= 0 && id < tokenizer.size(), "ids are in the vocabulary");
    const train::Encoding pair = tokenizer.encode_pair(text, text, 3 + choice % 16);
    fuzz::require(pair.ids.size() <= 3 + choice % 16, "the longest length is kept");
    fuzz::require(pair.type_ids.size() == pair.ids.size(), "as many types as ids");
    (void)tokenizer.decode(ids);
  });
  return 0;
}
