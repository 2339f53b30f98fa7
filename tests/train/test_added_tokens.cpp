#include "duet/train/added_tokens.h"

#include <gtest/gtest.h>

#include "duet/core/error.h"

namespace duet::train {
namespace {

// The parts as text, tokens in angle brackets.
std::string split(const std::vector<AddedToken>& tokens, std::string_view text) {
  AddedTokenMatcher matcher;
  for (size_t i = 0; i < tokens.size(); ++i) matcher.add(tokens[i].content, tokens[i], static_cast<int32_t>(i));
  std::string out;
  for (const auto& part : matcher.split(text)) {
    const std::string piece(text.substr(part.begin, part.end - part.begin));
    out += part.id < 0 ? "|" + piece : "|" + std::to_string(part.id) + "<" + piece + ">";
  }
  return out;
}

// The expected results are those of Hugging Face tokenizers 0.23.3.
TEST(AddedTokens, LeftmostThenLongest) {
  EXPECT_EQ(split({{"ab"}, {"abcd"}, {"bcde"}}, "xabcdeab"), "|x|1<abcd>|e|0<ab>");
  EXPECT_EQ(split({{"ab"}, {"abcd"}}, "abc"), "|0<ab>|c");
  EXPECT_EQ(split({{"aa"}}, "aaaaa"), "|0<aa>|0<aa>|a");
  EXPECT_EQ(split({{"a"}}, ""), "");
  EXPECT_EQ(split({}, "abc"), "|abc");
}

TEST(AddedTokens, StrippingTakesWhiteSpace) {
  const std::vector<AddedToken> both{{.content = "tok", .lstrip = true, .rstrip = true}};
  EXPECT_EQ(split(both, "a  tok  b"), "|a|0<  tok  >|b");
  EXPECT_EQ(split(both, "a tok  tok b"), "|a|0< tok  >|0<tok >|b");
  EXPECT_EQ(split(both, "a\u000Btok\u00A0\u2028b"), "|a|0<\u000Btok\u00A0\u2028>|b");
  EXPECT_EQ(split(both, "tok"), "|0<tok>");
  EXPECT_EQ(split({{.content = "t", .lstrip = true}}, " t "), "|0< t>| ");
  EXPECT_EQ(split({{.content = "t", .rstrip = true}}, " t "), "| |0<t >");
  // A token that itself begins with a space that the last one took.
  EXPECT_EQ(split({{.content = "r", .rstrip = true}, {.content = " q"}}, "ar q b"), "|a|0<r >|1< q>| b");
}

TEST(AddedTokens, SingleWordsStandAlone) {
  const std::vector<AddedToken> tokens{{.content = "tok", .single_word = true}, {.content = "tokk"}};
  EXPECT_EQ(split(tokens, "a tok b"), "|a |0<tok>| b");
  EXPECT_EQ(split(tokens, "(tok)"), "|(|0<tok>|)");
  for (const char* text : {"atok", "tokb", "tok_", "tok7", "tok\u0301", "\u200Dtok", "\u00E9tok"})
    EXPECT_EQ(split(tokens, text), std::string("|") + text);
  EXPECT_EQ(split(tokens, "toktok tok"), "|toktok |0<tok>");  // a match that is turned down is passed over
  EXPECT_EQ(split(tokens, "tokk"), "|1<tokk>");
}

TEST(AddedTokens, EmptyAndHugePatternsAreRefused) {
  AddedTokenMatcher matcher;
  EXPECT_THROW(matcher.add("", {"x"}, 0), Error);
  EXPECT_THROW(matcher.add(std::string(5000, 'a'), {"x"}, 0), Error);
}

}  // namespace
}  // namespace duet::train
