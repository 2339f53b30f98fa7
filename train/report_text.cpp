#include "duet/train/report_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "duet/core/error.h"
#include "duet/train/unicode.h"

namespace duet::train {
namespace {

std::string fixed(double value, int digits) {
  char buffer[400];
  std::snprintf(buffer, sizeof buffer, "%.*f", digits, value);
  // "-0.0" would make a reader look for a difference that is not there.
  const std::string_view s = buffer;
  return std::string(s.starts_with('-') && s.find_first_of("123456789") == s.npos ? s.substr(1) : s);
}

std::string group(std::string digits) {
  const size_t start = digits.starts_with('-') ? 1 : 0;
  for (size_t i = digits.size(); i > start + 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

struct Range {
  char32_t first, last;
};

// East Asian Wide and Fullwidth blocks and the emoji blocks; close enough for aligning columns.
constexpr Range wide[] = {{0x1100, 0x115F},  {0x2E80, 0x303E},   {0x3041, 0xA4CF},   {0xA960, 0xA97F},
                          {0xAC00, 0xD7A3},  {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},
                          {0xFFE0, 0xFFE6},  {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF},
                          {0x20000, 0x3FFFD}};

size_t columns(char32_t c) {
  if (c < 0x300) return unicode::is_control(c) ? 0 : 1;
  if (unicode::is_nonspacing_mark(c) || unicode::is_control(c)) return 0;
  for (const Range& r : wide)
    if (c >= r.first && c <= r.last) return 2;
  return 1;
}

}  // namespace

const Json& child(const Json& object, const std::string& key) {
  static const Json none;
  const auto it = object.find(key);
  return it == object.end() ? none : *it;
}

std::optional<double> finite_number(const Json& object, const std::string& key) {
  const double value = json_get<double>(object, key, NAN);
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

std::string percent(double ratio, int digits) {
  return fixed(100 * ratio, digits);
}

std::string points(double difference) {
  const std::string s = fixed(100 * difference, 1);
  return s.starts_with('-') || s == "0.0" ? s : "+" + s;
}

std::string thousands(int64_t n) {
  return group(std::to_string(n));
}

std::string significant(double value) {
  if (value == 0 || !std::isfinite(value)) return fixed(value, 0);
  int magnitude = static_cast<int>(std::floor(std::log10(std::fabs(value))));
  // Rounding may carry into the next power of ten: 9.996 has no more decimals than 10.0.
  if (std::fabs(value) >= std::pow(10.0, magnitude + 1) - 0.5 * std::pow(10.0, magnitude - 2)) ++magnitude;
  if (magnitude >= 2) return group(fixed(value, 0));
  return fixed(value, std::min(2 - magnitude, 12));
}

std::string duration(double seconds) {
  if (seconds < 9.95) return fixed(seconds, 1) + " s";
  const int64_t s = std::llround(seconds);
  if (s < 60) return text(s, " s");
  char buffer[64];
  if (s < 3600) {
    std::snprintf(buffer, sizeof buffer, "%d min %02d s", static_cast<int>(s / 60), static_cast<int>(s % 60));
    return buffer;
  }
  const int64_t minutes = std::llround(seconds / 60);
  std::snprintf(buffer, sizeof buffer, "%02d min", static_cast<int>(minutes % 60));
  return thousands(minutes / 60) + " h " + buffer;
}

std::string byte_size(double bytes) {
  if (bytes < 999.5e6) return significant(bytes / 1e6) + " MB";
  return significant(bytes / 1e9) + " GB";
}

Unit flop_unit(double largest) {
  if (largest < 1e12) return {1e9, "GFLOP"};
  if (largest < 1e15) return {1e12, "TFLOP"};
  return largest < 1e18 ? Unit{1e15, "PFLOP"} : Unit{1e18, "EFLOP"};
}

size_t display_width(std::string_view utf8) {
  size_t width = 0;
  while (!utf8.empty()) width += columns(unicode::take_code_point(utf8));
  return width;
}

std::string pad_left(const std::string& utf8, size_t width) {
  const size_t used = display_width(utf8);
  return std::string(used < width ? width - used : 0, ' ') + utf8;
}

std::string pad_right(const std::string& utf8, size_t width) {
  const size_t used = display_width(utf8);
  return utf8 + std::string(used < width ? width - used : 0, ' ');
}

std::string shorten(std::string_view utf8, size_t width) {
  std::u32string clean = unicode::decode_utf8(utf8);
  size_t total = 0;
  for (char32_t& c : clean) {
    if (unicode::is_control(c)) c = ' ';
    total += columns(c);
  }
  std::string out;
  size_t used = 0;
  for (const char32_t c : clean) {
    used += columns(c);
    if (total > width && used > width - 1) return out + "\u2026";
    unicode::append_utf8(out, c);
  }
  return out;
}

std::string wrap(std::string_view utf8, size_t width) {
  std::string out;
  size_t used = 0;
  while (!utf8.empty()) {
    const size_t space = std::min(utf8.find(' '), utf8.size());
    const std::string_view word = utf8.substr(0, space);
    const size_t needed = display_width(word);
    if (used > 0 && used + 1 + needed > width) {
      out += '\n';
      used = 0;
    } else if (used > 0) {
      out += ' ';
      ++used;
    }
    out += word;
    used += needed;
    utf8.remove_prefix(std::min(space + 1, utf8.size()));
  }
  return out;
}

std::string escape_html(std::string_view utf8) {
  std::string out;
  while (!utf8.empty()) {
    const char32_t c = unicode::take_code_point(utf8);
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        // Line breaks and tabs are text; the other controls are not allowed in HTML.
        unicode::append_utf8(
            out, c == '\n' || c == '\t' || c >= 0xA0 || (c >= 0x20 && c < 0x7F) ? c : unicode::replacement_character);
    }
  }
  return out;
}

MethodWords method_words(const std::string& method) {
  static const std::map<std::string, MethodWords> known{
      {"whole", {"whole", "encoders pretrained together on pairs"}},
      {"component", {"component", "encoders pretrained separately"}},
      {"image-only", {"image only", "no text, no pretraining"}},
      {"text-only", {"text only", "no image, no pretraining"}},
      {"concat-scratch", {"concat from scratch", "both encoders, no pretraining"}}};
  const auto it = known.find(method);
  return it == known.end() ? MethodWords{method, ""} : it->second;
}

}  // namespace duet::train
