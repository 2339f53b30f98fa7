#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// The character data and UTF-8 handling behind BERT's text normalisation. Code points are char32_t; values past
// U+10FFFF have no property. Data: Unicode Character Database, the version named in unicode_tables.cpp.
namespace duet::train::unicode {

inline constexpr char32_t replacement_character = 0xFFFD;

bool is_nonspacing_mark(char32_t c);  // general category Mn
bool is_punctuation(char32_t c);      // general category P*
bool is_control(char32_t c);          // general category Cc, Cf or Co; so also \t, \n and \r
bool is_white_space(char32_t c);      // the White_Space property
bool is_unassigned(char32_t c);       // general category Cn; also everything past U+10FFFF
bool is_word(char32_t c);             // \w of regular expressions: letters, marks, decimal digits, connectors, joiners
// Whether a nonspacing mark, punctuation or format character came after Unicode 8; false for all others.
bool is_newer_than_8(char32_t c);
// Whether a character that nfd looks at, a combining mark or one with a mapping, came after Unicode 9.
bool is_newer_than_9(char32_t c);
int combining_class(char32_t c);  // 0 for almost everything, 1..254 for characters that combine with the last

// The lowercase of one code point, regardless of its neighbours (a capital sigma is always U+03C3). The one character
// with a longer lowercase, U+0130, becomes U+0069 U+0307 through append_lowercase; to_lower gives its first half.
char32_t to_lower(char32_t c);
void append_lowercase(std::u32string& out, char32_t c);

// Canonical decomposition, NFD (Unicode Standard Annex 15): mappings applied in full, Hangul syllables taken apart by
// arithmetic, combining marks in canonical order.
std::u32string nfd(std::u32string_view text);
// The same and, for each resulting character, the index in `text` that it stands for. When marks change places, the
// indices do not: they only ever grow, as Hugging Face tokenizers counts them.
std::u32string nfd(std::u32string_view text, std::vector<uint32_t>& source);

// Canonical composition, NFC: nfd put together again as far as the standard allows.
std::u32string nfc(std::u32string_view text);

// Takes one code point off the front of `rest`, which must not be empty. A byte that is no part of well-formed UTF-8
// (truncated or overlong sequences, surrogates, values past U+10FFFF) is taken alone and gives U+FFFD.
char32_t take_code_point(std::string_view& rest);
// The code point that ends just before text[end], 0 < end <= text.size(), for text read from its front in this manner.
char32_t code_point_before(std::string_view text, size_t end);
std::u32string decode_utf8(std::string_view text);
void append_utf8(std::string& out, char32_t c);
bool is_valid_utf8(std::string_view text);

}  // namespace duet::train::unicode
