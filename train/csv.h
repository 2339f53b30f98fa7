#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace duet::train {

// Reads comma-separated values as RFC 4180 describes them, or the same with another delimiter: a field that begins with
// a quotation mark ends at the next single one, "" inside stands for one, and it may hold delimiters and line ends.
// Lines end in LF or CRLF; empty ones are passed over, as is a byte order mark at the start.
class CsvReader {
 public:
  // `source` names the input in errors. Without `quotes`, quotation marks are characters like any other.
  CsvReader(std::string bytes, char delimiter, std::string source, bool quotes = true);

  // The next record, or false at the end. Throws Error naming the line for an unfinished quotation or text after one;
  // reading may then go on with the line after the one where the record began.
  bool next(std::vector<std::string>& fields);

  size_t line() const { return line_; }  // where the last record began, from 1
  std::string where() const;             // "pets.csv line 7"

 private:
  std::string take_field(size_t& at, size_t& lines);

  std::string bytes_, source_;
  char delimiter_;
  bool quotes_;
  size_t at_ = 0, line_ = 0, next_line_ = 1;
};

}  // namespace duet::train
