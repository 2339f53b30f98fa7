#include "duet/train/csv.h"

#include <algorithm>

#include "duet/core/error.h"

namespace duet::train {

CsvReader::CsvReader(std::string bytes, char delimiter, std::string source, bool quotes)
    : bytes_(std::move(bytes)), source_(std::move(source)), delimiter_(delimiter), quotes_(quotes) {
  check(!bytes_.starts_with("\xFF\xFE") && !bytes_.starts_with("\xFE\xFF"), "csv", source_,
        " is UTF-16; save it as UTF-8");
  if (bytes_.starts_with("\xEF\xBB\xBF")) at_ = 3;
}

std::string CsvReader::where() const {
  return text(source_, " line ", line_);
}

// Takes one field and leaves `at` on what ends it: the delimiter, the line's end or the end of input.
std::string CsvReader::take_field(size_t& at, size_t& lines) {
  const auto ends_field = [&](size_t i) {
    return i == bytes_.size() || bytes_[i] == delimiter_ || bytes_[i] == '\n' || bytes_.compare(i, 2, "\r\n") == 0;
  };
  std::string field;
  if (!quotes_ || at == bytes_.size() || bytes_[at] != '"') {
    while (!ends_field(at)) field += bytes_[at++];
    return field;
  }
  for (++at;; ++at) {
    check(at < bytes_.size(), "csv", where(), ": a quotation that begins here never ends");
    if (bytes_[at] == '"') {
      if (bytes_.compare(at, 2, "\"\"") != 0) break;
      ++at;
    }
    lines += bytes_[at] == '\n';
    field += bytes_[at];
  }
  ++at;
  check(ends_field(at), "csv", where(),
        ": text follows a closing quotation mark; write a mark inside a quoted field as ",
        "\"\", or say --no-quotes when marks have no meaning in this file");
  return field;
}

bool CsvReader::next(std::vector<std::string>& fields) {
  fields.clear();
  for (;; ++next_line_, ++at_) {
    if (bytes_.compare(at_, 2, "\r\n") == 0) ++at_;
    if (at_ >= bytes_.size()) return false;
    if (bytes_[at_] != '\n') break;
  }
  line_ = next_line_;
  size_t at = at_, lines = 0;
  // Should a field throw, reading goes on after this line.
  at_ = std::min(bytes_.find('\n', at_), bytes_.size() - 1) + 1;
  ++next_line_;
  for (;;) {
    fields.push_back(take_field(at, lines));
    if (at == bytes_.size() || bytes_[at] != delimiter_) break;
    ++at;
  }
  if (at < bytes_.size() && bytes_[at] == '\r') ++at;
  at_ = std::min(at + 1, bytes_.size());
  next_line_ += lines;
  return true;
}

}  // namespace duet::train
