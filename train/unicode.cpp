#include "duet/train/unicode.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "duet/train/unicode_tables.h"

namespace duet::train::unicode {
namespace {

constexpr uint32_t code_space = 0x110000;
enum : uint16_t {
  mark = 1,
  punct = 2,
  control = 4,
  space = 8,
  combines = 16,
  lowers = 32,
  decomposes = 64,
  absent = 128,
  word = 256
};

// The properties of every code point as a bit set, because searching the ranges for each character of a non-English
// text would dominate tokenisation. 2.2 MB, made from the ranges on first use; ASCII text never comes here.
const std::vector<uint16_t>& properties() {
  static const std::vector<uint16_t> all = [] {
    std::vector<uint16_t> flags(code_space);
    const auto set = [&](const auto& ranges, uint16_t flag) {
      for (const auto& r : ranges)
        for (uint32_t c = r.first; c <= r.last; ++c) flags[c] |= flag;
    };
    set(unassigned, absent);
    set(word_characters, word);
    set(nonspacing_marks, mark);
    set(punctuation, punct);
    set(controls, control);
    set(white_space, space);
    set(combining_classes, combines);
    for (const LowercaseRange& r : lowercase_ranges)
      for (uint32_t c = r.first; c <= r.last; c += r.step) flags[c] |= lowers;
    flags[0x130] |= lowers;
    for (const Decomposition& d : decompositions) flags[d.code] |= decomposes;
    return flags;
  }();
  return all;
}

bool has(char32_t c, uint16_t flag) {
  return c < code_space && (properties()[c] & flag);
}

// The last row whose range starts at or before c; the caller knows that there is one.
template <class Ranges>
const auto& row_of(const Ranges& ranges, char32_t c) {
  return *std::prev(
      std::upper_bound(ranges.begin(), ranges.end(), c, [](char32_t x, const auto& r) { return x < r.first; }));
}

// For tables that are asked too rarely for a bit of their own.
bool is_in(std::span<const CodeRange> ranges, char32_t c) {
  const auto at = std::upper_bound(ranges.begin(), ranges.end(), c,
                                   [](char32_t x, const CodeRange& range) { return x < range.first; });
  return at != ranges.begin() && c <= std::prev(at)->last;
}

// Hangul syllables are laid out by (leading consonant, vowel, optional trailing consonant): Unicode Standard, 3.12.
constexpr char32_t hangul_first = 0xAC00, hangul_last = 0xD7A3;
constexpr char32_t leading_first = 0x1100, vowel_first = 0x1161, trailing_before = 0x11A7;
constexpr uint32_t leadings = 19, vowels = 21, trailings = 28;

bool by_parts(const Decomposition& a, const Decomposition& b) {
  return std::tie(a.first, a.second) < std::tie(b.first, b.second);
}

void append_decomposition(std::u32string& out, char32_t c) {
  if (c >= hangul_first && c <= hangul_last) {
    const uint32_t index = c - hangul_first, trailing = index % trailings;
    out += leading_first + index / (vowels * trailings);
    out += vowel_first + index / trailings % vowels;
    if (trailing) out += trailing_before + trailing;
  } else if (has(c, decomposes)) {
    const auto d = std::lower_bound(decompositions.begin(), decompositions.end(), c,
                                    [](const Decomposition& row, char32_t x) { return row.code < x; });
    append_decomposition(out, d->first);
    if (d->second) append_decomposition(out, d->second);
  } else {
    out += c;
  }
}

template <class Visit>
void for_each_run_of_marks(const std::u32string& text, Visit visit) {
  for (size_t begin = 0; begin < text.size(); ++begin) {
    if (!has(text[begin], combines)) continue;
    size_t end = begin + 1;
    while (end < text.size() && has(text[end], combines)) ++end;
    visit(begin, end);
    begin = end;
  }
}

// The character that `first` and `second` become together under NFC, or 0.
char32_t composite(char32_t first, char32_t second) {
  if (first >= leading_first && first < leading_first + leadings && second >= vowel_first &&
      second < vowel_first + vowels)
    return hangul_first + ((first - leading_first) * vowels + (second - vowel_first)) * trailings;
  if (first >= hangul_first && first <= hangul_last && (first - hangul_first) % trailings == 0 &&
      second > trailing_before && second < trailing_before + trailings)
    return first + (second - trailing_before);
  static const std::vector<Decomposition> pairs = [] {
    std::vector<Decomposition> rows;
    for (const Decomposition& d : decompositions)
      if (d.second && !std::binary_search(composition_exclusions.begin(), composition_exclusions.end(), d.code))
        rows.push_back(d);
    std::sort(rows.begin(), rows.end(), by_parts);
    return rows;
  }();
  const Decomposition wanted{0, first, second};
  const auto at = std::lower_bound(pairs.begin(), pairs.end(), wanted, by_parts);
  return at != pairs.end() && !by_parts(wanted, *at) ? at->code : 0;
}

}  // namespace

bool is_nonspacing_mark(char32_t c) {
  return has(c, mark);
}

bool is_punctuation(char32_t c) {
  return has(c, punct);
}

bool is_control(char32_t c) {
  return has(c, control);
}

bool is_white_space(char32_t c) {
  return has(c, space);
}

bool is_unassigned(char32_t c) {
  return c >= code_space || has(c, absent);
}

bool is_newer_than_8(char32_t c) {
  return is_in(newer_than_8, c);
}

bool is_newer_than_9(char32_t c) {
  return is_in(newer_than_9, c);
}

bool is_word(char32_t c) {
  return has(c, word);
}

int combining_class(char32_t c) {
  return has(c, combines) ? static_cast<int>(row_of(combining_classes, c).combining_class) : 0;
}

char32_t to_lower(char32_t c) {
  if (!has(c, lowers)) return c;
  if (c == 0x130) return U'i';
  const LowercaseRange& r = row_of(lowercase_ranges, c);
  return r.target + (c - r.first);
}

void append_lowercase(std::u32string& out, char32_t c) {
  out += to_lower(c);
  if (c == 0x130) out += char32_t{0x307};
}

std::u32string nfd(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size() + text.size() / 2);
  for (const char32_t c : text) append_decomposition(out, c);
  // Each run of characters with a non-zero class is sorted by class, equal classes keeping their order.
  for_each_run_of_marks(out, [&](size_t begin, size_t end) {
    std::stable_sort(out.begin() + static_cast<ptrdiff_t>(begin), out.begin() + static_cast<ptrdiff_t>(end),
                     [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
  });
  return out;
}

std::u32string nfd(std::u32string_view text, std::vector<uint32_t>& source) {
  std::u32string out;
  std::vector<uint8_t> first;  // whether a character is the first that its original became
  for (const char32_t c : text) {
    const size_t before = out.size();
    append_decomposition(out, c);
    first.resize(out.size());
    first[before] = 1;
  }
  for_each_run_of_marks(out, [&](size_t begin, size_t end) {
    std::vector<std::pair<char32_t, uint8_t>> run;
    for (size_t i = begin; i < end; ++i) run.emplace_back(out[i], first[i]);
    std::stable_sort(run.begin(), run.end(),
                     [](const auto& a, const auto& b) { return combining_class(a.first) < combining_class(b.first); });
    for (size_t i = begin; i < end; ++i) std::tie(out[i], first[i]) = run[i - begin];
  });
  source.clear();
  uint32_t begun = 0;
  for (const uint8_t begins : first) {
    begun += begins;
    source.push_back(begun ? begun - 1 : 0);
  }
  return out;
}

std::u32string nfc(std::u32string_view text) {
  std::u32string out = nfd(text);
  // The last character with class 0, which takes in what follows it; nothing may stand between that has a class at
  // least as high (Unicode Standard, 3.11, D117). `written` only ever trails `read`.
  size_t starter = out.size(), written = 0;
  int last_class = 0;
  for (size_t read = 0; read < out.size(); ++read) {
    const char32_t c = out[read];
    const int own_class = combining_class(c);
    if (starter < written) {
      const bool blocked = written > starter + 1 && last_class >= own_class;
      if (const char32_t both = blocked ? 0 : composite(out[starter], c)) {
        out[starter] = both;
        continue;
      }
    }
    if (own_class == 0) starter = written;
    last_class = own_class;
    out[written++] = c;
  }
  out.resize(written);
  return out;
}

char32_t take_code_point(std::string_view& rest) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(rest[i]); };
  const unsigned char lead = byte(0);
  size_t length = 1;
  char32_t c = lead;
  // The second byte's range is narrower after some leads: that excludes overlong forms, surrogates and values past
  // U+10FFFF (Unicode Standard, table 3-7).
  unsigned char low = 0x80, high = 0xBF;
  if (lead >= 0x80) {
    if (lead >= 0xC2 && lead <= 0xDF)
      length = 2;
    else if (lead >= 0xE0 && lead <= 0xEF)
      length = 3;
    else if (lead >= 0xF0 && lead <= 0xF4)
      length = 4;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
    bool valid = length > 1 && rest.size() >= length && byte(1) >= low && byte(1) <= high;
    c = lead & (0xFFu >> (length + 1));
    for (size_t i = 1; valid && i < length; ++i) {
      valid = (byte(i) & 0xC0) == 0x80;
      c = c << 6 | (byte(i) & 0x3F);
    }
    if (!valid) {
      length = 1;
      c = replacement_character;
    }
  }
  rest.remove_prefix(length);
  return c;
}

char32_t code_point_before(std::string_view text, size_t end) {
  for (size_t length = 2; length <= std::min<size_t>(4, end); ++length) {
    std::string_view last = text.substr(end - length, length);
    const char32_t c = take_code_point(last);
    if (last.empty()) return c;
  }
  std::string_view last = text.substr(end - 1, 1);
  return take_code_point(last);
}

std::u32string decode_utf8(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  while (!text.empty()) out += take_code_point(text);
  return out;
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t before = text.size();
    // A literal U+FFFD takes three bytes, a bad byte one.
    if (take_code_point(text) == replacement_character && before - text.size() == 1) return false;
  }
  return true;
}

}  // namespace duet::train::unicode
