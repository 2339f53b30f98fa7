#include <array>

#include "duet/train/tokenizer.h"

namespace duet::train {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  size_t read = text.find(from);
  if (read == text.npos) return;
  std::string out;
  size_t done = 0;
  for (; read != text.npos; read = text.find(from, done)) {
    out.append(text, done, read - done).append(to);
    done = read + from.size();
  }
  text = out.append(text, done);
}

// In this order. " do not" is replaced by the fast tokenizer's decoder alone.
void clean_up(std::string& text, bool do_not) {
  using Rule = std::array<std::string_view, 2>;
  for (const auto& [from, to] : {Rule{" .", "."},
                                 {" ?", "?"},
                                 {" !", "!"},
                                 {" ,", ","},
                                 {" ' ", "'"},
                                 {" n't", "n't"},
                                 {" 'm", "'m"},
                                 {" do not", " don't"},
                                 {" 's", "'s"},
                                 {" 've", "'ve"},
                                 {" 're", "'re"}})
    if (do_not || from != " do not") replace_all(text, from, to);
}

}  // namespace

std::string Tokenizer::decode(std::span<const int32_t> ids, bool keep_special, Cleanup cleanup) const {
  std::string out;
  bool first = true;
  for (const int32_t i : ids) {
    std::string piece = token(i);
    if (!keep_special && is_special(i)) continue;
    if (!first && piece.starts_with(options_.decoder_prefix))
      piece.erase(0, options_.decoder_prefix.size());
    else if (!first)
      piece.insert(0, 1, ' ');
    first = false;
    if (cleanup == Cleanup::tokens) clean_up(piece, true);
    out += piece;
  }
  if (cleanup == Cleanup::text) clean_up(out, false);
  return out;
}

}  // namespace duet::train
