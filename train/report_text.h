#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "duet/core/json.h"

// Reading reports, and how numbers, names and foreign text are written in them.
namespace duet::train {

// `object[key]`, or null where there is none, so that a report with parts missing still makes a page.
const Json& child(const Json& object, const std::string& key);
// A finite number under `key`; JSON writes a number that is not finite as null.
std::optional<double> finite_number(const Json& object, const std::string& key);

std::string percent(double ratio, int digits = 1);  // 0.6123 -> "61.2"
std::string points(double difference);              // percentage points with their sign: 0.023 -> "+2.3"
std::string thousands(int64_t n);                   // 1234567 -> "1,234,567"
std::string significant(double value);              // three significant digits, no exponent: "0.0123", "12.3", "4,560"
std::string duration(double seconds);               // "0.8 s", "42 s", "12 min 05 s", "3 h 07 min"
std::string byte_size(double bytes);                // powers of 1000: "830 MB", "1.24 GB"

// A value in the unit that suits the largest one of a table column.
struct Unit {
  double size;
  const char* name;
};
Unit flop_unit(double largest);  // GFLOP, TFLOP, PFLOP or EFLOP

// Columns that UTF-8 text takes on a terminal: 2 for East Asian wide characters and emoji, 0 for combining marks.
size_t display_width(std::string_view utf8);
std::string pad_left(const std::string& utf8, size_t width);
std::string pad_right(const std::string& utf8, size_t width);
// At most `width` columns, the cut marked with an ellipsis. Control characters become spaces.
std::string shorten(std::string_view utf8, size_t width);
// Breaks at spaces, so that lines stay within `width` columns where the words allow it.
std::string wrap(std::string_view utf8, size_t width);

// For element content and quoted attributes. Bytes that are not UTF-8 and control characters become U+FFFD.
std::string escape_html(std::string_view utf8);

// The words for a method of `duet compare`; an unknown name stands for itself.
struct MethodWords {
  std::string name;         // "concat from scratch"
  std::string description;  // "both encoders, no pretraining"
};
MethodWords method_words(const std::string& method);

}  // namespace duet::train
