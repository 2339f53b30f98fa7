#include "duet/train/basic_tokenizer.h"

#include <algorithm>
#include <array>

#include "duet/train/unicode.h"

namespace duet::train {
namespace {

bool is_ascii_punctuation(char32_t c) {
  return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
}

bool splits(char32_t c) {
  return c < 128 ? is_ascii_punctuation(c) : unicode::is_punctuation(c);
}

// The CJK ideograph blocks of BERT; not Kana, Hangul or Thai. The reference's sixth block starts at 2B920, although
// Unicode's Extension E starts at 2B820: matching it gives the same tokens.
bool is_cjk(char32_t c) {
  static constexpr std::array<std::array<char32_t, 2>, 8> blocks{{{0x4E00, 0x9FFF},
                                                                  {0x3400, 0x4DBF},
                                                                  {0x20000, 0x2A6DF},
                                                                  {0x2A700, 0x2B73F},
                                                                  {0x2B740, 0x2B81F},
                                                                  {0x2B920, 0x2CEAF},
                                                                  {0xF900, 0xFAFF},
                                                                  {0x2F800, 0x2FA1F}}};
  return c >= 0x3400 && std::any_of(blocks.begin(), blocks.end(), [&](auto& b) { return c >= b[0] && c <= b[1]; });
}

// Collects words; a space is only ever written between two of them.
class WordWriter {
 public:
  explicit WordWriter(std::string& out) : out_(out) { out_.clear(); }

  void end_word() { in_word_ = false; }
  template <class Append>
  void put(bool alone, Append append) {
    if ((alone || !in_word_) && !out_.empty()) out_ += ' ';
    append(out_);
    in_word_ = !alone;
  }

 private:
  std::string& out_;
  bool in_word_ = false;
};

// What happens to each ASCII byte: 0 dropped, ' ' ends the word, else the byte to write, with the top bit set when it
// stands alone.
using AsciiTable = std::array<unsigned char, 128>;

constexpr AsciiTable ascii_table(bool lowercase) {
  AsciiTable table{};
  for (unsigned c = 0; c < 128; ++c) {
    const bool upper = c >= 'A' && c <= 'Z';
    const bool letter = upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (c == '\t' || c == '\n' || c == '\r' || c == ' ')
      table[c] = ' ';
    else if (c < 32 || c == 127)
      table[c] = 0;
    else if (!letter)
      table[c] = static_cast<unsigned char>(c | 0x80);
    else
      table[c] = static_cast<unsigned char>(upper && lowercase ? c + 32 : c);
  }
  return table;
}

constexpr AsciiTable cased_table = ascii_table(false), uncased_table = ascii_table(true);

void tokenize_ascii(std::string_view text, bool lowercase, WordWriter& words) {
  const AsciiTable& table = lowercase ? uncased_table : cased_table;
  for (const char c : text) {
    const unsigned char action = table[static_cast<unsigned char>(c)];
    if (action == ' ')
      words.end_word();
    else if (action)
      words.put(action & 0x80, [&](std::string& out) { out += static_cast<char>(action & 0x7F); });
  }
}

void tokenize_unicode(std::string_view text, const BasicTokenizerOptions& options, WordWriter& words) {
  std::u32string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    const char32_t c = unicode::take_code_point(text);
    const bool kept_control = c == '\t' || c == '\n' || c == '\r';
    if (c == 0 || c == unicode::replacement_character || (!kept_control && unicode::is_control(c))) continue;
    if (unicode::is_white_space(c)) {
      clean += U' ';
    } else if (options.tokenize_chinese_chars && is_cjk(c)) {
      clean += {U' ', c, U' '};
    } else {
      clean += c;
    }
  }
  if (options.strips_accents()) {
    clean = unicode::nfd(clean);
    std::erase_if(clean, unicode::is_nonspacing_mark);
  }
  if (options.lowercase) {
    std::u32string lower;
    lower.reserve(clean.size());
    for (const char32_t c : clean) unicode::append_lowercase(lower, c);
    clean = std::move(lower);
  }
  for (const char32_t c : clean) {
    if (c == U' ')
      words.end_word();
    else
      words.put(splits(c), [&](std::string& out) { unicode::append_utf8(out, c); });
  }
}

}  // namespace

void basic_tokenize(std::string_view text, const BasicTokenizerOptions& options, std::string& out) {
  WordWriter words(out);
  out.reserve(text.size() + text.size() / 2);
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<signed char>(c) >= 0; });
  if (ascii)
    tokenize_ascii(text, options.lowercase, words);
  else
    tokenize_unicode(text, options, words);
}

std::vector<std::string> basic_tokenize(std::string_view text, const BasicTokenizerOptions& options) {
  std::string joined;
  basic_tokenize(text, options, joined);
  std::vector<std::string> words;
  for_each_word(joined, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

bool is_own_word(char32_t c, const BasicTokenizerOptions& options) {
  return splits(c) || (options.tokenize_chinese_chars && is_cjk(c));
}

}  // namespace duet::train
