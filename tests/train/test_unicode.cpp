#include "duet/train/unicode.h"

#include <gtest/gtest.h>

#include "duet/train/unicode_tables.h"

namespace duet::train::unicode {
namespace {

TEST(Unicode, CategoriesOfKnownCharacters) {
  EXPECT_TRUE(is_nonspacing_mark(0x301));    // combining acute
  EXPECT_TRUE(is_nonspacing_mark(0x94D));    // Devanagari virama
  EXPECT_FALSE(is_nonspacing_mark(0x93F));   // Devanagari vowel sign i: Mc
  EXPECT_FALSE(is_nonspacing_mark(0x20DD));  // enclosing circle: Me
  EXPECT_FALSE(is_nonspacing_mark(U'e'));
  EXPECT_TRUE(is_nonspacing_mark(0xE0100));  // a variation selector, beyond the first plane

  for (const char32_t c : {0x00BF, 0x00B7, 0x2014, 0x201C, 0x2026, 0x2022, 0x3002, 0xFF0C, 0x0964})
    EXPECT_TRUE(is_punctuation(c)) << std::hex << static_cast<uint32_t>(c);
  for (const char32_t c : {0x20AC, 0x00D7, 0x2122, 0x1F600, 0x0041}) EXPECT_FALSE(is_punctuation(c));

  for (const char32_t c : {0x00, 0x09, 0x1F, 0x7F, 0x85, 0xAD, 0x200B, 0x200D, 0xFEFF, 0xE000, 0x10FFFD})
    EXPECT_TRUE(is_control(c)) << std::hex << static_cast<uint32_t>(c);
  for (const char32_t c : {0x20, 0xA0, 0x378, 0x2028, 0xFFFF}) EXPECT_FALSE(is_control(c));

  for (const char32_t c : {0x09, 0x0B, 0x20, 0x85, 0xA0, 0x1680, 0x2003, 0x2028, 0x202F, 0x3000})
    EXPECT_TRUE(is_white_space(c)) << std::hex << static_cast<uint32_t>(c);
  for (const char32_t c : {0x200B, 0x180E, 0xFEFF}) EXPECT_FALSE(is_white_space(c));

  EXPECT_EQ(combining_class(0x301), 230);
  EXPECT_EQ(combining_class(0x316), 220);
  EXPECT_EQ(combining_class(0x94D), 9);
  EXPECT_EQ(combining_class(U'a'), 0);
}

TEST(Unicode, NothingHasPropertiesPastTheLastCodePoint) {
  for (const char32_t c : {char32_t{0x110000}, char32_t{0xFFFFFFFF}}) {
    EXPECT_FALSE(is_nonspacing_mark(c) || is_punctuation(c) || is_control(c) || is_white_space(c));
    EXPECT_EQ(combining_class(c), 0);
    EXPECT_EQ(to_lower(c), c);
  }
}

TEST(Unicode, ComposesCanonically) {
  EXPECT_EQ(nfc(U"e\u0301"), U"\u00E9");
  EXPECT_EQ(nfc(U"a\u0301\u0323"), U"\u1EA1\u0301");  // marks are ordered first
  EXPECT_EQ(nfc(U"a\u0302\u0301"), U"\u1EA5");        // step by step
  EXPECT_EQ(nfc(U"a\u0315\u0300"), U"\u00E0\u0315");
  EXPECT_EQ(nfc(U"\u0958"), U"\u0915\u093C");  // excluded from composition
  EXPECT_EQ(nfc(U"\u212B"), U"\u00C5");        // a singleton
  EXPECT_EQ(nfc(U"\u1112\u1161\u11AB"), U"\uD55C");
  EXPECT_EQ(nfc(U"\uD558\u11AB\u11AB"), U"\uD55C\u11AB");
  EXPECT_EQ(nfc(U"\u0301e"), U"\u0301e");
  EXPECT_EQ(nfc(U""), U"");
}

TEST(Unicode, DecompositionKnowsItsSource) {
  std::vector<uint32_t> source;
  EXPECT_EQ(nfd(U"x\u1EA5\uAC01y", source), U"xa\u0302\u0301\u1100\u1161\u11A8y");
  EXPECT_EQ(source, (std::vector<uint32_t>{0, 1, 1, 1, 2, 2, 2, 3}));
}

TEST(Unicode, WordAndUnassignedCharacters) {
  for (const char32_t c : {U'a', U'_', U'7', char32_t{0x301}, char32_t{0x200D}, char32_t{0x24B6}, char32_t{0x4E00}})
    EXPECT_TRUE(is_word(c)) << std::hex << static_cast<uint32_t>(c);
  for (const char32_t c : {U'-', U' ', char32_t{0xB2}, char32_t{0x1F600}, char32_t{0x378}}) EXPECT_FALSE(is_word(c));
  EXPECT_TRUE(is_unassigned(0x378) && is_unassigned(0xFFFF) && is_unassigned(0x110000));
  EXPECT_FALSE(is_unassigned(U'a') || is_unassigned(0xE000) || is_unassigned(0xAC01));
}

TEST(Unicode, ReadsBackwards) {
  const std::string text = "a\u00E9\U0001F600\xFF\xC3";
  EXPECT_EQ(code_point_before(text, 1), U'a');
  EXPECT_EQ(code_point_before(text, 3), 0xE9u);
  EXPECT_EQ(code_point_before(text, 7), 0x1F600u);
  EXPECT_EQ(code_point_before(text, 8), replacement_character);
  EXPECT_EQ(code_point_before(text, 9), replacement_character);
}

TEST(Unicode, TablesAscendAndDoNotOverlap) {
  const auto ascends = [](const auto& ranges) {
    int64_t last = -1;
    for (const auto& r : ranges) {
      if (r.first > r.last || static_cast<int64_t>(r.first) <= last || r.last > 0x10FFFF) return false;
      last = r.last;
    }
    return !ranges.empty();
  };
  EXPECT_TRUE(ascends(nonspacing_marks));
  EXPECT_TRUE(ascends(punctuation));
  EXPECT_TRUE(ascends(controls));
  EXPECT_TRUE(ascends(white_space));
  EXPECT_TRUE(ascends(combining_classes));
  // Lowercase ranges with a step of 2 may hold every other code point of the same block, hence no overlap test.
  for (const LowercaseRange& r : lowercase_ranges) {
    EXPECT_GE(r.step, 1u);
    EXPECT_EQ((r.last - r.first) % r.step, 0u) << std::hex << r.first;
  }
  for (size_t i = 1; i < decompositions.size(); ++i) EXPECT_LT(decompositions[i - 1].code, decompositions[i].code);
}

TEST(Unicode, Lowercase) {
  EXPECT_EQ(to_lower(U'Z'), U'z');
  EXPECT_EQ(to_lower(U'1'), U'1');
  EXPECT_EQ(to_lower(0xC9), char32_t{0xE9});
  EXPECT_EQ(to_lower(0x3A3), char32_t{0x3C3});  // sigma, final or not
  EXPECT_EQ(to_lower(0x1E9E), char32_t{0xDF});  // capital sharp s
  EXPECT_EQ(to_lower(0x102), char32_t{0x103});  // blocks that alternate upper and lower
  EXPECT_EQ(to_lower(0x103), char32_t{0x103});
  EXPECT_EQ(to_lower(0x10A0), char32_t{0x2D00});    // Georgian
  EXPECT_EQ(to_lower(0x13A0), char32_t{0xAB70});    // Cherokee
  EXPECT_EQ(to_lower(0x212A), U'k');                // Kelvin sign
  EXPECT_EQ(to_lower(0x10400), char32_t{0x10428});  // Deseret
  std::u32string out;
  append_lowercase(out, 0x130);
  EXPECT_EQ(out, (std::u32string{U'i', 0x307}));
  // A lowercase letter stays: otherwise tokens would depend on how often a text was lowercased.
  for (char32_t c = 0; c < 0x110000; ++c)
    ASSERT_TRUE(c == 0x130 || to_lower(to_lower(c)) == to_lower(c)) << std::hex << static_cast<uint32_t>(c);
}

TEST(Unicode, CanonicalDecomposition) {
  EXPECT_EQ(nfd(U"caf\u00E9"), U"cafe\u0301");
  EXPECT_EQ(nfd(U"\u1E69"), U"s\u0323\u0307");         // two levels
  EXPECT_EQ(nfd(U"s\u0307\u0323"), U"s\u0323\u0307");  // marks are put in order of their class
  EXPECT_EQ(nfd(U"a\u0301\u0300"), U"a\u0301\u0300");  // of equal class: kept
  EXPECT_EQ(nfd(U"\u212B"), U"A\u030A");               // singleton Angstrom, then its letter
  EXPECT_EQ(nfd(U"\uAC00\uD55C\uD7A3"), U"\u1100\u1161\u1112\u1161\u11AB\u1112\u1175\u11C2");
  EXPECT_EQ(nfd(U"\uFB01\u2460\u00BD"), U"\uFB01\u2460\u00BD");  // compatibility mappings are not applied
  EXPECT_EQ(nfd(U"\U0001D15E"), U"\U0001D157\U0001D165");
  EXPECT_EQ(nfd(U"\U0002F800"), U"\u4E3D");
  // Two runs of marks are sorted separately.
  EXPECT_EQ(nfd(U"\u0301\u0316a\u0301\u0316"), U"\u0316\u0301a\u0316\u0301");
  EXPECT_EQ(nfd(U""), U"");
}

TEST(Unicode, Utf8RoundTripOfEveryCodePoint) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string bytes;
    append_utf8(bytes, c);
    std::string_view rest = bytes;
    ASSERT_EQ(take_code_point(rest), c);
    ASSERT_TRUE(rest.empty());
    ASSERT_TRUE(is_valid_utf8(bytes));
  }
}

TEST(Unicode, IllFormedBytesCountOneByOne) {
  struct Case {
    std::string bytes;
    std::u32string decoded;
  };
  const char32_t r = replacement_character;
  for (const Case& c : std::vector<Case>{
           {"\x80", {r}},
           {"a\xFFz", {U'a', r, U'z'}},
           {"\xC3", {r}},  // cut off
           {"\xC3(", {r, U'('}},
           {"\xC0\x80", {r, r}},         // overlong NUL
           {"\xE0\x9F\xBF", {r, r, r}},  // overlong
           {"\xED\xA0\x80", {r, r, r}},  // a surrogate
           {"\xE2\x82", {r, r}},         // the beginning of the euro sign
           {"\xE2\x82\xAC\xE2", {0x20AC, r}},
           {"\xF0\x8F\xBF\xBF", {r, r, r, r}},  // overlong
           {"\xF4\x90\x80\x80", {r, r, r, r}},  // past U+10FFFF
           {"\xF5\x80", {r, r}},
       }) {
    EXPECT_EQ(decode_utf8(c.bytes), c.decoded);
    EXPECT_FALSE(is_valid_utf8(c.bytes));
  }
  EXPECT_TRUE(is_valid_utf8("\xEF\xBF\xBD"));  // a real U+FFFD
  EXPECT_TRUE(is_valid_utf8(""));
}

}  // namespace
}  // namespace duet::train::unicode
