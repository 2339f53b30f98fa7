#include "duet/train/markup.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_map>

#include "duet/core/error.h"
#include "duet/train/html_entities.h"
#include "duet/train/unicode.h"

namespace duet::train {
namespace {

constexpr size_t longest_name = 32;  // characters after the ampersand that may belong to a name

// Name, with its semicolon if it has one, to the UTF-8 it stands for.
const std::unordered_map<std::string, std::string>& named_references() {
  static const auto all = [] {
    std::unordered_map<std::string, std::string> map;
    std::string_view rest = html_entities;
    while (!rest.empty()) {
      const std::string_view word = rest.substr(0, rest.find(' '));
      rest.remove_prefix(word.size() + 1);
      const size_t mark = word.find_first_of("!:");
      std::string value;
      for (const char* at = word.data() + mark; at != word.data() + word.size();) {
        uint32_t code = 0;
        at = std::from_chars(at + 1, word.data() + word.size(), code, 16).ptr;
        unicode::append_utf8(value, code);
      }
      const std::string name(word.substr(0, mark));
      if (word[mark] == '!') map.emplace(name, value);
      map.emplace(name + ";", std::move(value));
    }
    return map;
  }();
  return all;
}

// What Windows-1252 has at 0x80..0x9F; the five places it leaves empty stay what they are.
constexpr std::array<char16_t, 32> windows_1252 = {0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                                   0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8D,   0x017D, 0x8F,
                                                   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                                   0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};

bool is_no_character(char32_t c) {
  return (c >= 0x1 && c <= 0x8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || (c >= 0xFDD0 && c <= 0xFDEF) ||
         (c & 0xFFFE) == 0xFFFE;
}

void append_numbered(std::string& out, char32_t c) {
  if (c >= 0x80 && c <= 0x9F)
    unicode::append_utf8(out, windows_1252[c - 0x80]);
  else if (c == 0 || (c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF)
    unicode::append_utf8(out, unicode::replacement_character);
  else if (!is_no_character(c))
    unicode::append_utf8(out, c);
}

// Takes "#233;", "#xE9;" or either without semicolon off the front of `rest`; false, taking nothing, for anything else.
bool take_numbered(std::string_view& rest, std::string& out) {
  const bool hexadecimal = rest.size() > 1 && (rest[1] == 'x' || rest[1] == 'X');
  const size_t first = hexadecimal ? 2 : 1;
  const char* digits = hexadecimal ? "0123456789abcdefABCDEF" : "0123456789";
  const size_t end = std::min(rest.find_first_not_of(digits, first), rest.size());
  if (end <= first) return false;
  uint32_t code = 0;
  const auto parsed = std::from_chars(rest.data() + first, rest.data() + end, code, hexadecimal ? 16 : 10);
  append_numbered(out, parsed.ec == std::errc() ? char32_t{code} : char32_t{0xFFFFFFFF});
  rest.remove_prefix(end + (end < rest.size() && rest[end] == ';'));
  return true;
}

// The bytes of at most `longest_name` characters that may make up a name, and a semicolon.
size_t name_length(std::string_view rest) {
  size_t bytes = 0, characters = 0;
  while (bytes < rest.size() && std::string_view("\t\n\f <&#;").find(rest[bytes]) == std::string_view::npos) {
    const bool begins = (static_cast<unsigned char>(rest[bytes]) & 0xC0) != 0x80;
    if (begins && characters == longest_name) break;
    characters += begins;
    ++bytes;
  }
  if (bytes > 0 && bytes < rest.size() && rest[bytes] == ';') ++bytes;
  return bytes;
}

void take_named(std::string_view& rest, std::string& out) {
  const size_t length = name_length(rest);
  for (size_t n = length; n > 1; --n)
    if (const auto known = named_references().find(std::string(rest.substr(0, n))); known != named_references().end()) {
      out += known->second;
      out += rest.substr(n, length - n);
      rest.remove_prefix(length);
      return;
    }
  (out += '&') += rest.substr(0, length);
  rest.remove_prefix(length);
}

// How many bytes the sequence at the front has that could begin, or be, a well-formed one; at least 1.
size_t maximal_subpart(std::string_view rest) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(rest[i]); };
  const unsigned char lead = byte(0);
  const size_t length = lead >= 0xF0 && lead <= 0xF4 ? 4 : lead >= 0xE0 && lead < 0xF0 ? 3 : lead >= 0xC2 ? 2 : 1;
  if (lead > 0xF4) return 1;
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  size_t n = 1;
  while (n < length && n < rest.size() && byte(n) >= (n == 1 ? low : 0x80) && byte(n) <= (n == 1 ? high : 0xBF)) ++n;
  return n;
}

}  // namespace

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t length = maximal_subpart(bytes);
    if (const std::string_view part = bytes.substr(0, length); unicode::is_valid_utf8(part))
      out += part;
    else
      unicode::append_utf8(out, unicode::replacement_character);
    bytes.remove_prefix(length);
  }
  return out;
}

std::string html_unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (;;) {
    const size_t ampersand = std::min(text.find('&'), text.size());
    out += text.substr(0, ampersand);
    text.remove_prefix(ampersand);
    if (text.empty()) return out;
    text.remove_prefix(1);
    if (text.empty() || text[0] != '#')
      take_named(text, out);
    else if (!take_numbered(text, out))
      out += '&';
  }
}

std::string repair_utf8_read_as_latin1(std::string_view text) {
  std::string bytes;
  for (std::string_view rest = text; !rest.empty();) {
    const char32_t c = unicode::take_code_point(rest);
    if (c > 0xFF) return std::string(text);
    bytes += static_cast<char>(c);
  }
  return unicode::is_valid_utf8(bytes) ? bytes : std::string(text);
}

std::string fold_white_space(std::string_view text) {
  std::string out;
  bool gap = false;
  while (!text.empty()) {
    const char32_t c = unicode::take_code_point(text);
    if (unicode::is_white_space(c) || (c >= 0x1C && c <= 0x1F)) {
      gap = true;
      continue;
    }
    if (gap && !out.empty()) out += ' ';
    gap = false;
    unicode::append_utf8(out, c);
  }
  return out;
}

}  // namespace duet::train
