#include "duet/train/csv.h"

#include <gtest/gtest.h>

#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

using Records = std::vector<std::vector<std::string>>;

Records read_all(const std::string& bytes, char delimiter = ',', bool quotes = true) {
  CsvReader reader(bytes, delimiter, "pets.csv", quotes);
  Records records;
  for (std::vector<std::string> fields; reader.next(fields);) records.push_back(fields);
  return records;
}

TEST(Csv, ReadsRecords) {
  EXPECT_EQ(read_all("a,b\n1,2\n"), (Records{{"a", "b"}, {"1", "2"}}));
  EXPECT_EQ(read_all("a,b\r\n1,\r\n,"), (Records{{"a", "b"}, {"1", ""}, {"", ""}}));  // CRLF, no end at the last
  EXPECT_EQ(read_all("\xEF\xBB\xBF"
                     "a,b"),
            (Records{{"a", "b"}}));                                      // byte order mark
  EXPECT_EQ(read_all("\r\n\na\n\n\r\nb\n\n"), (Records{{"a"}, {"b"}}));  // empty lines
  EXPECT_EQ(read_all("a;b c;d", ';'), (Records{{"a", "b c", "d"}}));
  EXPECT_EQ(read_all(""), Records{});
}

TEST(Csv, ReadsQuotations) {
  EXPECT_EQ(read_all("\"a,b\",\"c \"\"d\"\"\",\"\"\n"), (Records{{"a,b", "c \"d\"", ""}}));
  EXPECT_EQ(read_all("\"two\r\nlines\",x\r\ny,z"), (Records{{"two\r\nlines", "x"}, {"y", "z"}}));
  EXPECT_EQ(read_all("5\" nails,b"), (Records{{"5\" nails", "b"}}));  // not at the start of the field
  EXPECT_EQ(read_all("\"a\tb\n", '\t', false), (Records{{"\"a", "b"}}));
}

TEST(Csv, CountsLinesAndGoesOnAfterErrors) {
  CsvReader reader("a\n\"1\n2\"\n\n\"x\" y\nb\n\"never\nc\n", ',', "pets.csv");
  std::vector<std::string> fields;
  const auto line_of_next = [&] { return reader.next(fields) ? reader.line() : 0; };
  EXPECT_EQ(line_of_next(), 1u);
  EXPECT_EQ(line_of_next(), 2u);
  EXPECT_EQ(fields[0], "1\n2");
  std::string message = message_of([&] { reader.next(fields); });
  EXPECT_CONTAINS(message, "pets.csv line 5");
  EXPECT_CONTAINS(message, "text follows a closing quotation mark");
  EXPECT_EQ(line_of_next(), 6u);
  EXPECT_EQ(fields[0], "b");
  message = message_of([&] { reader.next(fields); });
  EXPECT_CONTAINS(message, "pets.csv line 7");
  EXPECT_CONTAINS(message, "never ends");
  EXPECT_EQ(line_of_next(), 8u);
  EXPECT_EQ(fields[0], "c");
  EXPECT_EQ(line_of_next(), 0u);
}

TEST(Csv, RefusesUtf16) {
  EXPECT_CONTAINS(message_of([] {
                    CsvReader(std::string("\xFF\xFE"
                                          "a\0",
                                          4),
                              ',', "pets.csv");
                  }),
                  "UTF-16");
}

}  // namespace
}  // namespace duet::train
