#include "duet/train/basic_tokenizer.h"

#include <algorithm>
#include <array>

#include "duet/core/error.h"
#include "duet/train/unicode.h"

namespace duet::train {
namespace {

bool is_ascii_punctuation(char32_t c) {
  return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
}

// The fast reference's categories are those of Unicode 8, which has other ideas of these six, too.
constexpr char32_t ogham_chi_rho = 0x166D, hanunoo_pamudpod = 0x1734, sharada_sandhi = 0x111C9;
bool became_mark(char32_t c) {
  return c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == sharada_sandhi;
}

bool splits(char32_t c, Semantics semantics) {
  if (c < 128) return is_ascii_punctuation(c);
  if (semantics == Semantics::slow) return unicode::is_punctuation(c);
  return (unicode::is_punctuation(c) && !unicode::is_newer_than_8(c)) || c == ogham_chi_rho || c == sharada_sandhi;
}

bool is_accent(char32_t c, Semantics semantics) {
  if (semantics == Semantics::slow) return unicode::is_nonspacing_mark(c);
  return (unicode::is_nonspacing_mark(c) && !unicode::is_newer_than_8(c) && !became_mark(c)) || c == hanunoo_pamudpod;
}

// The CJK ideograph blocks of BERT; not Kana, Hangul or Thai. The fast reference's sixth block starts at 2B920,
// although Unicode's Extension E starts at 2B820, as the slow one has it: matching each gives the same tokens.
bool is_cjk(char32_t c, Semantics semantics) {
  static constexpr std::array<std::array<char32_t, 2>, 8> blocks{{{0x4E00, 0x9FFF},
                                                                  {0x3400, 0x4DBF},
                                                                  {0x20000, 0x2A6DF},
                                                                  {0x2A700, 0x2B73F},
                                                                  {0x2B740, 0x2B81F},
                                                                  {0x2B920, 0x2CEAF},
                                                                  {0xF900, 0xFAFF},
                                                                  {0x2F800, 0x2FA1F}}};
  if (c >= 0x2B820 && c < 0x2B920) return semantics == Semantics::slow;
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

// Step 1 for one character: whether it goes.
bool is_dropped(char32_t c, Semantics semantics) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  if (c == 0 || c == unicode::replacement_character) return true;
  if (semantics == Semantics::slow) return unicode::is_control(c) || unicode::is_unassigned(c);
  return unicode::is_control(c) && !unicode::is_newer_than_8(c);
}

// Keeps the characters of `text`, and what belongs to them in `source`, that are not `dropped`.
template <class Dropped>
void drop(std::u32string& text, std::vector<uint32_t>* source, Dropped dropped) {
  size_t kept = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (dropped(text[i])) continue;
    text[kept] = text[i];
    if (source) (*source)[kept] = (*source)[i];
    ++kept;
  }
  text.resize(kept);
  if (source) source->resize(kept);
}

// NFD; `source` as in `normalize`. The fast reference's data are those of Unicode 9: a newer mark is a letter to it,
// which no mark moves past, and has no mapping.
void decompose(std::u32string& text, std::vector<uint32_t>* source, Semantics semantics) {
  std::u32string out;
  std::vector<uint32_t> out_source, inner;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && (semantics == Semantics::slow || !unicode::is_newer_than_9(text[i]))) continue;
    const std::u32string_view part(text.data() + begin, i - begin);
    if (source) {
      out += unicode::nfd(part, inner);
      for (const uint32_t at : inner) out_source.push_back((*source)[begin + at]);
    } else {
      out += unicode::nfd(part);
    }
    if (i < text.size()) {
      out += text[i];
      if (source) out_source.push_back((*source)[i]);
    }
    begin = i + 1;
  }
  text = std::move(out);
  if (source) *source = std::move(out_source);
}

void strip_accents(std::u32string& text, std::vector<uint32_t>* source, Semantics semantics) {
  decompose(text, source, semantics);
  drop(text, source, [&](char32_t c) { return is_accent(c, semantics); });
}

// The one character whose lowercase is longer: i and a dot above.
constexpr char32_t capital_i_with_dot = 0x130, dot_above = 0x307;

void lower(std::u32string& text, std::vector<uint32_t>* source) {
  if (text.find(capital_i_with_dot) == text.npos) {
    for (char32_t& c : text) c = unicode::to_lower(c);
    return;
  }
  std::u32string out;
  std::vector<uint32_t> out_source;
  for (size_t i = 0; i < text.size(); ++i) {
    unicode::append_lowercase(out, text[i]);
    if (source) out_source.resize(out.size(), (*source)[i]);
  }
  text = std::move(out);
  if (source) *source = std::move(out_source);
}

}  // namespace

std::u32string normalize(std::string_view text, const BasicTokenizerOptions& options, std::vector<uint32_t>* source) {
  const bool slow = options.semantics == Semantics::slow;
  check(!slow || !source, "tokenizer", "offsets are known only with the fast semantics; the slow tokenizer has none");
  std::u32string clean;
  clean.reserve(text.size());
  if (source) source->clear();
  uint32_t index = 0;
  const auto put = [&](char32_t c) {
    clean += c;
    if (source) source->push_back(index);
  };
  for (; !text.empty(); ++index) {
    char32_t c = unicode::take_code_point(text);
    // Transformers' slow tokenizer lowercases before everything else; only what NFC does below can tell.
    const bool expands = slow && options.lowercase && c == capital_i_with_dot;
    if (slow && options.lowercase) c = unicode::to_lower(c);
    if (options.clean_text && is_dropped(c, options.semantics)) continue;
    if (options.clean_text && unicode::is_white_space(c)) {
      put(U' ');
    } else if (options.tokenize_chinese_chars && is_cjk(c, options.semantics)) {
      for (const char32_t each : {char32_t{U' '}, c, char32_t{U' '}}) put(each);
    } else {
      put(c);
    }
    if (expands) put(dot_above);
  }
  if (options.strips_accents())
    strip_accents(clean, source, options.semantics);
  else if (slow)
    clean = unicode::nfc(clean);
  if (options.lowercase && !slow) lower(clean, source);
  return clean;
}

void split_words(std::u32string_view text, Semantics semantics,
                 const std::function<void(size_t begin, size_t end)>& visit) {
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    const bool alone = i < text.size() && splits(text[i], semantics);
    const bool ends = i == text.size() || unicode::is_white_space(text[i]) || alone;
    if (!ends) continue;
    if (begin < i) visit(begin, i);
    if (alone) visit(i, i + 1);
    begin = i + 1;
  }
}

void basic_tokenize(std::string_view text, const BasicTokenizerOptions& options, std::string& out) {
  WordWriter words(out);
  out.reserve(text.size() + text.size() / 2);
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<signed char>(c) >= 0; });
  // ASCII holds no accents, ideographs or unassigned characters, so the two semantics agree on it.
  if (ascii && options.clean_text) {
    tokenize_ascii(text, options.lowercase, words);
    return;
  }
  for (const char32_t c : normalize(text, options)) {
    if (unicode::is_white_space(c))
      words.end_word();
    else
      words.put(splits(c, options.semantics), [&](std::string& to) { unicode::append_utf8(to, c); });
  }
}

std::vector<std::string> basic_tokenize(std::string_view text, const BasicTokenizerOptions& options) {
  std::string joined;
  basic_tokenize(text, options, joined);
  std::vector<std::string> words;
  for_each_word(joined, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

bool is_own_word(char32_t c, const BasicTokenizerOptions& options) {
  return splits(c, options.semantics) || (options.tokenize_chinese_chars && is_cjk(c, options.semantics));
}

}  // namespace duet::train
