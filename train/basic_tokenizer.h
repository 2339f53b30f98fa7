#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace duet::train {

// Whose results to give. The fast (Rust) tokenizer is what Transformers uses for BERT; the older slow (Python) one
// differs for unassigned characters, which it drops as control characters, for the ideographs U+2B820..2B91F, which it
// sets apart, for accents that are kept, which it composes (NFC), and in which text of a pair keeps an odd place.
enum class Semantics { fast, slow };

// How BERT turns text into words before WordPiece. Cased models set lowercase = false.
struct BasicTokenizerOptions {
  bool lowercase = true;
  std::optional<bool> strip_accents;   // unset: as lowercase
  bool tokenize_chinese_chars = true;  // every CJK ideograph becomes a word
  bool clean_text = true;              // step 1 below
  Semantics semantics = Semantics::fast;

  bool strips_accents() const { return strip_accents.value_or(lowercase); }
};

// Words of `text` in order, as BertNormalizer and BertPreTokenizer of Hugging Face tokenizers 0.23 give them:
// 1. Drop U+0000, U+FFFD and every control, format or private-use character but \t \n \r; white space becomes a space.
//    So vertical tab or U+0085 join their neighbours. Invalid UTF-8 counts as U+FFFD, byte by byte, and is dropped.
// 2. Surround CJK ideographs with spaces.
// 3. Strip accents: NFD, then drop nonspacing marks. Spacing marks stay, Hangul stays in Jamo.
// 4. Lowercase each code point on its own.
// 5. Split at white space; each punctuation character (ASCII symbols included) is a word of its own.
std::vector<std::string> basic_tokenize(std::string_view text, const BasicTokenizerOptions& options = {});

// The same as one string with single spaces between the words; no allocation per word. `out` is replaced.
void basic_tokenize(std::string_view text, const BasicTokenizerOptions& options, std::string& out);

// Steps 1 to 4 alone. `source`, when given, receives for each character the index of the code point in `text` that it
// stands for; Semantics::slow has no such thing (Error).
std::u32string normalize(std::string_view text, const BasicTokenizerOptions& options,
                         std::vector<uint32_t>* source = nullptr);

// Step 5 alone: calls visit(begin, end) with the bounds of each word of a normalised text.
void split_words(std::u32string_view text, Semantics semantics,
                 const std::function<void(size_t begin, size_t end)>& visit);

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
