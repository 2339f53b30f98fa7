#include "duet/core/json.h"

#include <set>

#include "duet/core/file.h"

namespace duet {

Json parse_json(std::string_view text, const std::string& source) {
  std::vector<std::set<std::string>> open_objects;
  const auto refuse_duplicates = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start)
      check(depth < 100, "json", source, ": nested deeper than 100 levels");
    if (event == Json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == Json::parse_event_t::object_end) open_objects.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto key = parsed.get<std::string>();
      check(open_objects.back().insert(key).second, "json", source, ": key \"", key, "\" occurs twice in one object");
    }
    return true;
  };
  // The library takes a zero byte for the end of the text and would not look at what follows.
  const size_t zero = text.find('\0');
  check(zero == std::string_view::npos, "json", source, " is not valid JSON: zero byte at position ", zero);
  try {
    return Json::parse(text.begin(), text.end(), refuse_duplicates);
  } catch (const nlohmann::json::exception& e) {
    fail("json", source, " is not valid JSON: ", e.what());
  }
}

Json read_json(const std::string& path) {
  return parse_json(read_file(path), path);
}

}  // namespace duet
