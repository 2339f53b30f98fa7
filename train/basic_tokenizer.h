#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace duet::train {

// How BERT turns text into words before WordPiece. Cased models set lowercase = false.
struct BasicTokenizerOptions {
  bool lowercase = true;
  std::optional<bool> strip_accents;   // unset: as lowercase
  bool tokenize_chinese_chars = true;  // every CJK ideograph becomes a word

  bool strips_accents() const { return strip_accents.value_or(lowercase); }
};

// Words of `text` in order, as BertNormalizer and BertPreTokenizer of Hugging Face tokenizers give them:
// 1. Drop U+0000, U+FFFD and every control, format or private-use character but \t \n \r; white space becomes a space.
//    So vertical tab or U+0085 join their neighbours. Invalid UTF-8 counts as U+FFFD, byte by byte, and is dropped.
// 2. Surround CJK ideographs with spaces.
// 3. Strip accents: NFD, then drop nonspacing marks. Spacing marks stay, Hangul stays in Jamo.
// 4. Lowercase each code point on its own.
// 5. Split at spaces; each punctuation character (ASCII symbols included) is a word of its own.
std::vector<std::string> basic_tokenize(std::string_view text, const BasicTokenizerOptions& options = {});

// The same as one string with single spaces between the words; no allocation per word. `out` is replaced.
void basic_tokenize(std::string_view text, const BasicTokenizerOptions& options, std::string& out);

// Calls visit(word) for each word of such a string.
template <class Visit>
void for_each_word(std::string_view words, Visit visit) {
  while (!words.empty()) {
    const size_t end = std::min(words.find(' '), words.size());
    visit(words.substr(0, end));
    words.remove_prefix(std::min(end + 1, words.size()));
  }
}

// True for characters that always stand alone: punctuation, ASCII symbols and, when the options say so, CJK.
bool is_own_word(char32_t c, const BasicTokenizerOptions& options);

}  // namespace duet::train
