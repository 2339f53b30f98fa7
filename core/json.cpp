#include "duet/core/json.h"

#include <set>

#include "duet/core/file.h"

namespace duet {
namespace {

template <class J>
J parse(std::string_view text, const std::string& source) {
  using Event = typename J::parse_event_t;
  std::vector<std::set<std::string>> open_objects;
  const auto refuse_duplicates = [&](int depth, Event event, J& parsed) {
    if (event == Event::object_start || event == Event::array_start)
      check(depth < 100, "json", source, ": nested deeper than 100 levels");
    if (event == Event::object_start) open_objects.emplace_back();
    if (event == Event::object_end) open_objects.pop_back();
    if (event == Event::key) {
      const auto key = parsed.template get<std::string>();
      check(open_objects.back().insert(key).second, "json", source, ": key \"", key, "\" occurs twice in one object");
    }
    return true;
  };
  // The library takes a zero byte for the end of the text and would not look at what follows.
  const size_t zero = text.find('\0');
  check(zero == std::string_view::npos, "json", source, " is not valid JSON: zero byte at position ", zero);
  try {
    return J::parse(text.begin(), text.end(), refuse_duplicates);
  } catch (const nlohmann::json::exception& e) {
    fail("json", source, " is not valid JSON: ", e.what());
  }
}

}  // namespace

Json parse_json(std::string_view text, const std::string& source) {
  return parse<Json>(text, source);
}

nlohmann::json parse_json_sorted(std::string_view text, const std::string& source) {
  return parse<nlohmann::json>(text, source);
}

Json read_json(const std::string& path) {
  return parse_json(read_file(path), path);
}

}  // namespace duet
