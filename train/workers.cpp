#include "duet/train/workers.h"

#include <charconv>
#include <istream>
#include <ostream>

namespace duet::train {

void to_json(Json& json, const Workers& workers) {
  if (workers.count)
    json = *workers.count;
  else
    json = "auto";
}

void from_json(const Json& json, Workers& workers) {
  if (json == "auto") {
    workers.count.reset();
    return;
  }
  // The library would also take true or a fraction for a whole number.
  workers.count = json_get<int>(Json{{"workers", json}}, "workers", 0);
}

std::ostream& operator<<(std::ostream& out, const Workers& workers) {
  return workers.count ? out << *workers.count : out << "auto";
}

std::istream& operator>>(std::istream& in, Workers& workers) {
  std::string word;
  in >> word;
  int count = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), count);
  if (word == "auto")
    workers.count.reset();
  else if (error == std::errc() && end == word.data() + word.size())
    workers.count = count;
  else
    in.setstate(std::ios::failbit);
  return in;
}

}  // namespace duet::train
