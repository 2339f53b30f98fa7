#pragma once

#include <cstdint>
#include <span>

// The layout of the generated character tables. Read them through unicode.h. All are ascending and disjoint.
namespace duet::train::unicode {

struct CodeRange {
  uint32_t first, last;
};
struct ClassRange {
  uint32_t first, last, combining_class;
};
// first, first + step, ..., last map to target, target + step, ...
struct LowercaseRange {
  uint32_t first, last, step, target;
};
// One level of a canonical mapping; second is 0 when `code` maps to a single code point.
struct Decomposition {
  uint32_t code, first, second;
};

extern const std::span<const CodeRange> nonspacing_marks;  // general category Mn
extern const std::span<const CodeRange> punctuation;       // P*
extern const std::span<const CodeRange> controls;          // Cc, Cf, Co
extern const std::span<const CodeRange> white_space;       // the White_Space property
extern const std::span<const ClassRange> combining_classes;
extern const std::span<const LowercaseRange> lowercase_ranges;  // without U+0130, which becomes two code points
extern const std::span<const Decomposition> decompositions;     // without Hangul syllables, which are computed
extern const std::span<const uint32_t> composition_exclusions;  // mappings to two code points that NFC never undoes
extern const std::span<const CodeRange> unassigned;             // general category Cn
extern const std::span<const CodeRange> word_characters;        // \w of Unicode regular expressions
extern const std::span<const CodeRange> newer_than_8;           // Mn, P* and Cf that Unicode 8 did not have
// Characters of a combining class or with a canonical mapping that Unicode 9 did not have.
extern const std::span<const CodeRange> newer_than_9;

}  // namespace duet::train::unicode
