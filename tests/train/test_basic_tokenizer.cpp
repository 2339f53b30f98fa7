#include "duet/train/basic_tokenizer.h"

#include <gtest/gtest.h>

#include "duet/core/error.h"

namespace duet::train {
namespace {

// The fast reference knows Unicode 8; what is newer, or was reclassified since, is a letter to it or what it was.
TEST(BasicTokenizer, FastSemanticsHaveTheCategoriesOfUnicode8) {
  const auto words = [](const char* text, Semantics semantics) {
    BasicTokenizerOptions options;
    options.semantics = semantics;
    return basic_tokenize(text, options);
  };
  using Words = std::vector<std::string>;
  struct Case {
    const char* text;
    Words fast, slow;
  };
  for (const auto& [text, fast, slow] : {
           Case{"a\u0898b", {"a\u0898b"}, {"ab"}},                  // Mn since 14
           Case{"a\u061Db", {"a\u061Db"}, {"a", "\u061D", "b"}},    // Po since 14
           Case{"a\u0890b", {"a\u0890b"}, {"ab"}},                  // Cf since 14
           Case{"a\u166Db", {"a", "\u166D", "b"}, {"a\u166Db"}},    // was Po, is So
           Case{"a\u1734b", {"ab"}, {"a\u1734b"}},                  // was Mn, is Mc
           Case{"a\u1885b", {"a\u1885b"}, {"ab"}},                  // was Lo, is Mn
           Case{"a\U000111C9b", {"a", "\U000111C9", "b"}, {"ab"}},  // was Po, is Mn
           Case{"a\u0301b", {"ab"}, {"ab"}},
       }) {
    EXPECT_EQ(words(text, Semantics::fast), fast) << text;
    EXPECT_EQ(words(text, Semantics::slow), slow) << text;
  }
}

using Words = std::vector<std::string>;

// Words joined by single spaces.
std::string split(std::string_view text, const BasicTokenizerOptions& options = {}) {
  std::string out = "left over from the last text";
  basic_tokenize(text, options, out);
  return out;
}

TEST(BasicTokenizer, AgreesWithBothReferencesOnTheirTable) {
  struct Case {
    std::string input, words, slow = "";  // slow: unless empty, what the slow reference gives instead
  };
  using namespace std::string_literals;
  for (const Case& c : std::vector<Case>{
           {"UNwant\u00E9d,running", "unwanted , running"},
           {" \tHeLLo!how  \n Are yoU?  ", "hello ! how are you ?"},
           {"a\n'll !!to?'d of, can't.", "a ' ll ! ! to ? ' d of , can ' t ."},
           {"ah\u535A\u63A8zz", "ah \u535A \u63A8 zz"},
           {"\u00AD", ""},
           {"a\u00ADb", "ab"},
           {"a\u200Bb", "ab"},
           {"x\u200Dy", "xy"},
           {"\u00A0a\u3000b\u2028c\u000Bd\u0085e"s, "a b cde"},
           {"\uFFFDa\0b\uFEFFc"s, "abc"},
           {"$1,000.50 (50%)", "$ 1 , 000 . 50 ( 50 % )"},
           {"\u00BFQu\u00E9? \u00A1No!", "\u00BF que ? \u00A1 no !"},
           {"\u201Cquote\u201D\u2014dash\u2026", "\u201C quote \u201D \u2014 dash \u2026"},
           {"\u00B7\u2022\u20AC\u00A3\u00D7", "\u00B7 \u2022 \u20AC\u00A3\u00D7"},
           {"foo_bar", "foo _ bar"},
           {"e-mail@x.y", "e - mail @ x . y"},
           {"\u0130stanbul", "istanbul"},
           {"stra\u00DFe \u1E9E", "stra\u00DFe \u00DF"},
           {"\u039F\u0394\u039F\u03A3", "\u03BF\u03B4\u03BF\u03C3"},
           {"\uD55C", "\u1112\u1161\u11AB"},
           {"\u0939\u093F\u0928\u094D\u0926\u0940", "\u0939\u093F\u0928\u0926\u0940"},
           {"\uFB01ne \u2460 \u00BD \u2122", "\uFB01ne \u2460 \u00BD \u2122"},
           {"\U0001F600ok", "\U0001F600ok"},
           {"\u0378z", "\u0378z", "z"},
           {"\U0002B820x", "\U0002B820x", "\U0002B820 x"},
           {"\U0002B920x", "\U0002B920 x"},
       }) {
    EXPECT_EQ(split(c.input), c.words) << c.input;
    EXPECT_EQ(split(c.input, {.semantics = Semantics::slow}), c.slow.empty() ? c.words : c.slow) << c.input;
  }
}

TEST(BasicTokenizer, SlowComposesAccentsThatAreKept) {
  const BasicTokenizerOptions cased{.lowercase = false, .semantics = Semantics::slow};
  EXPECT_EQ(split("e\u0301", cased), "\u00E9");
  EXPECT_EQ(split("\u1100\u1161\u11A8", cased), "\uAC01");
  EXPECT_EQ(split("a\u037Eb", cased), "a ; b");
  EXPECT_EQ(split("\u0130", {.lowercase = true, .strip_accents = false, .semantics = Semantics::slow}), "i\u0307");
  EXPECT_EQ(split("E\u0301", {.lowercase = false, .strip_accents = true, .semantics = Semantics::slow}), "E");
}

TEST(BasicTokenizer, UncleanedTextKeepsControlCharacters) {
  const BasicTokenizerOptions raw{.lowercase = false, .clean_text = false};
  EXPECT_EQ(split("a\u00ADb", raw), "a\u00ADb");
  EXPECT_EQ(split("a\u000Bb\u0085c d", raw), "a b c d");  // white space all the same
  EXPECT_EQ(split("a\x01z", raw), "a\x01z");
  EXPECT_EQ(split("\uFFFD", raw), "\uFFFD");
}

TEST(BasicTokenizer, NormalisedTextKnowsWhereItCameFrom) {
  std::vector<uint32_t> source;
  EXPECT_EQ(normalize("\u00ADN\u00E1\u4E2D", {}, &source), U"na \u4E2D ");
  EXPECT_EQ(source, (std::vector<uint32_t>{1, 2, 3, 3, 3}));
  EXPECT_EQ(normalize("a\u0130b", {.strip_accents = false}, &source), U"ai\u0307b");
  EXPECT_EQ(source, (std::vector<uint32_t>{0, 1, 1, 2}));
  EXPECT_THROW(normalize("a", {.semantics = Semantics::slow}, &source), Error);
}

TEST(BasicTokenizer, EveryBlockOfIdeographsStandsAlone) {
  for (const char* c : {"\u3400", "\u4DBF", "\u4E00", "\u9FFF", "\U00020000", "\U0002A6DF", "\U0002A700", "\U0002B740"})
    EXPECT_EQ(split("a" + std::string(c) + "b"), "a " + std::string(c) + " b");
  // Decomposed to an ordinary ideograph after it was set apart.
  EXPECT_EQ(split("a\uF900b"), "a \u8C48 b");
  // Kana, Hangul and Thai are ordinary letters.
  EXPECT_EQ(split("\u30AB\u3042"), "\u30AB\u3042");
  EXPECT_EQ(split("\u0E01\u0E02"), "\u0E01\u0E02");
  EXPECT_EQ(split("ah\u535A\u63A8zz", {.tokenize_chinese_chars = false}), "ah\u535A\u63A8zz");
}

TEST(BasicTokenizer, CasedKeepsCaseAndAccents) {
  const BasicTokenizerOptions cased{.lowercase = false};
  EXPECT_EQ(split("UNwant\u00E9d, Running!", cased), "UNwant\u00E9d , Running !");
  EXPECT_EQ(split("e\u0301", cased), "e\u0301");  // no composition either
  EXPECT_EQ(split("\u00C9t\u00C9", {.lowercase = false, .strip_accents = true}), "EtE");
  EXPECT_EQ(split("\u00C9t\u00C9", {.lowercase = true, .strip_accents = false}), "\u00E9t\u00E9");
  EXPECT_EQ(split("\u0130", {.lowercase = true, .strip_accents = false}), "i\u0307");
}

// Pure ASCII takes a faster path: it must say the same as the general one, which a trailing ideograph forces.
TEST(BasicTokenizer, AsciiPathEqualsTheGeneralOne) {
  for (const bool lowercase : {true, false})
    for (int first = 0; first < 128; ++first)
      for (int second = 0; second < 128; ++second) {
        const std::string text{'a', static_cast<char>(first), static_cast<char>(second), 'B'};
        std::string general = split(text + "\u4E00", {.lowercase = lowercase});
        general.resize(general.size() - 4);
        ASSERT_EQ(split(text, {.lowercase = lowercase}), general) << first << ' ' << second;
      }
}

TEST(BasicTokenizer, InvalidBytesDisappear) {
  EXPECT_EQ(split("caf\xE9 au\xFF lait"), "caf au lait");
  EXPECT_EQ(split("\xED\xA0\x80x"), "x");
  EXPECT_EQ(split("\xE2\x82"), "");
}

TEST(BasicTokenizer, BothFormsAgree) {
  EXPECT_EQ(basic_tokenize("A cat, a dog."), (Words{"a", "cat", ",", "a", "dog", "."}));
  EXPECT_EQ(basic_tokenize(""), Words{});
  EXPECT_EQ(basic_tokenize(" \n\t"), Words{});
  EXPECT_TRUE(is_own_word(U'$', {}));
  EXPECT_TRUE(is_own_word(0x2014, {}));
  EXPECT_TRUE(is_own_word(0x4E00, {}));
  EXPECT_FALSE(is_own_word(0x4E00, {.tokenize_chinese_chars = false}));
  EXPECT_FALSE(is_own_word(0x20AC, {}));
}

}  // namespace
}  // namespace duet::train
