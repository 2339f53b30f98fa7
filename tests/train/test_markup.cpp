#include "duet/train/markup.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace duet::train {
namespace {

using Cases = std::vector<std::pair<std::string, std::string>>;

// The expected values of this file are Python's: html.unescape, decode(errors="replace").
TEST(HtmlUnescape, NamedReferences) {
  for (const auto& [text, expected] : Cases{{"&eacute;&AMP;&lt;", "é&<"},
                                            {"&eacutex&copy", "éx©"},              // no semicolon needed for old names
                                            {"&notit; &notin; &not", "¬it; ∉ ¬"},  // the longest known name
                                            {"&nvlt;", "<\u20D2"},                 // two code points
                                            {"&amp;Atilde;", "&Atilde;"},          // once, not twice
                                            {"&zigrarr &zigrarr;", "&zigrarr ⇝"},
                                            {"&CounterClockwiseContourIntegral;", "∳"},  // the longest name
                                            {"&nosuchthing; & &; &a; a&b", "&nosuchthing; & &; &a; a&b"},
                                            {"&&lt;&", "&<&"},
                                            {"&éamp;", "&éamp;"},
                                            {"", ""}})
    EXPECT_EQ(html_unescape(text), expected) << text;
}

TEST(HtmlUnescape, NumericReferences) {
  for (const auto& [text, expected] :
       Cases{{"&#233;&#xE9;&#XE9&#233 ", "éééé "},
             {"&#128;&#x99;&#150;", "€™–"},  // Windows-1252
             {"&#129;", "\u0081"},           // empty there
             {"&#0;&#xD800;&#1114112;&#99999999999999999999;", "\uFFFD\uFFFD\uFFFD\uFFFD"},
             {"a&#1;b&#xFFFE;c&#127;d&#11;e", "abcde"},  // no characters
             {"&#13;&#10;", "\r\n"},
             {"&#; &#x; &#xg; &#a;", "&#; &#x; &#xg; &#a;"},
             {"&#x1F600;", "\U0001F600"}})
    EXPECT_EQ(html_unescape(text), expected) << text;
}

TEST(HtmlUnescape, LooksAtNoMoreThan32Characters) {
  const std::string tail(40, 'x');
  EXPECT_EQ(html_unescape("&copy" + tail), "©" + tail);
  // The window of 32 ends before the semicolon that would complete the next reference's start.
  EXPECT_EQ(html_unescape("&" + std::string(32, 'z') + "&lt;"), "&" + std::string(32, 'z') + "<");
}

TEST(ReplaceInvalidUtf8, OneForEachMaximalPart) {
  for (const auto& [bytes, expected] : Cases{{"a\xE2\x82"
                                              "b",
                                              "a\uFFFDb"},
                                             {"\xF0\x9F\x98", "\uFFFD"},
                                             {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
                                             {"\xC0\xAF", "\uFFFD\uFFFD"},
                                             {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
                                             {"\xF0\x80\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
                                             {"\xF5\x80", "\uFFFD\uFFFD"},
                                             {"\xE2\x82\xAC\xFF\xE2(", "€\uFFFD\uFFFD("},
                                             {"héllo \U0001F600", "héllo \U0001F600"}})
    EXPECT_EQ(replace_invalid_utf8(bytes), expected);
}

TEST(RepairUtf8, OnlyWhenTheResultIsValid) {
  EXPECT_EQ(repair_utf8_read_as_latin1("L\u00C3\u00A9zard"), "Lézard");
  EXPECT_EQ(repair_utf8_read_as_latin1("Lézard"), "Lézard");                            // E9 alone is no UTF-8
  EXPECT_EQ(repair_utf8_read_as_latin1("\u00C3\u00A9 \u20AC"), "\u00C3\u00A9 \u20AC");  // not all Latin-1
  EXPECT_EQ(repair_utf8_read_as_latin1("plain"), "plain");
}

TEST(FoldWhiteSpace, AllOfUnicodes) {
  EXPECT_EQ(fold_white_space(" \t a\u00A0\u3000b\x1F\n c \u2028"), "a b c");
  EXPECT_EQ(fold_white_space(" \n"), "");
  EXPECT_EQ(fold_white_space("a\u200Bb"), "a\u200Bb");  // a zero-width space is none
}

}  // namespace
}  // namespace duet::train
